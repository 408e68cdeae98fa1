"""Encoders by name: families, short aliases, and what others plug in."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from patchwise.encoders.base import Encoder
from patchwise.encoders.known import ALIASES
from patchwise.encoders.linear import LinearAdaptation
from patchwise.encoders.projection import projected
from patchwise.encoders.references import local_folder, without_revision
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.whitening import Whitening
from patchwise.encoders.whitening_prior import WhiteningPrior
from patchwise.errors import EncoderError

__all__ = ["Shipped", "canonical_id", "encoder_families", "load_backbone", "load_encoder", "same_encoder"]

ENTRY_POINTS = "patchwise.encoders"


@dataclass(frozen=True)
class Shipped:
    """A backbone, and what was learned for its vectors beforehand."""

    backbone: Encoder
    whitening: Callable[[], Whitening] | None = None
    prior: Callable[[], WhiteningPrior] | None = None


Loader = Callable[[EncoderSpec], Encoder | Shipped]

# family -> module and function that loads it; each module is imported when it is asked for
_FAMILIES: Mapping[str, str] = {
    "builtin": "patchwise.encoders.builtin:load",
    "hf": "patchwise.encoders.hf:load",
    "timm": "patchwise.encoders.timm_models:load",
    "open_clip": "patchwise.encoders.open_clip_models:load",
    "onnx": "patchwise.encoders.onnx_files:load",
}


def encoder_families() -> list[str]:
    """The families that an encoder's name may begin with, those of plug-ins included."""
    return sorted({*_FAMILIES, *_plugged_in()})


def canonical_id(text: str, device: str = "auto") -> str:
    """The full name of an encoder: aliases written out, paths absolute, options in order.

    Raises:
        EncoderError: an unknown family, alias or option.
    """
    return str(_spec(text, device))


def same_encoder(given: str, recorded: str) -> bool:
    """Whether a name that someone gives means the encoder that a gallery recorded, perhaps pinned to a revision.

    Raises:
        EncoderError: `given` names nothing known.
    """
    asked, kept = _spec(given), EncoderSpec.parse(recorded)
    return asked == kept or asked == kept.with_reference(without_revision(kept.reference))


def load_backbone(encoder_id: str, device: str = "auto") -> tuple[Encoder, WhiteningPrior | None]:
    """Load an encoder without any whitening, and what a whitening of its vectors starts from, if that is known.

    Raises:
        EncoderError: unknown id, or weights that cannot be loaded.
    """
    spec = _spec(encoder_id, device)
    if spec.options.adapt is not None:
        raise EncoderError(f"encoder {spec}: adapted by a file, so that no whitening can be learned before that")
    shipped = _shipped(spec)
    return shipped.backbone, shipped.prior() if shipped.prior is not None else None


def load_encoder(encoder_id: str, whitening: Whitening | None = None, device: str = "auto") -> Encoder:
    """Load an encoder by name, with the whitening shipped for it unless another is given.

    Args:
        encoder_id: such as `builtin`, `dinov2-s`, `hf:facebook/dinov2-small,size=336`; see `patchwise encoders`.
        whitening: applied to its vectors.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        EncoderError: unknown id, or weights that cannot be loaded.
        MissingExtra: a package is needed.
    """
    spec = _spec(encoder_id, device)
    shipped = _shipped(spec)
    if whitening is None and shipped.whitening is not None:
        whitening = shipped.whitening()
    encoder = projected(shipped.backbone, whitening) if whitening is not None else shipped.backbone
    return encoder if spec.options.adapt is None else _adapted(encoder, Path(spec.options.adapt))


def _adapted(encoder: Encoder, path: Path) -> Encoder:
    layer = LinearAdaptation.load(path)
    if layer.weight.shape[1] != encoder.dimension:
        raise EncoderError(
            f"{path}: made for vectors of {layer.weight.shape[1]} numbers, and {encoder.id} has {encoder.dimension}; "
            "it belongs to another encoder"
        )
    return projected(encoder, layer)


def _spec(text: str, device: str = "auto") -> EncoderSpec:
    name, comma, options = text.strip().partition(",")
    spec = replace(EncoderSpec.parse(ALIASES.get(name, name) + comma + options), device=device)
    if spec.family not in encoder_families():
        raise EncoderError(
            f"encoder {text!r}: unknown; names begin with {', '.join(encoder_families())}. See: patchwise encoders"
        )
    folder = local_folder(spec.reference)
    return spec if folder is None else spec.with_reference(str(folder))


def _shipped(spec: EncoderSpec) -> Shipped:
    loaded = _loader(spec.family)(spec)
    return loaded if isinstance(loaded, Shipped) else Shipped(loaded)


def _loader(family: str) -> Loader:
    plugged_in = _plugged_in()
    if family in plugged_in:
        try:
            loader: Loader = plugged_in[family].load()
        except Exception as error:  # somebody else's module, which may fail in any way
            raise EncoderError(f"encoder family {family!r}: its plug-in cannot be loaded ({error})") from error
        return loader
    module, _, function = _FAMILIES[family].partition(":")
    own: Loader = getattr(importlib.import_module(module), function)
    return own


@cache
def _plugged_in() -> dict[str, EntryPoint]:
    """Families that other packages declare; our own names are not theirs to take."""
    return {found.name: found for found in entry_points(group=ENTRY_POINTS) if found.name not in _FAMILIES}
