"""Torch encoders as ONNX files: the same vectors without torch, and all or nothing on the disk."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from conftest import make_picture
from patchwise.encoders import Encoder, EncoderSpec, LinearAdaptation, export, load_encoder, registry
from patchwise.encoders.export import export_onnx
from patchwise.encoders.external_data import external_files
from patchwise.encoders.onnx_files import OnnxEncoder
from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.torch_runtime import Network, torch_encoder
from patchwise.errors import EncoderError, MissingExtra, UsageError

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

PREPROCESSING = Preprocessing(8, "bicubic", mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), short_side=10)


def pixels(count: int, side: int) -> npt.NDArray[np.uint8]:
    return np.stack([np.asarray(make_picture(seed, (side, side))) for seed in range(count)])


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Declares a family `own` whose encoders run a function of normalised pixels, and names one of them."""

    def declare(features: Callable[[Any], Any], module: Any = None, tokens: Any = None) -> str:
        def load(spec: EncoderSpec) -> Encoder:
            spec.allow(("size", "fit", "resampling", "precision", "encode", "picture_size"))
            return torch_encoder(
                spec, Network(module or torch.nn.Identity(), features, tokens), PREPROCESSING, "5" * 64
            )

        monkeypatch.setitem(sys.modules, "own_family", types.SimpleNamespace(load=load))  # type: ignore[arg-type]
        declared = registry.Family("own_family:load", "own:NAME")
        monkeypatch.setattr(registry, "FAMILIES", {**registry.FAMILIES, "own": declared})
        return "own:net"

    return declare


def quarters(pixels: Any) -> Any:
    """(N, 3, 8, 8) to (N, 12)."""
    return torch.nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[str], Path]:
    def write(name: str) -> Path:
        from .hf_checkpoints import write_checkpoint

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return write_checkpoint(name, tmp_path / name)

    return write


def assert_same(file: Path, name: str) -> OnnxEncoder:
    """The file gives what the encoder gives that it was made from, in batches of any size."""
    expected, found = load_encoder(name, device="cpu"), load_encoder(f"onnx:{file}", device="cpu")
    assert isinstance(found, OnnxEncoder)
    for attribute in ("dimension", "input_size", "resampling", "fit"):
        assert getattr(found, attribute) == getattr(expected, attribute)
    shown = pixels(17, found.input_size)
    vectors = expected.encode(shown)
    assert np.abs(vectors - vectors[:1]).max() > 0.01  # an encoder that sees no difference would prove nothing
    for count in (0, 1, 3, 17):
        np.testing.assert_allclose(found.encode(shown[:count]), vectors[:count], atol=1e-3)
    return found


def test_normalisation_by_hand(own: Callable[..., str], tmp_path: Path) -> None:
    """White is (1 - .5) / .5, (1 - .25) / .25 and (1 - 0) / 1 in each quarter."""
    done = export_onnx(own(quarters), tmp_path / "net.onnx")
    assert (done.path, done.encoder, done.dimension, done.input_size) == (tmp_path / "net.onnx", "own:net", 12, 8)
    assert done.bytes == (tmp_path / "net.onnx").stat().st_size
    assert 0 <= done.largest_difference < 1e-6 and 1 - 1e-6 < done.smallest_cosine < 1 + 1e-6
    encoder = load_encoder(f"onnx:{tmp_path / 'net.onnx'}")
    white = np.full((1, 8, 8, 3), 255, dtype=np.uint8)
    np.testing.assert_allclose(encoder.encode(white), [np.repeat([1.0, 3.0, 1.0], 4) / np.sqrt(44)], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dinov2", ",size=71,fit=pad"),
        pytest.param("siglip", ",size=40,resampling=bilinear", marks=pytest.mark.slow),
        ("clip", ",fit=crop"),
        pytest.param("clip", ",pooling=mean", marks=pytest.mark.slow),
        pytest.param("dinov2", ",pooling=mean", marks=pytest.mark.slow),
        pytest.param("dinov2_with_registers", ",size=56", marks=pytest.mark.slow),
        pytest.param("dinov3_vit", ",size=48", marks=pytest.mark.slow),
        pytest.param("dinov3_convnext", "", marks=pytest.mark.slow),
        pytest.param("siglip2", ",size=24", marks=pytest.mark.slow),
        pytest.param("deit", "", marks=pytest.mark.slow),
        pytest.param("swin", "", marks=pytest.mark.slow),
    ],
)
def test_networks_of_transformers(
    name: str, options: str, checkpoint: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    encoder = f"hf:{checkpoint(name)}{options}"
    capfd.readouterr()
    export_onnx(encoder, tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")
    assert_same(tmp_path / "net.onnx", encoder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"model_name": "vit_tiny_patch16_224", "img_size": 32, "depth": 2, "num_classes": 0},
        {"model_name": "vit_small_patch16_dinov3", "img_size": 48, "depth": 2, "num_classes": 0},
        {"model_name": "convnext_atto", "depths": (1, 1, 1, 1), "num_classes": 0},
        {"model_name": "resnet10t", "num_classes": 0},
    ],
    ids=lambda arguments: arguments["model_name"],
)
def test_networks_of_timm(arguments: dict[str, Any], own: Callable[..., str], tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    model = timm.create_model(**arguments)
    encoder = f"{own(model, model)},size={arguments.get('img_size', 64)}"
    export_onnx(encoder, tmp_path / "net.onnx")
    assert_same(tmp_path / "net.onnx", encoder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "siglip", "coca"])
def test_networks_of_open_clip(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("open_clip")
    from .test_open_clip_models import saved

    encoder = f"open_clip:{saved(tmp_path / kind, kind)}"
    capfd.readouterr()
    export_onnx(encoder, tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")
    assert_same(tmp_path / "net.onnx", encoder)


def test_a_linear_adaptation_is_the_last_step(own: Callable[..., str], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weight, bias = (generator.normal(size=size).astype(np.float32) for size in ((5, 12), (5,)))
    LinearAdaptation(weight, bias).save(tmp_path / "layer.safetensors")
    name = f"{own(quarters)},adapt={tmp_path / 'layer.safetensors'}"
    export_onnx(name, tmp_path / "net.onnx")
    found = assert_same(tmp_path / "net.onnx", name)
    assert found.dimension == 5
    plain = load_encoder("own:net").encode(pixels(3, 8)) @ weight.T + bias
    expected = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(found.encode(pixels(3, 8)), expected, atol=1e-6)
    # One more layer can be put behind the file.
    LinearAdaptation(np.eye(2, 5, dtype=np.float32), np.zeros(2, np.float32)).save(tmp_path / "two.safetensors")
    both = load_encoder(f"onnx:{tmp_path / 'net.onnx'},adapt={tmp_path / 'two.safetensors'}")
    assert both.dimension == 2


def test_what_the_file_says_of_itself(own: Callable[..., str], tmp_path: Path) -> None:
    name = f"{own(quarters)},size=12,fit=crop"
    export_onnx(name, tmp_path / "net.onnx")
    model = onnx.load(str(tmp_path / "net.onnx"))
    onnx.checker.check_model(model, full_check=True)
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert list(told) == ["patchwise"]
    record = json.loads(told["patchwise"])
    assert {key: record[key] for key in ("format", "encoder", "weights_sha256", "dimension")} == {
        "format": 1,
        "encoder": "own:net,size=12,fit=crop",
        "weights_sha256": "5" * 64,
        "dimension": 12,
    }
    assert record["preprocessing"]["fit"] == {"kind": "crop", "fill": [0, 0, 0], "short_side": 15, "to_even": False}
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    (given,) = model.graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [side.dim_value for side in given.type.tensor_type.shape.dim[1:]] == [12, 12, 3]
    export_onnx(name, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()


def test_how_regions_become_square_can_still_be_said(own: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    export_onnx(f"{own(quarters)},fit=crop", file)
    assert str(load_encoder(f"onnx:{file}").fit) == "crop:10"
    assert str(load_encoder(f"onnx:{file},size=8").fit) == "crop:10"
    assert str(load_encoder(f"onnx:{file},fit=pad").fit) == "pad:128/64/0"
    assert load_encoder(f"onnx:{file},resampling=bilinear").resampling == "bilinear"
    square = tmp_path / "square.onnx"
    export_onnx(own(quarters), square)
    fits = ["", ",fit=crop", ",fit=pad"]
    assert [str(load_encoder(f"onnx:{square}{fit}").fit) for fit in fits] == ["square", "crop:10", "pad:128/64/0"]
    for options in ("pooling=cls", "output=vectors", "mean=0/0/0", "std=1/1/1"):
        with pytest.raises(
            EncoderError, match=rf"{options[:3]}.* is fixed in the file; leave it out, or export own:net"
        ):
            load_encoder(f"onnx:{file},{options}")
    with pytest.raises(EncoderError, match="made for size=8; export own:net,fit=crop with the size wanted"):
        load_encoder(f"onnx:{file},size=16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2, "patchwise": "9.1"}', "written by patchwise 9.1, which is newer; update patchwise"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 1}', "is damaged"),
        ('{"format": 1, "preprocessing": {"fit": {"kind": "round"}}}', "is damaged"),
    ],
)
def test_metadata_that_cannot_be_read(text: str, message: str, own: Callable[..., str], tmp_path: Path) -> None:
    from .test_onnx_files import quarters as by_hand

    by_hand(tmp_path / "net.onnx", metadata={"patchwise": text})
    with pytest.raises(EncoderError, match=rf"net.onnx: .*{message}"):
        load_encoder(f"onnx:{tmp_path / 'net.onnx'}")


def test_it_runs_where_torch_is_not_installed(own: Callable[..., str], tmp_path: Path) -> None:
    export_onnx(own(quarters), tmp_path / "net.onnx")
    np.save(tmp_path / "pixels.npy", pixels(3, 8))
    code = """
import sys
for name in ("torch", "onnx", "onnxscript", "transformers"):
    sys.modules[name] = None
import numpy as np
from patchwise.encoders import load_encoder
np.save("vectors.npy", load_encoder("onnx:net.onnx").encode(np.load("pixels.npy")))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "vectors.npy"), load_encoder("own:net").encode(pixels(3, 8)), atol=1e-6
    )


# What is written, and what is not


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_tensors_too_large_for_one_file(
    own: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(192, 100)
    name = own(lambda given: layer(given.flatten(1)), layer)
    file = tmp_path / "net.onnx"
    whole = export_onnx(name, file)
    assert names(tmp_path) == ["net.onnx"]
    monkeypatch.setattr(export, "_LARGEST_FILE", 70_000)
    done = export_onnx(name, file, force=True)
    assert names(tmp_path) == ["net.onnx", "net.onnx.data"]
    assert external_files(file) == [tmp_path / "net.onnx.data"]
    assert done.bytes == sum(one.stat().st_size for one in tmp_path.iterdir())
    assert abs(done.bytes - whole.bytes) < 4096 < file.stat().st_size + 4096 < 70_000
    assert_same(file, name)


def test_a_file_that_is_there_is_replaced_only_when_told(own: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_text("something dear")
    with pytest.raises(UsageError, match=r"net.onnx: is there already; give --force to replace it"):
        export_onnx(own(quarters), file)
    assert file.read_text() == "something dear"
    export_onnx(own(quarters), file, force=True)
    assert_same(file, "own:net")
    assert names(tmp_path) == ["net.onnx"]


def test_folders_are_made(own: Callable[..., str], tmp_path: Path) -> None:
    export_onnx(own(quarters), tmp_path / "new" / "folder" / "net.onnx")
    assert names(tmp_path / "new" / "folder") == ["net.onnx"]


@pytest.mark.parametrize("name", ["net", "net.pt", "net.onnx.data"])
def test_a_name_that_says_something_else(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the name of an ONNX file ends in \.onnx"):
        export_onnx("builtin", tmp_path / name)


def test_a_place_that_cannot_be_written(own: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EncoderError, match=r"file/net.onnx: cannot be written \((File exists|Not a directory)\)"):
        export_onnx(own(quarters), tmp_path / "file" / "net.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UsageError, match=r"folder\.onnx: a folder is in the way"):
        export_onnx(own(quarters), tmp_path / "folder.onnx", force=True)


def test_other_vectors_are_not_kept(own: Callable[..., str], tmp_path: Path) -> None:
    """A network with noise in it gives other vectors each time."""
    (tmp_path / "net.onnx").write_text("something dear")
    message = (
        r"encoder own:net: the exported network gives other vectors \(largest difference 0\.\d+, allowed 0.001; sm"
    )
    with pytest.raises(EncoderError, match=message):
        export_onnx(own(lambda given: quarters(given + torch.rand_like(given))), tmp_path / "net.onnx", force=True)
    assert (tmp_path / "net.onnx").read_text() == "something dear"
    assert names(tmp_path) == ["net.onnx"]


def test_vectors_that_are_no_numbers_are_not_kept(own: Callable[..., str], tmp_path: Path) -> None:
    """Here in batches of three only, so that neither the first nor the last comparison shows it."""

    def rarely(given: Any) -> Any:
        return quarters(given) / ((given[:, 0, 0, 0] * 0 + 1).sum() != 3)

    with pytest.raises(EncoderError, match=r"gives other vectors \(largest difference nan"):
        export_onnx(own(rarely), tmp_path / "net.onnx")
    assert names(tmp_path) == []


def test_a_network_that_torch_cannot_export(own: Callable[..., str], tmp_path: Path) -> None:
    def by_content(given: Any) -> Any:
        return quarters(given) if given.sum().item() > 0 else quarters(-given)

    with pytest.raises(EncoderError, match=r"^encoder own:net: torch cannot export its network \(.+\)$") as caught:
        export_onnx(own(by_content), tmp_path / "net.onnx")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_network_that_onnxruntime_does_not_run(
    own: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a version of onnxruntime says that is older than the operators in the file."""

    def too_old(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Opset 99 is under development")

    import onnxruntime

    monkeypatch.setattr(onnxruntime, "InferenceSession", too_old)
    message = r"^encoder own:net: onnxruntime does not run the exported network, so that no file was kept \(.*Opset 99"
    with pytest.raises(EncoderError, match=message):
        export_onnx(own(quarters), tmp_path / "net.onnx")
    assert names(tmp_path) == []


@pytest.mark.parametrize("moment", ["_write", "_compare", "_move"])
def test_interrupted_it_leaves_nothing(
    moment: str, own: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = getattr(export, moment)

    def interrupted(*arguments: Any) -> None:
        if moment == "_write":
            done(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(export, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(own(quarters), tmp_path / "net.onnx")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("builtin", "encoder builtin: runs on onnxruntime as it is, and needs no export"),
        ("onnx:some.onnx", "encoder onnx:some.onnx: runs on onnxruntime as it is, and needs no export"),
        ("own:net,encode=dense", "an ONNX file encodes regions one by one; leave encode=dense out"),
        ("own:net,precision=fp16", "an ONNX file computes in fp32; leave precision out"),
        ("nothing:known", "unknown"),
    ],
)
def test_what_cannot_be_exported(name: str, message: str, own: Callable[..., str], tmp_path: Path) -> None:
    own(quarters, tokens=lambda given: given.movedim(1, -1))
    with pytest.raises(EncoderError, match=re.escape(message)):
        export_onnx(name, tmp_path / "net.onnx")
    assert names(tmp_path) == []


def test_an_encoder_without_torch(own: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from conftest import FakeEncoder

    name = own(quarters)
    sys.modules["own_family"].load = lambda spec: FakeEncoder()  # type: ignore[attr-defined]
    with pytest.raises(EncoderError, match="encoder fake: no torch network that sees one region at a time"):
        export_onnx(name, tmp_path / "net.onnx")


def test_the_exporter_is_an_extra(own: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'patchwise[onnx]'")):
        export_onnx(own(quarters), tmp_path / "net.onnx")
    assert names(tmp_path) == []


def test_full_precision_may_be_said(own: Callable[..., str], tmp_path: Path) -> None:
    assert export_onnx(f"{own(quarters)},precision=fp32", tmp_path / "net.onnx").encoder == "own:net,precision=fp32"
    assert os.listdir(tmp_path) == ["net.onnx"]
