"""Networks of timm: vectors equal those of timm's own loading and transform, from checkpoints that timm wrote."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from conftest import make_picture
from patchwise.encoders import Encoder, load_encoder
from patchwise.errors import EncoderError, MissingExtra
from patchwise.images import Picture, cut_regions

timm = pytest.importorskip("timm")
torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {**SMALL, "img_size": 64},
    "deit_tiny_distilled_patch16_224": {**SMALL, "img_size": 64},
    "vit_small_patch14_reg4_dinov2": {**SMALL, "img_size": 70},
    "vit_base_patch16_dinov3": {**SMALL, "img_size": 64},
    "vit_base_patch16_siglip_224": {**SMALL, "img_size": 64},
    "vit_base_patch16_siglip_gap_224": {**SMALL, "img_size": 64},
    "beit_base_patch16_224": {**SMALL, "img_size": 64},
    "dla34": {},
    "test_vit": {},
    "swin_tiny_patch4_window7_224": {
        "embed_dim": 16,
        "depths": (1, 1),
        "num_heads": (1, 2),
        "window_size": 4,
        "img_size": 64,
    },
    "test_resnet": {},
    "test_convnext": {},
    "test_mambaout": {},
}
PICTURES = [make_picture(1, (97, 61)), make_picture(2, (40, 133)), make_picture(3, (64, 64))]


def saved(folder: Path, name: str, **arguments: object) -> Path:
    """A network with weights at random everywhere, written as timm writes one for the hub."""
    torch.manual_seed(len(name))
    model = timm.create_model(name, num_classes=arguments.pop("num_classes", 5), **{**NETWORKS[name], **arguments})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    timm.models.save_for_hf(model, folder, safe_serialization=True, model_args={**NETWORKS[name], **arguments})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = saved(tmp_path_factory.mktemp("timm") / name, name)
        return made[name]

    return get


def ours(name: str, pictures: list[Image.Image] = PICTURES) -> npt.NDArray[np.float32]:
    encoder = load_encoder(name, device="cpu")
    vectors = encoder.encode(np.concatenate([cut(encoder, picture) for picture in pictures]))
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(pictures), encoder.dimension)
    return vectors


def cut(encoder: Encoder, picture: Image.Image) -> npt.NDArray[np.uint8]:
    box = np.array([[0, 0, *picture.size]], dtype=np.float32)
    return cut_regions(Picture(picture, picture.size), box, encoder.input_size, encoder.resampling, encoder.fit)


def transform_of(model: Any, size: int | None = None, crop: bool = False) -> Any:
    """The transform of timm for evaluation, or the same without any cropping."""
    asked = {} if crop else {"crop_mode": "squash", "crop_pct": 1.0}
    asked = {**asked, **({} if size is None else {"img_size": size})}
    return timm.data.create_transform(**timm.data.resolve_model_data_config(model, asked), is_training=False)


def by_timm(
    model: Any,
    size: int | None = None,
    crop: bool = False,
    read: Callable[[Any, Any], Any] = lambda model, pixels: model(pixels),
    pictures: list[Image.Image] = PICTURES,
) -> npt.NDArray[np.float32]:
    """A plain use of timm, a picture at a time as in its README."""
    transform = transform_of(model, size, crop)
    with torch.inference_mode():
        vectors = read(model.eval(), torch.stack([transform(picture) for picture in pictures]))
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


def built(folder: Path, **arguments: object) -> Any:
    return timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, **arguments)


def agree(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> None:
    assert one.std() > 0
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "dla34"])
def test_vectors_are_those_of_timm(folder: Callable[..., Path], name: str) -> None:
    at = folder(name)
    agree(ours(f"timm:{at}"), by_timm(built(at)))


@pytest.mark.parametrize("size", [48, 55, 112])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_other_sizes(folder: Callable[..., Path], name: str, size: int) -> None:
    at = folder(name)
    agree(ours(f"timm:{at},size={size}"), by_timm(built(at, img_size=size), size))


@pytest.mark.parametrize("size", [None, 55, 112])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "test_resnet"])
def test_crops_are_those_of_timms_own_transform(folder: Callable[..., Path], name: str, size: int | None) -> None:
    at = folder(name)
    encoder = load_encoder(f"timm:{at},fit=crop" + (f",size={size}" if size else ""), device="cpu")
    model = built(at, **({"img_size": size} if size and name.startswith("vit") else {}))
    resize, crop, *_ = transform_of(model, size, crop=True).transforms
    pixels = np.stack([np.asarray(crop(resize(picture))) for picture in PICTURES])
    np.testing.assert_array_equal(np.concatenate([cut(encoder, picture) for picture in PICTURES]), pixels)
    agree(ours(f"timm:{at},fit=crop" + (f",size={size}" if size else "")), by_timm(model, size, crop=True))


def with_crop_mode(whole: Path, folder: Path, mode: str) -> Path:
    config = json.loads((whole / "config.json").read_text())
    config["pretrained_cfg"].update(crop_mode=mode, crop_pct=1.0)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes((whole / "model.safetensors").read_bytes())
    return folder


def test_crops_of_networks_whose_own_transform_stretches(folder: Callable[..., Path], tmp_path: Path) -> None:
    """The square fit is their own; a crop keeps the aspect, as their transform would if it cropped."""
    at = with_crop_mode(folder("vit_tiny_patch16_224"), tmp_path / "squash", "squash")
    agree(ours(f"timm:{at}"), by_timm(built(at), crop=True))
    own = timm.data.resolve_model_data_config(built(at), {"crop_mode": "center"})
    resize, crop, *_ = timm.data.create_transform(**own, is_training=False).transforms
    pixels = np.stack([np.asarray(crop(resize(picture))) for picture in PICTURES])
    encoder = load_encoder(f"timm:{at},fit=crop", device="cpu")
    np.testing.assert_array_equal(np.concatenate([cut(encoder, picture) for picture in PICTURES]), pixels)


def test_no_crops_of_networks_whose_own_transform_pads(folder: Callable[..., Path], tmp_path: Path) -> None:
    at = with_crop_mode(folder("vit_tiny_patch16_224"), tmp_path / "border", "border")
    one_line(f"timm:{at},fit=crop", "made for whole pictures with a border.*say fit=pad")
    encoder = load_encoder(f"timm:{at},fit=pad", device="cpu")
    resize, pad, *_ = transform_of(built(at), crop=True).transforms
    square = make_picture(4, (64, 32))  # no side of it is rounded
    np.testing.assert_array_equal(cut(encoder, square)[0], np.asarray(pad(resize(square))))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_base_patch16_dinov3", 96),
        ("vit_base_patch16_siglip_224", 100),
        ("swin_tiny_patch4_window7_224", 96),
        ("test_resnet", 75),
        ("test_convnext", 101),
    ],
)
def test_other_sizes_of_other_kinds(folder: Callable[..., Path], name: str, size: int) -> None:
    at = folder(name)
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    agree(ours(f"timm:{at},size={size}"), by_timm(built(at, **({"img_size": size} if fixed else {})), size))


def test_a_size_that_the_network_does_not_take(folder: Callable[..., Path]) -> None:
    with pytest.raises(EncoderError, match=r"size=50.*50"):
        load_encoder(f"timm:{folder('vit_base_patch16_dinov3')},size=50", device="cpu")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "beit_base_patch16_224"])
def test_pooling(folder: Callable[..., Path], name: str) -> None:
    at = folder(name)
    model = built(at)

    def tokens(model: Any, pixels: Any) -> Any:
        return model.forward_features(pixels)

    norm = model.fc_norm if getattr(model, "fc_norm", None) is not None else torch.nn.Identity()
    first = by_timm(model, read=lambda model, pixels: norm(tokens(model, pixels)[:, 0]))
    mean = by_timm(model, read=lambda model, pixels: norm(tokens(model, pixels)[:, model.num_prefix_tokens :].mean(1)))
    agree(ours(f"timm:{at},pooling=cls"), first)
    agree(ours(f"timm:{at},pooling=mean"), mean)
    assert np.abs(first - mean).max() > 1e-2


def test_the_attention_pooling_head(folder: Callable[..., Path]) -> None:
    at = folder("vit_base_patch16_siglip_224")
    agree(ours(f"timm:{at},pooling=pooler"), by_timm(built(at)))
    mean = by_timm(built(at), read=lambda model, pixels: model.forward_features(pixels).mean(1))
    agree(ours(f"timm:{at},pooling=mean"), mean)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("vit_tiny_patch16_224", "pooler"),
        ("vit_tiny_patch16_224", "projection"),
        ("vit_base_patch16_siglip_224", "cls"),
        ("test_resnet", "cls"),
    ],
)
def test_pooling_that_a_network_has_not(folder: Callable[..., Path], name: str, pooling: str) -> None:
    with pytest.raises(EncoderError, match="pooling"):
        load_encoder(f"timm:{folder(name)},pooling={pooling}", device="cpu")


@pytest.mark.parametrize(
    ("name", "side", "read"),
    [
        ("vit_tiny_patch16_224", 4, lambda found: found[:, 1:].reshape(-1, 4, 4, 32)),
        ("vit_small_patch14_reg4_dinov2", 4, lambda found: found[:, 5:].reshape(-1, 4, 4, 32)),
        ("vit_base_patch16_dinov3", 4, lambda found: found[:, 5:].reshape(-1, 4, 4, 32)),
        ("vit_base_patch16_siglip_224", 4, lambda found: found.reshape(-1, 4, 4, 32)),
        ("test_resnet", 2, lambda found: found.permute(0, 2, 3, 1)),
        ("test_mambaout", 2, lambda found: found),
        ("swin_tiny_patch4_window7_224", 8, lambda found: found),
    ],
)
def test_tokens(folder: Callable[..., Path], name: str, side: int, read: Callable[[Any], Any]) -> None:
    """The region of one patch has the vector of its token, at the size of queries and at another."""
    at, patch = folder(name), 56 // side if "patch14" in name else 64 // side
    for cells in (side, 2 * side):
        pixels = cells * patch
        options = f"size={side * patch},picture_size={pixels},encode=dense"
        encoder: Any = load_encoder(f"timm:{at},{options}", device="cpu")
        fixed = timm.get_pretrained_cfg(name).fixed_input_size
        model = built(at, **({"img_size": side * patch, "dynamic_img_size": True} if fixed else {})).eval()
        picture = np.array(PICTURES[0].resize((pixels, pixels)))[None]
        row, column = cells - 1, 1
        box = np.array([[column, row, column + 1, row + 1]], dtype=np.float32) / cells
        with torch.inference_mode():
            found = model.forward_features(encoder.normalised(picture))
            if cells == side:
                found = read(found)[:, row, column]
            elif found.ndim == 4:
                found = (
                    found[:, row, column]
                    if name in ("test_mambaout", "swin_tiny_patch4_window7_224")
                    else found[:, :, row, column]
                )
            else:
                found = found[:, getattr(model, "num_prefix_tokens", 0) + row * cells + column]
        agree(encoder.encode_regions(picture, [box])[0], torch.nn.functional.normalize(found, dim=-1).numpy())


def test_dense_encoding_needs_a_network_that_takes_two_sizes(folder: Callable[..., Path]) -> None:
    with pytest.raises(EncoderError, match="dynamic_img_size"):
        load_encoder(f"timm:{folder('beit_base_patch16_224')},encode=dense", device="cpu")


def test_weights_of_another_size_of_classifier(folder: Callable[..., Path], tmp_path: Path) -> None:
    """The classifier is left out, however many classes it has, and whether or not there is one."""
    at = folder("vit_tiny_patch16_224")
    headless = tmp_path / "headless.safetensors"
    state = safetensors_torch.load_file(at / "model.safetensors")
    safetensors_torch.save_file({key: value for key, value in state.items() if "head" not in key}, headless)
    config = json.loads((at / "config.json").read_text())
    assert config["num_classes"] == 5
    for file in (at / "model.safetensors", headless):
        for classes in (0, 1000):
            other = tmp_path / f"{file.stem}-{classes}"
            other.mkdir()
            (other / "config.json").write_text(json.dumps({**config, "num_classes": classes}))
            agree(ours(f"timm:{other},weights={file}"), by_timm(built(at)))


def test_real_weights_by_the_name_of_their_network(shared_data: Path) -> None:
    file = shared_data / "weights" / "deit_tiny_patch16_224.timm.safetensors"
    name = f"timm:deit_tiny_patch16_224,weights={file}"
    model = timm.create_model("deit_tiny_patch16_224", checkpoint_path=str(file))
    model.reset_classifier(0)
    agree(ours(name), by_timm(model))
    larger = timm.create_model(
        "deit_tiny_patch16_224",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(file)},
        num_classes=0,
        img_size=300,
    )
    agree(ours(f"{name},size=300", PICTURES[:1]), by_timm(larger, 300, pictures=PICTURES[:1]))
    encoder = load_encoder(name, device="cpu")
    assert (encoder.dimension, encoder.input_size, encoder.resampling) == (192, 224, "bicubic")


def test_the_record_says_what_decides_the_vectors(folder: Callable[..., Path], tmp_path: Path) -> None:
    at = folder("vit_tiny_patch16_224")
    config = json.loads((at / "config.json").read_text())
    config["pretrained_cfg"]["mean"] = [0.1, 0.2, 0.3]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((at / "model.safetensors").read_bytes())
    names = [f"timm:{at}", f"timm:{at},pooling=mean", f"timm:{tmp_path}"]
    digests = [load_encoder(name, device="cpu").weights_sha256 for name in names]
    assert len(set(digests)) == len(names)
    assert load_encoder(names[0], device="cpu").weights_sha256 == digests[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:vit_bas_patch16_224", "no network 'vit_bas_patch16_224'.*vit_base_patch16_224"),
        ("timm:vit_base_patch16_224.nope", "no weights 'nope'.*vit_base_patch16_224.augreg_in1k"),
        ("timm:vit_tiny_patch16_224,weights=none.safetensors", "none.safetensors: cannot be read"),
        ("timm:vit_tiny_patch16_224,weights=model.pth", "model.pth: weights are read from"),
        ("timm:test_vit,output=tokens", "takes no option 'output'"),
    ],
)
def test_names_that_are_wrong(name: str, said: str) -> None:
    one_line(name, said)


def test_a_network_without_weights_on_the_hub() -> None:
    one_line("timm:vit_small_patch16_18x2_224", "names no weights.*weights=FILE")


def test_folders_that_are_wrong(folder: Callable[..., Path], tmp_path: Path) -> None:
    at = folder("vit_tiny_patch16_224")
    one_line(f"timm:{tmp_path}", "config.json: cannot be read")
    for content in ("not json", "[]", '{"model_type": "vit"}'):
        (tmp_path / "config.json").write_text(content)
        one_line(f"timm:{tmp_path}", "no configuration of timm.*hf:")
    (tmp_path / "config.json").write_text('{"architecture": "vit_tiny_patch16_2244"}')
    one_line(f"timm:{tmp_path}", "config.json: timm knows no network.*vit_tiny_patch16_224")
    (tmp_path / "config.json").write_bytes((at / "config.json").read_bytes())
    one_line(f"timm:{tmp_path}", "no \\*.safetensors file there")
    (tmp_path / "model.safetensors").write_bytes((at / "model.safetensors").read_bytes()[:-100])
    one_line(f"timm:{tmp_path}", "model.safetensors: cannot be read as weights")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch16_siglip_gap_224", "dla34"])
def test_weights_that_lack_something_are_refused(folder: Callable[..., Path], tmp_path: Path, name: str) -> None:
    """Also where timm itself forgives it."""
    if name == "dla34":
        at, lacking = saved(tmp_path / "whole", name), "level5.root.conv.weight"
    else:
        at, lacking = folder(name), "blocks.1.attn.qkv.weight"
    state = safetensors_torch.load_file(at / "model.safetensors")
    del state[lacking]
    file = tmp_path / "less.safetensors"
    safetensors_torch.save_file(state, file)
    one_line(f"timm:{at},weights={file}", f"less.safetensors: these weights do not fit {name} .*{lacking}")


def test_weights_of_another_network_are_refused(folder: Callable[..., Path]) -> None:
    file = folder("test_resnet") / "model.safetensors"
    one_line(f"timm:{folder('vit_tiny_patch16_224')},weights={file}", "do not fit vit_tiny_patch16_224")


def test_names_of_timm_lead_to_its_repositories(
    folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    for repository in ("timm/test_vit.r160_in1k", "somebody/their-network"):
        cached = tmp_path / f"models--{repository.replace('/', '--')}"
        saved(cached / "snapshots" / commit, "test_vit", num_classes=1000)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text(commit)
    encoder = load_encoder("timm:test_vit.r160_in1k", device="cpu")
    assert encoder.id == f"timm:test_vit.r160_in1k@{commit}"
    again = load_encoder(encoder.id, device="cpu")
    assert (again.id, again.weights_sha256) == (encoder.id, encoder.weights_sha256)
    other = load_encoder("timm:somebody/their-network", device="cpu")
    assert other.id == f"timm:somebody/their-network@{commit}"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), dtype=np.uint8)
    agree(encoder.encode(pixels), other.encode(pixels))
    one_line("timm:test_vit2.r160_in1k", "weights are not on this machine.*hf download timm/test_vit2.r160_in1k")


def test_nothing_is_logged_and_loggers_stay_as_they_were(
    folder: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("timm")
    before = logger.level, logger.propagate, list(logger.handlers)
    load_encoder(f"timm:{folder('vit_base_patch16_siglip_gap_224')}", device="cpu")
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
    assert not [record for record in caplog.records if record.name.startswith("timm")]


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"patchwise\[timm\]"):
        load_encoder("timm:test_vit")


def test_torchvision_of_another_torch_is_said_in_one_line(tmp_path: Path) -> None:
    """In a process of its own, where torchvision cannot be imported, as beside a torch it was not built for."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms missing")')
    done = subprocess.run(
        [sys.executable, "-c", "import patchwise.encoders as e; e.load_encoder('timm:test_vit')"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert "EncoderError: encoder timm:test_vit: timm cannot be imported (operator torchvision::nms" in done.stderr
    assert "install both again together" in done.stderr


@pytest.mark.slow
def test_a_gallery_from_the_command_line(folder: Callable[..., Path], picture_folder: Path, tmp_path: Path) -> None:
    at, gallery = folder("vit_tiny_patch16_224"), tmp_path / "gallery"
    command = [sys.executable, "-W", "error", "-m", "patchwise"]
    done = subprocess.run(
        [*command, "index", picture_folder, "-g", gallery, "--encoder", f"timm:{at}", "--device", "cpu"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "timm" not in "".join(line for line in done.stderr.splitlines() if "arn" in line)
    done = subprocess.run(
        [*command, "search", picture_folder / "02.png", "-g", gallery, "--paths"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[0]).name == "02.png"


def one_line(name: str, said: str) -> None:
    with pytest.raises(EncoderError, match=said) as failure:
        load_encoder(name, device="cpu")
    assert "\n" not in str(failure.value)
