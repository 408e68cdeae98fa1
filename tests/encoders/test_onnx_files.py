"""ONNX files of every layout, worked out by hand; what is not known of a file is asked for, never guessed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from conftest import make_picture
from patchwise import Gallery
from patchwise.encoders import Encoder, EncoderSpec, encoder_record, load_encoder
from patchwise.encoders.external_data import external_files
from patchwise.encoders.onnx_files import OnnxEncoder
from patchwise.encoders.onnx_network import PictureInput
from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.whitening import normalised
from patchwise.errors import EncoderError

from .fake_hub import COMMIT, lay_out

onnx = pytest.importorskip("onnx")
helper, TensorProto = onnx.helper, onnx.TensorProto

SIDE = 4
MEAN, STD = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)
COLOURS = ",mean=0.5/0.25/0.0,std=0.5/0.25/1.0"
TOLD = f"{COLOURS},resampling=bilinear"
LUMA = np.array([0.299, 0.587, 0.114])

Shape = Sequence[int | str]


def write(
    path: Path,
    shape: Shape,
    nodes: Sequence[Any],
    outputs: dict[str, Shape],
    *,
    kind: int = TensorProto.FLOAT,
    constants: dict[str, npt.NDArray[Any]] | None = None,
    inputs: dict[str, Shape] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """An ONNX file with the input `pictures`."""
    given = [helper.make_tensor_value_info("pictures", kind, shape)]
    given += [helper.make_tensor_value_info(name, TensorProto.INT64, own) for name, own in (inputs or {}).items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, own) for name, own in outputs.items()]
    held = [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    model = helper.make_model(
        helper.make_graph(nodes, "by hand", given, made, held),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.helper.set_model_props(model, metadata or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path))
    return path


def quarters(path: Path, shape: Shape = ("n", 3, SIDE, SIDE), kind: int = TensorProto.FLOAT, **more: Any) -> Path:
    """The means over the four quarters of a 4 x 4 picture, of each channel: (N, 4 * channels), named `vector`."""
    nodes, last = [], "pictures"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [last], ["float"], to=TensorProto.FLOAT))
        last = "float"
    if shape[1] == SIDE:
        nodes.append(helper.make_node("Transpose", [last], ["channels first"], perm=[0, 3, 1, 2]))
        last = "channels first"
    nodes.append(helper.make_node("AveragePool", [last], ["means"], kernel_shape=[2, 2], strides=[2, 2]))
    nodes.append(helper.make_node("Flatten", ["means"], ["vector"]))
    return write(path, shape, nodes, {"vector": ("m", "d")}, kind=kind, **more)


def pixels(count: int, side: int = SIDE) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def as_quarters(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """(N, 4, 4, C) to what `quarters` gives, of unit length."""
    blocks = values.reshape(len(values), 2, 2, 2, 2, values.size // max(16 * len(values), 1))
    means = blocks.mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(len(values), blocks.shape[-1] * 4 or 12)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def in_floats(given: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    return (given / 255 - MEAN) / STD


def load(path: Path, options: str = TOLD) -> Encoder:
    return load_encoder(f"onnx:{path}{options}", device="cpu")


def complaint(path: Path, options: str = TOLD) -> str:
    """The error that loading ends with: one line that names the file."""
    with pytest.raises(EncoderError) as caught:
        load(path, options)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


def test_a_white_picture(tmp_path: Path) -> None:
    """(1 - .5) / .5, (1 - .25) / .25 and (1 - 0) / 1, in each quarter."""
    encoder = load(quarters(tmp_path / "net.onnx"))
    assert (encoder.dimension, encoder.input_size, encoder.resampling) == (12, SIDE, "bilinear")
    white = np.full((1, SIDE, SIDE, 3), 255, dtype=np.uint8)
    expected = np.repeat([1.0, 3.0, 1.0], 4) / np.sqrt(44)
    np.testing.assert_allclose(encoder.encode(white), [expected], rtol=1e-6)
    assert encoder.encode(white).dtype == np.float32


@pytest.mark.parametrize("count", [0, 1, 3, 17])
@pytest.mark.parametrize(
    ("shape", "kind", "tolerance"),
    [
        (("n", 3, SIDE, SIDE), TensorProto.FLOAT, 1e-6),
        (("n", "c", "h", "w"), TensorProto.FLOAT, 1e-6),
        ((1, 3, SIDE, SIDE), TensorProto.FLOAT, 1e-6),
        ((5, 3, SIDE, SIDE), TensorProto.FLOAT, 1e-6),
        (("n", SIDE, SIDE, 3), TensorProto.FLOAT, 1e-6),
        ((1, SIDE, SIDE, 3), TensorProto.FLOAT, 1e-6),
        (("n", 3, SIDE, SIDE), TensorProto.FLOAT16, 1e-3),
    ],
    ids=str,
)
def test_layouts_that_take_floats(count: int, shape: Shape, kind: int, tolerance: float, tmp_path: Path) -> None:
    encoder = load(quarters(tmp_path / "net.onnx", shape, kind), f"{TOLD},size={SIDE}")
    found = encoder.encode(pixels(count))
    assert found.shape == (count, 12)
    np.testing.assert_allclose(found, as_quarters(in_floats(pixels(count))), atol=tolerance)


@pytest.mark.parametrize("shape", [("n", 3, SIDE, SIDE), ("n", SIDE, SIDE, 3), (1, SIDE, SIDE, 3)], ids=str)
def test_layouts_that_take_bytes_get_them_as_they_are(shape: Shape, tmp_path: Path) -> None:
    path = quarters(tmp_path / "net.onnx", shape, TensorProto.UINT8)
    found = load(path, ",resampling=bicubic").encode(pixels(3))
    np.testing.assert_allclose(found, as_quarters(pixels(3).astype(float)), atol=1e-6)
    assert "takes pixels as they are; leave mean and std out" in complaint(path)


@pytest.mark.parametrize("shape", [("n", 1, SIDE, SIDE), (1, SIDE, SIDE, 1)], ids=str)
def test_one_channel_is_the_luma_of_the_colours(shape: Shape, tmp_path: Path) -> None:
    encoder = load(quarters(tmp_path / "net.onnx", shape))
    np.testing.assert_allclose(encoder.encode(pixels(5)), as_quarters(in_floats(pixels(5)) @ LUMA), atol=1e-6)
    encoder = load(quarters(tmp_path / "bytes.onnx", shape, TensorProto.UINT8), ",resampling=bilinear")
    np.testing.assert_allclose(encoder.encode(pixels(5)), as_quarters(np.rint(pixels(5) @ LUMA)), atol=1e-6)


def feature_maps(path: Path, shape: Shape, name: str = "maps") -> Path:
    """The picture as it comes in, as a feature map."""
    return write(path, shape, [helper.make_node("Identity", ["pictures"], [name])], {name: shape})


@pytest.mark.parametrize("shape", [("n", 3, SIDE, SIDE), ("n", SIDE, SIDE, 3)], ids=str)
@pytest.mark.parametrize("pooling", ["", ",pooling=mean"])
def test_feature_maps_are_averaged_over_the_picture(shape: Shape, pooling: str, tmp_path: Path) -> None:
    encoder = load(feature_maps(tmp_path / "net.onnx", shape), TOLD + pooling)
    expected = in_floats(pixels(3)).mean(axis=(1, 2))
    np.testing.assert_allclose(encoder.encode(pixels(3)), normalised(expected.astype(np.float32)), atol=1e-6)


def sequence(path: Path, name: str = "last_hidden_state", more: str = "") -> Path:
    """Every row of the first channel as a token: (N, 4, 4); and, if asked for, the third channel as one vector."""
    constants = {"starts": np.array([0]), "ends": np.array([1]), "axis": np.array([1]), "none": np.array([-1, 4, 4])}
    nodes = [
        helper.make_node("Slice", ["pictures", "starts", "ends", "axis"], ["red"]),
        helper.make_node("Reshape", ["red", "none"], [name]),
    ]
    outputs: dict[str, Shape] = {name: ("n", 4, 4)}
    if more:
        constants |= {"from": np.array([2]), "to": np.array([3])}
        nodes.append(helper.make_node("Slice", ["pictures", "from", "to", "axis"], ["blue"]))
        nodes.append(helper.make_node("Flatten", ["blue"], [more]))
        outputs[more] = ("n", 16)
    return write(path, ("n", 3, SIDE, SIDE), nodes, outputs, constants=constants)


def test_sequences_by_their_first_vector_or_their_mean_as_asked(tmp_path: Path) -> None:
    path = sequence(tmp_path / "net.onnx")
    tokens = in_floats(pixels(3))[..., 0].astype(np.float32)
    np.testing.assert_allclose(load(path, f"{TOLD},pooling=cls").encode(pixels(3)), normalised(tokens[:, 0]), atol=1e-6)
    mean = normalised(tokens.mean(axis=1))
    np.testing.assert_allclose(load(path, f"{TOLD},pooling=mean").encode(pixels(3)), mean, atol=1e-6)
    assert "its output last_hidden_state is 4 vectors for each picture; say which" in complaint(path)


def test_which_output_is_the_vector(tmp_path: Path) -> None:
    path = sequence(tmp_path / "net.onnx", more="pooler_output")
    tokens, blue = (in_floats(pixels(3))[..., channel].astype(np.float32) for channel in (0, 2))
    flat = normalised(blue.reshape(3, -1))
    for options in ("", ",pooling=pooler", ",output=pooler_output"):
        np.testing.assert_allclose(load(path, TOLD + options).encode(pixels(3)), flat, atol=1e-6)
    for options in (",pooling=cls", ",pooling=cls,output=last_hidden_state"):
        np.testing.assert_allclose(load(path, TOLD + options).encode(pixels(3)), normalised(tokens[:, 0]), atol=1e-6)
    assert "has no output 'other'; it has last_hidden_state, pooler_output" in complaint(path, f"{TOLD},output=other")
    path = sequence(tmp_path / "unusual.onnx", "tokens", "flat")
    for options in ("", ",pooling=projection"):
        assert "has the outputs tokens, flat; say which is the vector, as in ,output=" in complaint(
            path, TOLD + options
        )
    np.testing.assert_allclose(load(path, f"{TOLD},output=flat").encode(pixels(3)), flat, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (quarters, ",pooling=mean", "one vector for each picture already, of which pooling=mean has nothing to take"),
        (lambda path: feature_maps(path, ("n", 3, SIDE, SIDE)), ",pooling=cls", "feature maps, of which the mean is"),
        (quarters, ",size=8", "takes pictures of 4 x 4 only; leave size out"),
        (quarters, ",precision=fp16", "takes no option 'precision'"),
        (lambda path: quarters(path, ("n", 3, 4, 8)), "", "and not squares of one or three channels"),
        (lambda path: quarters(path, ("n", 7, 4, 4)), "", "and not squares of one or three channels"),
        (lambda path: quarters(path, inputs={"input_ids": ("n", "t")}), "", "needs input_ids besides pictures"),
    ],
)
def test_what_does_not_go_together(make: Callable[[Path], Path], options: str, message: str, tmp_path: Path) -> None:
    assert message in complaint(make(tmp_path / "net.onnx"), TOLD + options)


def test_a_network_without_pictures(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["pictures"], ["y"])]
    path = write(tmp_path / "net.onnx", ("n", 8), nodes, {"y": ("n", 8)})
    assert "takes pictures ['n', 8] tensor(float); one input is needed" in complaint(path)


def test_a_network_that_does_not_take_the_size(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    constants = {"shape": np.array([-1, 48])}
    nodes = [helper.make_node("Reshape", ["pictures", "shape"], ["vector"])]
    path = write(tmp_path / "net.onnx", ("n", 3, "h", "w"), nodes, {"vector": ("n", 48)}, constants=constants)
    assert load(path, f"{TOLD},size=4").dimension == 48
    assert "does not take 2 pictures of 5 x 5" in complaint(path, f"{TOLD},size=5")
    assert "its output vector is 8 vectors for 2 pictures" in complaint(path, f"{TOLD},size=8")
    assert capfd.readouterr() == ("", "")


# Preprocessing


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ("", "size=PIXELS, resampling=bilinear or bicubic, mean=R/G/B, std=R/G/B"),
        (",size=4", "resampling=bilinear or bicubic, mean=R/G/B, std=R/G/B"),
        (",size=4,resampling=bilinear,mean=0/0/0", "std=R/G/B"),
        (COLOURS, "size=PIXELS, resampling=bilinear or bicubic"),
    ],
)
def test_what_nobody_says_is_asked_for(options: str, missing: str, tmp_path: Path) -> None:
    path = quarters(tmp_path / "net.onnx", ("n", 3, "h", "w"))
    assert f": {missing} (colours" in complaint(path, options)


DINO = {
    "crop_size": {"height": 4, "width": 4},
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": list(MEAN),
    "image_std": list(STD),
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 5},
}
SIGLIP = {key: value for key, value in DINO.items() if "crop" not in key} | {"size": {"height": 4, "width": 4}}
CLIP_OF_OLD = {**DINO, "crop_size": 4, "size": 4, "rescale_factor": 1 / 255}


@pytest.mark.parametrize(
    ("told", "cropped"), [(DINO, "crop:5"), (SIGLIP, "crop:4"), (CLIP_OF_OLD, "crop:4")], ids=["dino", "siglip", "clip"]
)
@pytest.mark.parametrize("folder", ["", "onnx"])
def test_the_configuration_beside_the_file(told: dict[str, object], cropped: str, folder: str, tmp_path: Path) -> None:
    path = quarters(tmp_path / folder / "net.onnx", ("n", 3, "h", "w"))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    encoder = load(path, "")
    assert (encoder.input_size, encoder.resampling, str(encoder.fit)) == (4, "bicubic", "square")
    np.testing.assert_allclose(encoder.encode(pixels(3)), as_quarters(in_floats(pixels(3))), atol=1e-6)
    assert str(load(path, ",fit=crop").fit) == cropped
    assert str(load(path, ",fit=pad").fit) == "pad:128/64/0"
    assert load(path, ",resampling=bilinear").resampling == "bilinear"
    assert load(path, ",size=8").input_size == 8


def test_options_stand_above_the_configuration(tmp_path: Path) -> None:
    path = quarters(tmp_path / "net.onnx")
    bytes_in = {**SIGLIP, "do_rescale": False, "image_mean": [1, 2, 3], "image_std": [1, 2, 4]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(bytes_in))
    expected = as_quarters((pixels(3) - np.array([1.0, 2, 3])) / [1, 2, 4])
    np.testing.assert_allclose(load(path, "").encode(pixels(3)), expected, atol=1e-6)
    np.testing.assert_allclose(load(path, TOLD).encode(pixels(3)), as_quarters(in_floats(pixels(3))), atol=1e-6)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**SIGLIP, "do_normalize": False}))
    np.testing.assert_allclose(load(path, "").encode(pixels(3)), as_quarters(pixels(3) / 255), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not the configuration of a preprocessor"),
        ("[]", "not the configuration of a preprocessor"),
        (json.dumps({**DINO, "image_mean": [0.5]}), "expected red, green and blue, found [0.5]"),
        (json.dumps({**SIGLIP, "size": {"height": 4, "width": 5}}), "is not square"),
    ],
)
def test_a_configuration_that_makes_no_sense(text: str, message: str, tmp_path: Path) -> None:
    path = quarters(tmp_path / "net.onnx")
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(EncoderError, match=re.escape(message)) as caught:
        load(path, "")
    assert str(tmp_path / "preprocessor_config.json") in str(caught.value)


def test_a_filter_that_patchwise_does_not_have_is_asked_for(tmp_path: Path) -> None:
    path = quarters(tmp_path / "net.onnx")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**SIGLIP, "resample": 0}))
    assert ": resampling=bilinear or bicubic (colours" in complaint(path, "")


# Files


def test_a_folder_with_a_model_as_the_hub_has_them(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SIGLIP))
    assert "holds none of onnx/vision_model.onnx" in complaint(tmp_path, "")
    quarters(tmp_path / "onnx" / "model.onnx", (2, 3, SIDE, SIDE))
    assert load(tmp_path, "").id == f"onnx:{tmp_path}"
    whole = load(tmp_path, "").weights_sha256
    quarters(tmp_path / "onnx" / "vision_model.onnx")
    assert load(tmp_path, "").weights_sha256 != whole


def test_a_repository_of_the_hub_is_pinned_to_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    local = linear(tmp_path / "local" / "onnx" / "model.onnx", location="model.onnx_data").parent
    files = {f"onnx/{file.name}": file.read_bytes() for file in local.iterdir()}
    files["preprocessor_config.json"] = json.dumps(SIGLIP).encode()
    lay_out(tmp_path / "hub", "owner/name", files)
    encoder = load_encoder("onnx:owner/name", device="cpu")
    assert encoder.id == f"onnx:owner/name@{COMMIT}"
    assert load_encoder(encoder.id).weights_sha256 == encoder.weights_sha256
    (tmp_path / "local" / "preprocessor_config.json").write_bytes(files["preprocessor_config.json"])
    by_folder = load(tmp_path / "local", "")
    assert by_folder.weights_sha256 == encoder.weights_sha256
    np.testing.assert_array_equal(encoder.encode(pixels(3)), by_folder.encode(pixels(3)))
    files["onnx/vision_model.onnx"] = quarters(tmp_path / "vision.onnx").read_bytes()
    lay_out(tmp_path / "hub", "owner/two-towers", files)
    assert (encoder.dimension, load_encoder("onnx:owner/two-towers").dimension) == (7, 12)


@pytest.mark.parametrize("reference", ["nothing.onnx", "./nothing.onnx", "/nowhere/nothing.onnx"])
def test_a_missing_file(reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EncoderError, match=r"^/.*nothing.onnx: no such file"):
        load_encoder(f"onnx:{reference}")


@pytest.mark.parametrize("content", [b"", b"no network at all", b"\x08\x07" * 300])
def test_no_onnx_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    assert "onnxruntime cannot load it" in complaint(path)


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = quarters(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:150])
    assert "onnxruntime cannot load it" in complaint(path)


def linear(path: Path, seed: int = 0, **external: Any) -> Path:
    """A matrix after `Flatten`, large enough to be kept in a file of its own."""
    weight = np.random.default_rng(seed).normal(size=(48, 7)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pictures"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["vector"]),
    ]
    write(path, ("n", 3, SIDE, SIDE), nodes, {"vector": ("n", 7)}, constants={"weight": weight})
    if external:
        onnx.save_model(onnx.load(str(path)), str(path), save_as_external_data=True, size_threshold=0, **external)
    return path


def test_external_data_belongs_to_the_weights(tmp_path: Path) -> None:
    alone = linear(tmp_path / "alone.onnx")
    apart = linear(tmp_path / "apart.onnx", location="tensors.bin")
    assert external_files(alone) == []
    assert external_files(apart) == [tmp_path / "tensors.bin"]
    np.testing.assert_array_equal(load(apart).encode(pixels(3)), load(alone).encode(pixels(3)))
    before, vectors = load(apart), load(apart).encode(pixels(3))
    linear(tmp_path / "other.onnx", seed=1, location="other.bin")
    shutil.move(tmp_path / "other.bin", tmp_path / "tensors.bin")
    after = load(apart)
    assert not np.allclose(after.encode(pixels(3)), vectors)
    assert after.weights_sha256 != before.weights_sha256
    (tmp_path / "tensors.bin").unlink()
    assert "onnxruntime cannot load it" in complaint(apart)


def test_external_data_is_found_wherever_tensors_may_be(tmp_path: Path) -> None:
    def tensor(location: str) -> Any:
        made = onnx.numpy_helper.from_array(np.ones((2, 2), dtype=np.float32), location)
        onnx.external_data_helper.set_external_data(made, location)
        made.ClearField("raw_data")
        return made

    branches = [
        helper.make_graph(
            [helper.make_node("Constant", [], ["out"], value=tensor(location))],
            location,
            [],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, (2, 2))],
        )
        for location in ("then", "else")
    ]
    function = helper.make_function(
        "own", "Twice", [], ["y"], [helper.make_node("Constant", [], ["y"], value=tensor("function"))], []
    )
    nodes = [
        helper.make_node("Constant", [], ["a"], value=tensor("attribute")),
        helper.make_node("If", ["condition"], ["b"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Add", ["initializer", "folder/initializer"], ["c"]),
    ]
    graph = helper.make_graph(
        nodes, "all", [], [], [tensor("initializer"), tensor("folder/initializer"), tensor("initializer")]
    )
    model = helper.make_model(graph, functions=[function], producer_name="location")
    (tmp_path / "all.onnx").write_bytes(model.SerializeToString())
    names = ["attribute", "else", "folder/initializer", "function", "initializer", "then"]
    assert external_files(tmp_path / "all.onnx") == [tmp_path / name for name in names]


def test_the_record_tells_networks_preprocessing_and_outputs_apart(tmp_path: Path) -> None:
    path = sequence(tmp_path / "net.onnx", more="pooler_output")
    asked = ["", ",pooling=cls", ",pooling=mean", ",fit=pad"]
    records = [encoder_record(load(path, TOLD + options)) for options in asked]
    records.append(encoder_record(load(path, ",mean=0/0/0,std=1/1/1,resampling=bilinear")))
    assert len({json.dumps(record) for record in records}) == len(records)
    assert encoder_record(load(path)) == records[0]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SIGLIP))
    first = load(path, "").weights_sha256
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**SIGLIP, "image_std": [1, 1, 1]}))
    assert load(path, "").weights_sha256 != first


def test_a_gallery_says_where_its_file_was(tmp_path: Path, picture_folder: Path) -> None:
    path = quarters(tmp_path / "net.onnx")
    with Gallery.create(tmp_path / "g", encoder=f"onnx:{path}{TOLD}", regions="pyramid:1") as gallery:
        gallery.add(picture_folder)
        assert gallery.search(picture_folder / "03.png", k=1)[0].path == str(picture_folder / "03.png")
    path.rename(tmp_path / "elsewhere.onnx")
    advice = rf"{path}: no such file.*have moved"
    with Gallery.open(tmp_path / "g") as gallery, pytest.raises(EncoderError, match=advice):
        gallery.search(picture_folder / "03.png")


# Devices


class SmallMemory:
    """A session on an accelerator whose memory holds five pictures: their mean colours."""

    def __init__(self, failure: str = "Failed to allocate memory for requested buffer of size 77") -> None:
        self.failure = failure
        self.counts: list[int] = []

    def run(self, names: list[str], given: dict[str, npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        (values,) = given.values()
        self.counts.append(len(values))
        if len(values) > 5:
            raise RuntimeError(self.failure)
        return [values.mean(axis=(2, 3))]


def on_accelerator(session: Any, batch: int | None = None) -> OnnxEncoder:
    taken = PictureInput("pictures", np.float32, False, 3, batch, SIDE)
    preprocessing = Preprocessing(SIDE, mean=MEAN, std=STD)
    return OnnxEncoder(EncoderSpec("onnx", "net.onnx"), (session, True), taken, "vector", preprocessing, "0" * 64)


def test_a_batch_too_large_for_an_accelerator_is_halved_until_it_fits_and_stays_so() -> None:
    session = SmallMemory()
    encoder = on_accelerator(session)
    expected = normalised(in_floats(pixels(10)).mean(axis=(1, 2)).astype(np.float32))
    np.testing.assert_allclose(encoder.encode(pixels(10)), expected, atol=1e-6)
    assert session.counts == [2, 10, 10, 10, 8, 4, 4, 2]
    assert encoder.batch_size == 4
    encoder.encode(pixels(5))
    assert session.counts[-2:] == [4, 1]


def test_other_failures_of_an_accelerator_are_told() -> None:
    encoder = on_accelerator(SmallMemory("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 719\nlaunch failed"))
    with pytest.raises(
        EncoderError, match=r"^encoder onnx:net.onnx: onnxruntime failed \(CUDA failure 719 launch failed"
    ):
        encoder.encode(pixels(6))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "pip install onnxruntime-gpu in its place, or --device cpu"),
        ("cuda:1", "pip install onnxruntime-gpu in its place, or --device cpu"),
        ("mps", "the onnxruntime installed here cannot use it, or --device cpu"),
    ],
)
def test_a_device_that_is_not_there(device: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    path = quarters(tmp_path / "net.onnx")
    with pytest.raises(EncoderError, match=re.escape(message)):
        load_encoder(f"onnx:{path}{TOLD}", device=device)


def test_an_accelerator_that_fails_is_passed_over_unless_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime for CUDA on a machine without a driver: it claims the provider, and cannot make a session with it."""
    import onnxruntime

    made = onnxruntime.InferenceSession

    def without_driver(*arguments: Any, providers: list[Any], **options: Any) -> Any:
        if providers != ["CPUExecutionProvider"]:
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : CUDA driver version is insufficient")
        return made(*arguments, providers=providers, **options)

    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "InferenceSession", without_driver)
    path = quarters(tmp_path / "net.onnx")
    encoder = load_encoder(f"onnx:{path}{TOLD}", device="auto")
    np.testing.assert_array_equal(encoder.encode(pixels(3)), load(path).encode(pixels(3)))
    with pytest.raises(EncoderError, match=r"^device 'cuda': .*CUDA driver version is insufficient.*--device cpu"):
        load_encoder(f"onnx:{path}{TOLD}", device="cuda")
    assert capfd.readouterr() == ("", "")


# A file that we did not write


@pytest.fixture(scope="module")
def xfeat(shared_data: Path) -> Path:
    return shared_data / "weights" / "xfeat_256x256.onnx"


def test_xfeat_is_averaged_over_its_feature_map_one_region_at_a_time(xfeat: Path) -> None:
    import onnxruntime

    encoder = load(xfeat, ",output=output,mean=0/0/0,std=1/1/1,resampling=bilinear")
    assert (encoder.dimension, encoder.input_size) == (64, 256)
    shown = np.stack([np.asarray(make_picture(seed, (256, 256))) for seed in range(3)])
    session = onnxruntime.InferenceSession(str(xfeat), providers=["CPUExecutionProvider"])
    for region, vector in zip(shown, encoder.encode(shown), strict=True):
        given = (region.transpose(2, 0, 1)[None] / 255).astype(np.float32)
        mean = session.run(["output"], {"input": given})[0].mean(axis=(2, 3))[0]
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_xfeat_does_not_say_what_it_needs(xfeat: Path) -> None:
    assert "add to the encoder's name" in complaint(xfeat, "")
    assert "has the outputs output, 763, 268" in complaint(xfeat, ",mean=0/0/0,std=1/1/1,resampling=bilinear")
