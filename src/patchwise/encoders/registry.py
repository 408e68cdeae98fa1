"""Encoders by id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from patchwise.encoders.base import Encoder
from patchwise.encoders.whitening import Whitened, Whitening
from patchwise.encoders.whitening_prior import WhiteningPrior
from patchwise.errors import EncoderError

__all__ = ["encoder_ids", "load_backbone", "load_encoder"]


@dataclass(frozen=True)
class _Shipped:
    """A backbone, and what was learned for its vectors beforehand, if anything."""

    backbone: Encoder
    whitening: Callable[[], Whitening] | None = None
    prior: Callable[[], WhiteningPrior] | None = None


def _builtin() -> _Shipped:
    from patchwise.encoders.builtin import BuiltinBackbone, shipped_prior, shipped_whitening

    return _Shipped(BuiltinBackbone(), shipped_whitening, shipped_prior)


_LOADERS: dict[str, Callable[[], _Shipped]] = {"builtin": _builtin}


def encoder_ids() -> list[str]:
    """The ids that `load_encoder` knows."""
    return sorted(_LOADERS)


def load_backbone(encoder_id: str) -> tuple[Encoder, WhiteningPrior | None]:
    """Load an encoder without any whitening, and what a whitening of its vectors starts from, if that is known.

    Raises:
        EncoderError: unknown id, or weights that cannot be loaded.
    """
    shipped = _shipped(encoder_id)
    return shipped.backbone, shipped.prior() if shipped.prior is not None else None


def load_encoder(encoder_id: str, whitening: Whitening | None = None) -> Encoder:
    """Load an encoder by id, with the whitening shipped for it unless another is given.

    Raises:
        EncoderError: unknown id, or weights that cannot be loaded.
    """
    shipped = _shipped(encoder_id)
    if whitening is None and shipped.whitening is not None:
        whitening = shipped.whitening()
    return Whitened(shipped.backbone, whitening) if whitening is not None else shipped.backbone


def _shipped(encoder_id: str) -> _Shipped:
    if encoder_id not in _LOADERS:
        raise EncoderError(f"encoder {encoder_id!r}: unknown; known are {', '.join(encoder_ids())}")
    return _LOADERS[encoder_id]()
