"""Texts in the towers of transformers checkpoints that were trained on pairs of pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchwise.encoders.hf_loading import Library, failures, reason
from patchwise.encoders.hub import checkpoint
from patchwise.errors import EncoderError, MissingExtra

if TYPE_CHECKING:
    import torch

__all__ = ["Texts"]

_SENTENCEPIECE = "SiglipTokenizer"
# Without one of these transformers makes an empty tokenizer, for which every word is the same.
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.*.model",
)


class Texts:
    """The text tower of a checkpoint, loaded with the first text.

    Args:
        library: transformers.
        folder: the checkpoint.
        family: name of the tower's class.
        configuration: of the tower.
        fixed_length: whether the tower was trained on texts filled up to its full length (SigLIP), or on texts as long
            as they are (CLIP). Longer ones are cut to the full length in both.
    """

    def __init__(self, library: Library, folder: Path, family: str, configuration: Any, fixed_length: bool) -> None:
        self._library, self._folder = library, folder
        self._family, self._configuration = family, configuration
        self._fixed_length = fixed_length
        self._loaded: tuple[Any, Any] | None = None

    def __call__(self, texts: Sequence[str], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """N texts as vectors (N, D), not yet of unit length.

        Raises:
            EncoderError: the checkpoint has no tokenizer, or no weights for texts.
            MissingExtra: its tokenizer needs sentencepiece, which is not installed.
        """
        if self._loaded is None:
            self._loaded = self._tokenizer(), self._tower()
        tokenizer, tower = self._loaded
        tower = tower.to(device, dtype)
        # SigLIP 2 was trained on lower case, which the tokenizers of its checkpoints of one resolution do not see to.
        lower = self._fixed_length and type(tokenizer).__name__ != _SENTENCEPIECE
        tokens = tokenizer(
            [text.lower() for text in texts] if lower else list(texts),
            padding="max_length" if self._fixed_length else True,
            truncation=True,
            max_length=self._configuration.max_position_embeddings,
            return_tensors="pt",
        )
        found = tower(**tokens.to(device))
        vectors: torch.Tensor = found.text_embeds if hasattr(found, "text_embeds") else found.pooler_output
        return vectors

    def _tower(self) -> Any:
        family = getattr(self._library.package, self._family)
        tower, missing = self._library.model(self._folder, family, self._configuration)
        self._library.refuse_missing(self._folder, family, missing)
        return tower.eval().requires_grad_(False)

    def _has_vocabulary(self) -> bool:
        return any(any(self._folder.glob(name)) for name in _VOCABULARIES)

    def _tokenizer(self) -> Any:
        package, folder = self._library.package, self._folder
        if not self._has_vocabulary():  # the hub is asked for it; a folder of the user's stays as it is
            checkpoint(self._library.spec, weights=(), needed=("|".join(_VOCABULARIES),))
        if not self._has_vocabulary():
            raise EncoderError(
                f"{folder}: no tokenizer there, so that it reads no texts; copy tokenizer.json and "
                "tokenizer_config.json from where the checkpoint came from"
            )
        try:
            with self._library.quietly():
                written = package.models.auto.tokenization_auto.get_tokenizer_config(str(folder), local_files_only=True)
                if written.get("tokenizer_class") == _SENTENCEPIECE and find_spec("sentencepiece") is None:
                    raise MissingExtra(f"{folder}: reading texts with {_SENTENCEPIECE}", "torch")
                found = package.AutoTokenizer.from_pretrained(
                    str(folder), local_files_only=True, trust_remote_code=False
                )
        except failures() as error:
            raise EncoderError(
                f"{folder}: its tokenizer cannot be read by transformers {package.__version__} ({reason(error)})"
            ) from error
        if len(found) > self._configuration.vocab_size:
            size = self._configuration.vocab_size
            raise EncoderError(
                f"{folder}: its tokenizer knows {len(found):,} words, its text tower {size:,}; the tokenizer "
                "belongs to another model"
            )
        return found
