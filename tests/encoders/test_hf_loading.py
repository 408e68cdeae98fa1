"""Loading checkpoints of transformers: complete or not at all, with one line said, and a digest of what was loaded."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from encoders.hf_checkpoints import CHECKPOINTS, write_checkpoint
from patchwise.encoders import load_encoder
from patchwise.errors import EncoderError, MissingExtra

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def loaded(folder: Path, options: str = "") -> Any:
    return load_encoder(f"hf:{folder}{options}", device="cpu")


def refusal(folder: Path, options: str = "") -> str:
    with pytest.raises(EncoderError) as caught:
        loaded(folder, options)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def without(folder: Path, unwanted: Callable[[str], bool]) -> Path:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not unwanted(name)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def configured(folder: Path, **values: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return folder


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = without(write_checkpoint("dinov2", tmp_path), lambda name: "layer.1.attention" in name)
    message = refusal(folder)
    assert "its weights lack encoder.layer.1." in message
    assert "and 5 more, which Dinov2Model needs" in message


@pytest.mark.parametrize(("name", "part"), [("siglip", "head.probe"), ("clip", "vision_model.post_layernorm.weight")])
def test_one_missing_weight_is_refused(name: str, part: str, tmp_path: Path) -> None:
    assert "its weights lack" in refusal(without(write_checkpoint(name, tmp_path), lambda key: key.endswith(part)))


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint("dinov2", tmp_path / "dinov2")
    (folder / "model.safetensors").write_bytes(
        (write_checkpoint("convnext", tmp_path / "convnext") / "model.safetensors").read_bytes()
    )
    assert "layernorm.bias is of shape (16,), and config.json asks for (32,)" in refusal(folder)


def test_a_width_that_does_not_fit(tmp_path: Path) -> None:
    message = refusal(configured(write_checkpoint("dinov2", tmp_path), hidden_size=48))
    assert (
        "model.safetensors: embeddings.cls_token is of shape (1, 1, 32), and config.json asks for (1, 1, 48)" in message
    )


def test_classifiers_need_no_weights_for_a_pooler(tmp_path: Path) -> None:
    folder = without(write_checkpoint("vit", tmp_path), lambda name: name.startswith("pooler"))
    assert loaded(folder)._network.module.pooler is None
    assert "has no pooling=pooler; it has cls, mean" in refusal(folder, ",pooling=pooler")


def test_a_configuration_that_contradicts_itself(tmp_path: Path) -> None:
    message = refusal(configured(write_checkpoint("dinov2", tmp_path), hidden_size="wide"))
    assert "config.json: cannot be read as 'dinov2'" in message


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\x00" * 99])
def test_damaged_weights(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = write_checkpoint("dinov2", tmp_path) / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    assert "model.safetensors: cannot be loaded as Dinov2Model" in refusal(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    file = write_checkpoint("dinov2", tmp_path) / "model.safetensors"
    file.rename(tmp_path / "pytorch_model.bin")
    assert "can run code when they are read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("configuration", "says"),
    [
        ({"model_type": "dinov9"}, "knows no model_type 'dinov9'. A newer transformers may know it"),
        ({"model_type": "dinov9", "auto_map": {}}, "It brings its own code, which patchwise never runs"),
        ({}, "knows no model_type None"),
        ({"architecture": "vit_tiny_patch16_224"}, "written by timm; say timm:"),
        ({"model_type": "bert"}, "'bert' is no vision model"),
        ({"model_type": "seggpt"}, "'seggpt' is no vision model"),
        ({"model_type": "vit_mae"}, "hides parts of its pictures at random"),
        ([], "config.json: cannot be read"),
    ],
)
def test_what_is_no_vision_model(configuration: object, says: str, tmp_path: Path) -> None:
    write_checkpoint("dinov2", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(configuration))
    assert says in refusal(tmp_path)


@pytest.fixture
def agreeable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a question is answered yes, as by `echo y | patchwise ...`."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")


def bring_code(folder: Path, described: str, **content: object) -> Path:
    """Let a file of a checkpoint name code beside it; returns what appears where that code is run."""
    mark = folder / "it was run"
    (folder / "own.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Own: pass\n")
    (folder / described).write_text(json.dumps(content))
    return mark


@pytest.mark.usefixtures("agreeable")
def test_code_of_an_image_processor_is_not_run(tmp_path: Path) -> None:
    folder = write_checkpoint("dinov2", tmp_path)
    names = {"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "own.Own"}}
    mark = bring_code(folder, "preprocessor_config.json", **names)
    assert "(it brings its own code, which patchwise never runs)" in refusal(folder)
    assert not mark.exists()


@pytest.mark.usefixtures("agreeable")
def test_code_of_a_tokenizer_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As for a kind of model that this version of transformers has no tokenizer of its own for.
    monkeypatch.delitem(transformers.models.auto.tokenization_auto.TOKENIZER_MAPPING_NAMES, "clip")
    folder = write_checkpoint("clip", tmp_path)
    mark = bring_code(
        folder, "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", None]}
    )
    with pytest.raises(EncoderError, match="it brings its own code, which patchwise never runs"):
        loaded(folder).encode_texts(["cup"])
    assert not mark.exists()


def test_a_model_without_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint("dinov2", tmp_path)
    boxes = SimpleNamespace(pred_boxes=torch.zeros(1, 100, 4))
    monkeypatch.setattr(transformers.Dinov2Model, "forward", lambda self, pixel_values: boxes)
    assert "Dinov2Model gives no tokens to pool" in refusal(tmp_path)


def test_without_a_configuration(tmp_path: Path) -> None:
    (write_checkpoint("dinov2", tmp_path) / "config.json").unlink()
    assert "no config.json there" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json: cannot be read" in refusal(tmp_path)


def test_an_adapter_is_no_checkpoint(tmp_path: Path) -> None:
    (write_checkpoint("dinov2", tmp_path) / "adapter_config.json").write_text("{}")
    assert "an adapter for another checkpoint" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "older"),
    [
        ("clip_vision", lambda key: f"vision_model.{key}"),
        ("dinov2", lambda key: f"dinov2.{key}"),
        ("dinov3_vit", lambda key: key.replace("model.layer", "layer")),
        ("dinov3_convnext", lambda key: key.removeprefix("model.")),
    ],
)
def test_keys_as_earlier_versions_or_classifiers_wrote_them(
    name: str, older: Callable[[str], str], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    file = write_checkpoint(name, tmp_path) / "model.safetensors"
    encoder = loaded(tmp_path)
    pixels = np.resize(PIXELS, (2, encoder.input_size, encoder.input_size, 3))
    save_file({older(key): tensor for key, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    np.testing.assert_array_equal(loaded(tmp_path).encode(pixels), encoder.encode(pixels))


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    whole = write_checkpoint("dinov2", tmp_path / "whole")
    shards = write_checkpoint("dinov2", tmp_path / "shards", max_shard_size="20KB")
    files = sorted(shards.glob("model-*.safetensors"))
    assert len(files) > 1
    pixels = np.repeat(np.repeat(PIXELS, 2, axis=1), 2, axis=2)[:, :42, :42]
    np.testing.assert_array_equal(loaded(whole).encode(pixels), loaded(shards).encode(pixels))
    before = loaded(shards).weights_sha256
    (shards / "unrelated.safetensors").write_bytes(b"not read")
    assert loaded(shards).weights_sha256 == before
    files[-1].unlink()
    assert f"{files[-1].name}: missing, and model.safetensors.index.json names it" in refusal(shards)


def test_the_digest_is_of_the_file_that_is_loaded(tmp_path: Path) -> None:
    folder = write_checkpoint("dinov2", tmp_path / "both", max_shard_size="20KB")
    other = write_checkpoint("dinov2", tmp_path / "other")
    from safetensors.torch import load_file, save_file

    weights = load_file(other / "model.safetensors")
    weights["layernorm.weight"] *= torch.linspace(0.5, 2, 32)
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    pixels = np.repeat(np.repeat(PIXELS, 2, axis=1), 2, axis=2)[:, :42, :42]
    np.testing.assert_array_equal(loaded(folder).encode(pixels), loaded(other).encode(pixels))
    assert loaded(folder).weights_sha256 == loaded(other).weights_sha256


def test_the_digest_tells_weights_preprocessing_and_pooling_apart(tmp_path: Path) -> None:
    folder = write_checkpoint("dinov2", tmp_path)
    found = {loaded(folder).weights_sha256, loaded(folder, ",pooling=mean").weights_sha256}
    assert loaded(folder).weights_sha256 in found
    processor = folder / "preprocessor_config.json"
    processor.write_text(json.dumps({**json.loads(processor.read_text()), "image_mean": [0.1, 0.2, 0.3]}))
    found.add(loaded(folder).weights_sha256)
    without(folder, lambda name: "mask_token" in name)
    found.add(loaded(folder).weights_sha256)
    assert len(found) == 4
    assert all(len(digest) == len(hashlib.sha256().hexdigest()) for digest in found)


@pytest.mark.parametrize(
    ("name", "part", "change"),
    [
        ("dinov2", "", {"num_attention_heads": 4}),
        ("dinov2", "", {"layer_norm_eps": 1e-2}),
        ("clip", "vision_config", {"hidden_act": "gelu"}),
    ],
)
def test_the_digest_tells_computations_apart(name: str, part: str, change: dict[str, Any], tmp_path: Path) -> None:
    folder = write_checkpoint(name, tmp_path)
    before = loaded(folder)
    written = json.loads((folder / "config.json").read_text())
    configured(folder, **({part: {**written[part], **change}} if part else change))
    after = loaded(folder)
    pixels = np.resize(PIXELS, (2, before.input_size, before.input_size, 3))
    assert not np.allclose(before.encode(pixels), after.encode(pixels), atol=1e-4)
    assert before.weights_sha256 != after.weights_sha256


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_digest_is_the_same_for_a_configuration_written_by_another_version(name: str, tmp_path: Path) -> None:
    folder = write_checkpoint(name, tmp_path)
    before = loaded(folder).weights_sha256
    written = json.loads((folder / "config.json").read_text())
    vision = written.get("vision_config", written)
    for key in ("transformers_version", "architectures", "dtype", "hidden_dropout_prob"):  # the last is as usual
        written.pop(key, None)
        vision.pop(key, None)
    vision.update({"torch_dtype": "float16", "transformers_version": "4.40.0", "num_channels": 3})
    (folder / "config.json").write_text(json.dumps({**written, "_name_or_path": "elsewhere"}))
    assert loaded(folder).weights_sha256 == before


@pytest.mark.slow
def test_nothing_but_the_answer_is_printed(tmp_path: Path) -> None:
    folder = write_checkpoint("clip", tmp_path)  # loading one tower of two makes the library write a report
    code = (
        "import sys; from patchwise.encoders import load_encoder; encoder = load_encoder(sys.argv[1], device='cpu'); "
        "print(encoder.encode_texts(['red cup ' * 90]).shape)"
    )
    ran = subprocess.run([sys.executable, "-c", code, f"hf:{folder}"], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("(1, 24)\n", "")


def test_the_library_may_speak_again_afterwards(tmp_path: Path) -> None:
    reports = transformers.utils.logging
    reports.set_verbosity(logging.INFO)
    try:
        loaded(write_checkpoint("siglip", tmp_path))
        assert reports.get_verbosity() == logging.INFO
        assert reports.is_progress_bar_enabled()
    finally:
        reports.set_verbosity_warning()


def test_without_a_folder(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "none")


def test_options_of_other_families(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="'hf' takes no option 'output'"):
        load_encoder(f"hf:{tmp_path},output=last")


def test_all_families_of_the_issue_have_a_checkpoint() -> None:
    assert {"dinov2", "dinov2_with_registers", "dinov3_vit", "dinov3_convnext", "siglip", "siglip2", "clip"} <= set(
        CHECKPOINTS
    )


def test_a_library_that_another_package_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        __version__ = "5.0"

        @property
        def PreTrainedModel(self) -> None:  # noqa: N802
            try:
                raise RuntimeError("operator torchvision::nms does not exist")
            except RuntimeError as error:
                raise ModuleNotFoundError("Could not import module 'PreTrainedModel'") from error

    monkeypatch.setattr("patchwise.encoders.hf_loading.import_package", lambda *_: Broken())
    message = refusal(tmp_path)
    assert "transformers 5.0 cannot be used (operator torchvision::nms does not exist)" in message
    assert "install both again together" in message


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_package(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'patchwise\[torch\]'"):
        loaded(tmp_path)
