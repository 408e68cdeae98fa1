"""Texts through transformers: vectors equal those of the library's own `get_text_features`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from encoders.hf_checkpoints import write_checkpoint, write_tokenizer
from patchwise.encoders import TextEncoder, load_encoder
from patchwise.errors import EncoderError, MissingExtra

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

READING = ("clip", "metaclip_2", "siglip", "siglip2")
TEXTS = ["a red bicycle with a basket", "blue cup", "cup of tea " * 9]


def theirs(folder: Path, texts: list[str], **tokenizing: Any) -> npt.NDArray[np.float32]:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        tokens = tokenizer(texts, truncation=True, max_length=12, return_tensors="pt", **tokenizing)
        found = model.get_text_features(**tokens).pooler_output
        unit: npt.NDArray[np.float32] = torch.nn.functional.normalize(found, dim=-1).numpy()
    return unit


def padding(name: str) -> Any:
    return "max_length" if name.startswith("siglip") else True


@pytest.mark.parametrize("name", READING)
def test_texts_are_those_of_the_library(name: str, tmp_path: Path) -> None:
    write_checkpoint(name, tmp_path)
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    assert isinstance(encoder, TextEncoder)
    vectors = encoder.encode_texts(TEXTS)
    np.testing.assert_allclose(vectors, theirs(tmp_path, TEXTS, padding=padding(name)), atol=1e-5)
    assert vectors.shape == (3, encoder.dimension)
    assert np.abs(vectors @ vectors.T)[np.triu_indices(3, 1)].max() < 0.999
    np.testing.assert_allclose(encoder.encode_texts(TEXTS[1:2])[0], vectors[1], atol=1e-5)


@pytest.mark.parametrize("name", ["siglip", "siglip2"])
def test_siglip_reads_lower_case_as_it_was_trained(name: str, tmp_path: Path) -> None:
    write_checkpoint(name, tmp_path)
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    np.testing.assert_array_equal(encoder.encode_texts(["RED Bicycle"]), encoder.encode_texts(["red bicycle"]))


def test_clip_leaves_case_to_its_tokenizer(tmp_path: Path) -> None:
    write_checkpoint("clip", tmp_path)
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    assert not np.allclose(encoder.encode_texts(["RED"]), encoder.encode_texts(["red"]))
    write_tokenizer(tmp_path, "clip", lower=True)
    lower: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    np.testing.assert_array_equal(lower.encode_texts(["RED"]), lower.encode_texts(["red"]))


def test_siglip_fills_texts_up_to_the_length_that_it_was_trained_with(tmp_path: Path) -> None:
    write_checkpoint("siglip", tmp_path)
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    assert not np.allclose(encoder.encode_texts(["blue cup"]), theirs(tmp_path, ["blue cup"], padding=True), atol=1e-3)


def test_texts_and_pictures_share_one_space(tmp_path: Path) -> None:
    write_checkpoint("clip", tmp_path)
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    model = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXTS[:2], padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**tokens, **processor(list(pixels), return_tensors="pt")).logits_per_image
    scores = encoder.encode(pixels) @ encoder.encode_texts(TEXTS[:2]).T
    np.testing.assert_allclose(scores * model.logit_scale.exp().item(), logits.numpy(), atol=1e-3)


def test_no_texts_at_all(tmp_path: Path) -> None:
    write_checkpoint("siglip", tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    assert encoder.encode_texts([]).shape == (0, 32)


@pytest.mark.parametrize("name", ["dinov2", "vit", "clip_vision", "clip_vision_projected"])
def test_models_without_texts(name: str, tmp_path: Path) -> None:
    assert not isinstance(load_encoder(f"hf:{write_checkpoint(name, tmp_path)}", device="cpu"), TextEncoder)


@pytest.mark.parametrize(("name", "pooling"), [("clip", "cls"), ("clip", "pooler"), ("siglip", "mean")])
def test_vectors_that_texts_were_not_trained_against(name: str, pooling: str, tmp_path: Path) -> None:
    folder = write_checkpoint(name, tmp_path)
    assert not isinstance(load_encoder(f"hf:{folder},pooling={pooling}", device="cpu"), TextEncoder)


def test_half_precision_stays_close(tmp_path: Path) -> None:
    write_checkpoint("clip", tmp_path)
    exact: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    rough: Any = load_encoder(f"hf:{tmp_path},precision=bf16", device="cpu")
    assert (exact.encode_texts(TEXTS) * rough.encode_texts(TEXTS)).sum(1).min() > 0.99


def test_a_checkpoint_without_its_tokenizer(tmp_path: Path) -> None:
    write_checkpoint("clip", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    with pytest.raises(EncoderError, match=r"no tokenizer there.*copy tokenizer\.json") as caught:
        encoder.encode_texts(["cup"])
    assert "\n" not in str(caught.value)


def test_a_damaged_tokenizer(tmp_path: Path) -> None:
    write_checkpoint("clip", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    with pytest.raises(EncoderError, match=r"its tokenizer cannot be read by transformers") as caught:
        encoder.encode_texts(["cup"])
    assert "\n" not in str(caught.value)


def test_the_tokenizer_of_another_model(tmp_path: Path) -> None:
    write_checkpoint("clip", tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens([f"word{number}" for number in range(40)])
    tokenizer.save_pretrained(tmp_path)
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    with pytest.raises(EncoderError, match=f"its tokenizer knows {len(tokenizer)} words, its text tower 40"):
        encoder.encode_texts(["cup"])


def test_a_tokenizer_that_needs_sentencepiece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint("siglip", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "SiglipTokenizer"}')
    monkeypatch.setattr("patchwise.encoders.hf_texts.find_spec", lambda name: None)
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    with pytest.raises(
        MissingExtra, match=r"SiglipTokenizer needs an optional package: pip install 'patchwise\[torch\]'"
    ):
        encoder.encode_texts(["cup"])


def test_a_checkpoint_without_weights_for_texts(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_checkpoint("siglip", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("text_model")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    assert np.isfinite(encoder.encode(np.zeros((1, 32, 32, 3), dtype=np.uint8))).all()
    with pytest.raises(EncoderError, match=r"its weights lack .* and \d+ more, which SiglipTextModel needs"):
        encoder.encode_texts(["cup"])


def test_siglips_own_tokenizer(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    write_checkpoint("siglip", tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    learned = {"vocab_size": 25, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red bicycle with a basket", "blue cup of tea", "a cup of tea with a bicycle"] * 20),
        model_prefix=str(tmp_path / "spiece"),
        **learned,
    )
    written = {"tokenizer_class": "SiglipTokenizer", "model_input_names": ["input_ids"], "model_max_length": 12}
    special = {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>", "do_lower_case": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**written, **special}))
    encoder: Any = load_encoder(f"hf:{tmp_path}", device="cpu")
    texts = ["A RED Bicycle!", "blue cup"]
    np.testing.assert_allclose(encoder.encode_texts(texts), theirs(tmp_path, texts, padding="max_length"), atol=1e-5)
    assert type(transformers.AutoTokenizer.from_pretrained(tmp_path)).__name__ == "SiglipTokenizer"
