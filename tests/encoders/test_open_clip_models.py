"""Models of open_clip: vectors equal those of its own loading, transform and tokenizer, pictures and texts alike."""

from __future__ import annotations

import json
import logging
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
from patchwise.encoders import Encoder, TextEncoder, load_encoder
from patchwise.errors import EncoderError, MissingExtra
from patchwise.images import Picture, cut_regions

open_clip = pytest.importorskip("open_clip")
torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
safetensors_torch = pytest.importorskip("safetensors.torch")


@timm.models.register_model
def tiny_siglip(pretrained: bool = False, **arguments: Any) -> Any:
    """What open_clip builds the towers of SigLIP of, small."""
    return timm.create_model("vit_base_patch16_siglip_224", embed_dim=32, depth=2, num_heads=2, **arguments)


TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
# A tower that timm builds, with the head that pools by attention.
SIGLIP = {"image_size": 224, "timm_model_name": "tiny_siglip", "timm_pool": "map", "timm_proj": "none"}
MODELS: dict[str, dict[str, Any]] = {
    "clip": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT},
    "quick": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "mean": {
        "embed_dim": 24,
        "vision_cfg": {**VISION, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": TEXT,
    },
    "siglip": {
        "embed_dim": 32,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": SIGLIP,
        "text_cfg": {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    "coca": {
        "embed_dim": 24,
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 16, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1},
        "custom_text": True,
    },
}
PREPROCESSING = {
    "clip": {},
    "quick": {"interpolation": "bilinear"},
    "mean": {"resize_mode": "longest"},
    "siglip": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash"},
    "coca": {},
}
PICTURES = [make_picture(1, (97, 61)), make_picture(2, (40, 133)), make_picture(3, (64, 64))]
TEXTS = ["red bicycle with a basket", "A mug.", "", "naïve café, 東京"]


def saved(folder: Path, kind: str) -> Path:
    """A model with weights at random everywhere, written as open_clip writes one for the hub."""
    described = MODELS[kind]
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": described, "preprocess_cfg": PREPROCESSING[kind]})
    )
    torch.manual_seed(len(kind))
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    safetensors_torch.save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = saved(tmp_path_factory.mktemp("open_clip") / kind, kind)
        return made[kind]

    return get


def cut(encoder: Encoder, picture: Image.Image) -> npt.NDArray[np.uint8]:
    box = np.array([[0, 0, *picture.size]], dtype=np.float32)
    return cut_regions(Picture(picture, picture.size), box, encoder.input_size, encoder.resampling, encoder.fit)


def ours(name: str) -> npt.NDArray[np.float32]:
    encoder = load_encoder(name, device="cpu")
    return encoder.encode(np.concatenate([cut(encoder, picture) for picture in PICTURES]))


def opened(folder: Path, size: int | None = None, resize_mode: str = "squash") -> tuple[Any, Any]:
    """open_clip's own model and transform, which stretches pictures unless said otherwise."""
    model, transform = open_clip.create_model_from_pretrained(
        f"local-dir:{folder}", force_image_size=size, image_resize_mode=resize_mode
    )
    return model.eval(), transform


def unit(vectors: Any) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).numpy()
    return found


def by_open_clip(folder: Path, size: int | None = None, resize_mode: str = "squash") -> npt.NDArray[np.float32]:
    model, transform = opened(folder, size, resize_mode)
    with torch.inference_mode():
        return unit(model.encode_image(torch.stack([transform(picture) for picture in PICTURES])))


def agree(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> None:
    assert one.std() > 0
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_pictures(folder: Callable[[str], Path], kind: str) -> None:
    agree(ours(f"open_clip:{folder(kind)}"), by_open_clip(folder(kind)))


@pytest.mark.parametrize("size", [48, 75, 112])
@pytest.mark.parametrize("kind", ["clip", "mean", "siglip"])
def test_other_sizes(folder: Callable[[str], Path], kind: str, size: int) -> None:
    agree(ours(f"open_clip:{folder(kind)},size={size}"), by_open_clip(folder(kind), size))


@pytest.mark.parametrize("size", [None, 75])
def test_crops_are_those_of_open_clips_own_transform(folder: Callable[[str], Path], size: int | None) -> None:
    at = folder("clip")
    encoder = load_encoder(f"open_clip:{at},fit=crop" + (f",size={size}" if size else ""), device="cpu")
    _, transform = opened(at, size, "shortest")
    resize, crop, *_ = transform.transforms
    pixels = np.stack([np.asarray(crop(resize(picture))) for picture in PICTURES])
    np.testing.assert_array_equal(np.concatenate([cut(encoder, picture) for picture in PICTURES]), pixels)
    agree(encoder.encode(pixels), by_open_clip(at, size, "shortest"))


@pytest.mark.parametrize("kind", MODELS)
def test_texts(folder: Callable[[str], Path], kind: str) -> None:
    at = folder(kind)
    encoder = load_encoder(f"open_clip:{at}", device="cpu")
    assert isinstance(encoder, TextEncoder)
    model, _ = opened(at)
    tokens = open_clip.get_tokenizer(f"local-dir:{at}")(TEXTS)
    assert tokens.shape == (len(TEXTS), 16)
    with torch.inference_mode():
        expected = unit(model.encode_text(tokens))
    vectors = encoder.encode_texts(TEXTS)
    assert vectors.dtype == np.float32
    agree(vectors, expected)
    assert encoder.encode_texts([]).shape == (0, encoder.dimension)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_pooling_before_the_projection(folder: Callable[[str], Path], kind: str) -> None:
    at = folder(kind)
    model, transform = opened(at)
    tower = model.visual
    with torch.inference_mode():
        pixels = torch.stack([transform(picture) for picture in PICTURES])
        if kind == "clip":
            found = tower.ln_post(tower.transformer(tower._embeds(pixels)))
            first, mean = unit(found[:, 0]), unit(found[:, 1:].mean(1))
            agree(ours(f"open_clip:{at},pooling=cls"), first)
        else:
            found = tower.trunk.forward_features(pixels)
            mean = unit(found[:, tower.trunk.num_prefix_tokens :].mean(1))
            with pytest.raises(EncoderError, match="pooling=cls"):
                load_encoder(f"open_clip:{at},pooling=cls", device="cpu")
    agree(ours(f"open_clip:{at},pooling=mean"), mean)
    assert not isinstance(load_encoder(f"open_clip:{at},pooling=mean", device="cpu"), TextEncoder)
    agree(ours(f"open_clip:{at},pooling=projection"), by_open_clip(at))


@pytest.mark.parametrize("cells", [4, 7])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_tokens(folder: Callable[[str], Path], kind: str, cells: int) -> None:
    """The region of one patch has the vector of its token, at the size of queries and at another."""
    at, side = folder(kind), 16 * cells
    encoder: Any = load_encoder(f"open_clip:{at},size=64,picture_size={side},encode=dense", device="cpu")
    picture = np.array(PICTURES[0].resize((side, side)))[None]
    row, column = cells - 1, 1
    box = np.array([[column, row, column + 1, row + 1]], dtype=np.float32) / cells
    expected = tokens_of(resized_twice(at, side), encoder.normalised(picture))[:, row * cells + column]
    agree(encoder.encode_regions(picture, [box])[0], unit(expected))
    queries = np.array(PICTURES[1].resize((64, 64)))[None]
    agree(encoder.encode(queries), unit(tokens_of(opened(at, 64)[0].visual, encoder.normalised(queries)).mean(1)))


def tokens_of(tower: Any, pixels: Any) -> Any:
    with torch.inference_mode():
        if hasattr(tower, "trunk"):
            return tower.trunk.forward_features(pixels)
        return tower.ln_post(tower.transformer(tower._embeds(pixels)))[:, 1:]


def resized_twice(folder: Path, side: int) -> Any:
    """open_clip's own tower for `side`, from weights that its own loading has resized to the size of the queries."""
    model, _ = opened(folder, 64)
    state, tower = model.state_dict(), opened(folder, side)[0]
    if hasattr(tower.visual, "trunk"):
        model.visual.set_input_size(side)
        return model.visual
    open_clip.factory.resize_pos_embed(state, tower)
    tower.load_state_dict(state)
    return tower.visual


def test_attention_pooling_has_no_tokens(folder: Callable[[str], Path]) -> None:
    with pytest.raises(EncoderError, match="no patch tokens"):
        load_encoder(f"open_clip:{folder('coca')},encode=dense", device="cpu")


def test_a_network_by_name_with_a_file(
    folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-tiny", MODELS["clip"])
    name = f"open_clip:ViT-tiny,weights={folder('clip') / 'open_clip_model.safetensors'}"
    agree(ours(name), by_open_clip(folder("clip")))
    texts: Any = load_encoder(name, device="cpu")
    named: Any = load_encoder(f"open_clip:{folder('clip')}", device="cpu")
    agree(texts.encode_texts(TEXTS), named.encode_texts(TEXTS))
    one_line("open_clip:ViT-tiny", "which weights of ViT-tiny.*weights=FILE")


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Puts a model into the hub's cache under a name; gives its commit."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"

    def put(repository: str, kind: str) -> str:
        place = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        saved(place / "snapshots" / commit, kind)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(commit)
        return commit

    return put


def test_tags_lead_to_repositories(
    cached: Callable[[str, str], str], folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the preprocessing and the activation that belong to the weights, not to the network's name."""
    commit = cached("them/their-clip", "quick")
    mean = (0.1, 0.2, 0.3)
    tags = {"good_tag": {"hf_hub": "them/their-clip/", "quick_gelu": True, "mean": mean, "interpolation": "bilinear"}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-tiny", MODELS["clip"])
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-tiny", tags)
    encoder: Any = load_encoder("open_clip:ViT-tiny/good_tag", device="cpu")
    assert encoder.id == f"open_clip:ViT-tiny/good_tag@{commit}"
    assert (encoder.resampling, encoder.preprocessing.mean) == ("bilinear", mean)
    model, _ = opened(folder("quick"))
    pixels = np.concatenate([cut(encoder, picture) for picture in PICTURES])
    with torch.inference_mode():
        agree(encoder.encode(pixels), unit(model.encode_image(encoder.normalised(pixels))))
    agree(load_encoder(encoder.id, device="cpu").encode(pixels), encoder.encode(pixels))
    one_line("open_clip:ViT-tiny/good_tga", "no weights 'good_tga' of ViT-tiny.*good_tag")
    one_line("open_clip:ViT-tiny/good_tag,weights=x.safetensors", "either")


def test_repositories_of_the_hub(cached: Callable[[str, str], str], folder: Callable[[str], Path]) -> None:
    commit = cached("somebody/their-siglip", "siglip")
    assert load_encoder("open_clip:somebody/their-siglip", device="cpu").id.endswith(f"their-siglip@{commit}")
    agree(ours("open_clip:somebody/their-siglip"), by_open_clip(folder("siglip")))
    one_line("open_clip:somebody/nothing", "weights are not on this machine")


def test_the_tag_of_the_issue_has_its_repository(cached: Callable[[str, str], str]) -> None:
    one_line("open_clip:ViT-B-32/laion2b_s34b_b79k", "hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("open_clip:ViT-B-33/laion2b_s34b_b79k", "no network 'ViT-B-33'.*ViT-B-32"),
        ("open_clip:ViTB32", "no network 'ViTB32'.*ViT-B-32"),
        ("open_clip:ViT-B-32", "which weights of ViT-B-32.*laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32/laion2b", "no weights 'laion2b' of ViT-B-32.*laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32,weights=none.safetensors", "none.safetensors: cannot be read"),
        ("open_clip:ViT-B-32,weights=model.bin", "model.bin: weights are read from"),
        ("open_clip:them/theirs,weights=model.safetensors", "goes with the name of a network"),
        ("open_clip:ViT-B-32/openai,mean=0/0/0", "takes no option 'mean'"),
    ],
)
def test_names_that_are_wrong(name: str, said: str) -> None:
    one_line(name, said)


def test_folders_that_are_wrong(folder: Callable[[str], Path], tmp_path: Path) -> None:
    whole, config, weights = (
        folder("clip"),
        tmp_path / "open_clip_config.json",
        tmp_path / "open_clip_model.safetensors",
    )
    one_line(f"open_clip:{tmp_path}", "open_clip_config.json: cannot be read")
    for content in ("not json", "[]", "{}", '{"model_cfg": 3}'):
        config.write_text(content)
        one_line(f"open_clip:{tmp_path}", "no configuration of open_clip")
    config.write_bytes((whole / config.name).read_bytes())
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"pickled")
    one_line(f"open_clip:{tmp_path}", "no open_clip_model.safetensors there")
    weights.write_bytes((whole / weights.name).read_bytes()[:-100])
    one_line(f"open_clip:{tmp_path}", "open_clip_model.safetensors: cannot be read as weights")
    state = safetensors_torch.load_file(whole / weights.name)
    less = {key: value for key, value in state.items() if key != "visual.ln_post.weight"}
    safetensors_torch.save_file(less, weights)
    one_line(f"open_clip:{tmp_path}", "visual.ln_post.weight")
    safetensors_torch.save_file({**state, "more": torch.ones(2)}, weights)
    one_line(f"open_clip:{tmp_path}", "Unexpected.*more")


def test_pooling_that_a_model_has_not(folder: Callable[[str], Path]) -> None:
    one_line(f"open_clip:{folder('clip')},pooling=pooler", "no pooling=pooler")
    one_line(f"open_clip:{folder('coca')},pooling=mean", "no pooling=mean")


def test_a_tokenizer_that_is_not_there(folder: Callable[[str], Path], tmp_path: Path) -> None:
    """It is asked for when the first text comes: pictures need none."""
    described = {**MODELS["clip"], "text_cfg": {**TEXT, "hf_tokenizer_name": "nobody/nothing"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": described}))
    name = "open_clip_model.safetensors"
    (tmp_path / name).write_bytes((folder("clip") / name).read_bytes())
    encoder: Any = load_encoder(f"open_clip:{tmp_path}", device="cpu")
    assert encoder.encode(np.zeros((1, 64, 64, 3), dtype=np.uint8)).shape == (1, 24)
    with pytest.raises(EncoderError, match="its tokenizer cannot be loaded"):
        encoder.encode_texts(["a mug"])


def test_code_that_a_checkpoint_brings_is_not_run(
    folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for its tokenizer nor for its text tower, even if whoever is asked says yes."""
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    mark, name = tmp_path / "it was run", "open_clip_model.safetensors"
    (tmp_path / "own.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Own: pass\n")
    (tmp_path / name).write_bytes((folder("clip") / name).read_bytes())
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(own))
    text = {**TEXT, "hf_tokenizer_name": "own", "tokenizer_kwargs": {"trust_remote_code": True}}
    config = tmp_path / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": {**MODELS["clip"], "text_cfg": text}}))
    encoder: Any = load_encoder(f"open_clip:{tmp_path}", device="cpu")
    with pytest.raises(EncoderError, match=r"tokenizer cannot be loaded \(it brings its own code"):
        encoder.encode_texts(["a mug"])
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(own))
    text = {"hf_model_name": str(tmp_path), "hf_tokenizer_name": "own"}
    config.write_text(json.dumps({"model_cfg": {**MODELS["clip"], "text_cfg": text}}))
    before = transformers.dynamic_module_utils.TIME_OUT_REMOTE_CODE
    one_line(f"open_clip:{tmp_path}", "cannot build it .*it brings its own code, which patchwise never runs")
    assert before == transformers.dynamic_module_utils.TIME_OUT_REMOTE_CODE
    assert not mark.exists()


def test_the_record_says_what_decides_the_vectors(folder: Callable[[str], Path], tmp_path: Path) -> None:
    at = folder("clip")
    config = json.loads((at / "open_clip_config.json").read_text())
    names = [f"open_clip:{at}", f"open_clip:{at},pooling=mean"]
    changes = (
        {"preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}},
        {"model_cfg": {**config["model_cfg"], "quick_gelu": True}},
    )
    for index, change in enumerate(changes):
        other = tmp_path / str(index)
        other.mkdir()
        (other / "open_clip_config.json").write_text(json.dumps({**config, **change}))
        (other / "open_clip_model.safetensors").write_bytes((at / "open_clip_model.safetensors").read_bytes())
        names.append(f"open_clip:{other}")
    digests = [load_encoder(name, device="cpu").weights_sha256 for name in names]
    assert len(set(digests)) == len(names)
    assert load_encoder(names[0], device="cpu").weights_sha256 == digests[0]


def test_the_root_logger_is_left_alone(folder: Callable[[str], Path]) -> None:
    """In a process of its own, because pytest has handlers there; open_clip would set the root logger up."""
    program = (
        "import logging, patchwise.encoders as e\n"
        f"e.load_encoder('open_clip:{folder('clip')}', device='cpu').encode_texts(['a mug'])\n"
        "assert logging.getLogger().handlers == [] and logging.getLogger().filters == []\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert logging.getLogger().filters == []


def test_without_open_clip_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtra, match=r"patchwise\[open-clip\]"):
        load_encoder("open_clip:ViT-B-32/openai")


def one_line(name: str, said: str) -> None:
    with pytest.raises(EncoderError, match=said) as failure:
        load_encoder(name, device="cpu")
    assert "\n" not in str(failure.value)
