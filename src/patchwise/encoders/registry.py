"""Encoders by id."""

from __future__ import annotations

from collections.abc import Callable

from patchwise.encoders.base import Encoder
from patchwise.encoders.whitening import Whitened, Whitening
from patchwise.errors import EncoderError

__all__ = ["encoder_ids", "load_backbone", "load_encoder"]


def _builtin() -> tuple[Encoder, Whitening | None]:
    from patchwise.encoders.builtin import BuiltinBackbone, shipped_whitening

    return BuiltinBackbone(), shipped_whitening()


# Each loads a backbone and the whitening shipped for it, if any.
_LOADERS: dict[str, Callable[[], tuple[Encoder, Whitening | None]]] = {"builtin": _builtin}


def encoder_ids() -> list[str]:
    """The ids that `load_encoder` knows."""
    return sorted(_LOADERS)


def load_backbone(encoder_id: str) -> Encoder:
    """Load an encoder without any whitening, to learn one from its vectors.

    Raises:
        EncoderError: unknown id, or weights that cannot be loaded.
    """
    return _loaded(encoder_id)[0]


def load_encoder(encoder_id: str, whitening: Whitening | None = None) -> Encoder:
    """Load an encoder by id, with the whitening shipped for it unless another is given.

    Raises:
        EncoderError: unknown id, or weights that cannot be loaded.
    """
    backbone, shipped = _loaded(encoder_id)
    chosen = whitening or shipped
    return Whitened(backbone, chosen) if chosen is not None else backbone


def _loaded(encoder_id: str) -> tuple[Encoder, Whitening | None]:
    if encoder_id not in _LOADERS:
        raise EncoderError(f"encoder {encoder_id!r}: unknown; known are {', '.join(encoder_ids())}")
    return _LOADERS[encoder_id]()
