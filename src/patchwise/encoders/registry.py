"""Encoders by name: families, short aliases, and what others plug in."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from patchwise.encoders.base import Encoder
from patchwise.encoders.known import KNOWN
from patchwise.encoders.linear import LinearAdaptation
from patchwise.encoders.projection import projected
from patchwise.encoders.references import local_folder, split_revision
from patchwise.encoders.spec import EncoderOptions, EncoderSpec
from patchwise.encoders.whitening import Whitening
from patchwise.encoders.whitening_prior import WhiteningPrior
from patchwise.errors import EncoderError, PatchwiseError

__all__ = [
    "FAMILIES",
    "Family",
    "Shipped",
    "canonical_id",
    "encoder_families",
    "load_backbone",
    "load_encoder",
    "plugins",
    "same_encoder",
]

ENTRY_POINTS = "patchwise.encoders"
_COMMIT = re.compile(r"[0-9a-f]{3,40}")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True)
class Shipped:
    """A backbone, and what was learned for its vectors beforehand."""

    backbone: Encoder
    whitening: Callable[[], Whitening] | None = None
    prior: Callable[[], WhiteningPrior] | None = None


Loader = Callable[[EncoderSpec], Encoder | Shipped]


@dataclass(frozen=True)
class Family:
    """Encoders that one function loads.

    Args:
        loader: module and function; the module is imported when it is asked for.
        forms: how a name of this family is written.
        packages: modules that have to be there beside patchwise.
        extra: of patchwise, which brings them.
    """

    loader: str
    forms: str
    packages: tuple[str, ...] = ()
    extra: str = "torch"


FAMILIES: Mapping[str, Family] = {
    "builtin": Family("patchwise.encoders.builtin:load", "builtin"),
    "hf": Family("patchwise.encoders.hf:load", "hf:OWNER/NAME or hf:FOLDER", ("torch", "transformers")),
    "timm": Family(
        "patchwise.encoders.timm_models:load", "timm:NAME or timm:OWNER/NAME or timm:FOLDER", ("torch", "timm"), "timm"
    ),
    "open_clip": Family(
        "patchwise.encoders.open_clip_models:load",
        "open_clip:ARCH/TAG or open_clip:OWNER/NAME or open_clip:FOLDER",
        ("torch", "open_clip"),
        "open-clip",
    ),
    "onnx": Family("patchwise.encoders.onnx_files:load", "onnx:FILE or onnx:FOLDER or onnx:OWNER/NAME"),
}


def encoder_families() -> list[str]:
    """The families that an encoder's name may begin with, those of plug-ins included."""
    return sorted({*FAMILIES, *_plugged_in()})


def plugins() -> dict[str, str]:
    """Families that other packages declare, with the package and version of each; none is loaded."""
    return {
        family: f"{found.dist.name} {found.dist.version}" if found.dist is not None else found.value
        for family, found in sorted(_plugged_in().items())
    }


def canonical_id(text: str, device: str = "auto") -> str:
    """The full name of an encoder: aliases written out, paths absolute, options in order.

    Raises:
        EncoderError: an unknown family, alias or option.
    """
    return str(_spec(text, device))


def same_encoder(given: str, recorded: str, input_size: int | str | None = None) -> bool:
    """Whether a name that someone gives means the encoder that a gallery recorded, with its input size.

    A record may say more than the name did: the commit, where the name has none, or a branch, or its first digits; and
    the size at which dense encoding sees a picture. A name may say what holds anyway: the model's own input size.

    Raises:
        EncoderError: `given` names nothing known.
    """
    asked, kept = _spec(given), EncoderSpec.parse(recorded)
    if asked.options.picture_size is None:
        kept = replace(kept, options=replace(kept.options, picture_size=None))
    if kept.options.size is None and asked.options.size == input_size:
        asked = replace(asked, options=replace(asked.options, size=None))
    return _may_become(asked, kept)


def _may_become(asked: EncoderSpec, kept: EncoderSpec) -> bool:
    """Whether a spec is `kept`, or can have been pinned to it."""
    return asked == kept or (
        asked.with_reference("") == kept.with_reference("") and _may_be_pinned(asked.reference, kept.reference)
    )


def _may_be_pinned(asked: str, kept: str) -> bool:
    """Whether `kept` is the reference to the hub `asked`, perhaps with a revision, and a commit."""
    if os.path.isabs(asked) or os.path.isabs(kept):
        return False
    (name, revision), (kept_name, commit) = split_revision(asked), split_revision(kept)
    if name != kept_name or commit is None:
        return False
    # A branch or tag stands for what it was when the gallery was made.
    return revision is None or commit.startswith(revision) or _COMMIT.fullmatch(revision) is None


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
    return encoder if spec.options.adapt is None else _adapted(encoder, shipped.backbone, Path(spec.options.adapt))


def _adapted(encoder: Encoder, backbone: Encoder, path: Path) -> Encoder:
    """With the layer on the vectors of the encoder, or of its backbone where it was learned for those."""
    layer = LinearAdaptation.load(path)
    for made_for in (encoder, backbone):
        if layer.made_for(made_for):
            return projected(made_for, layer)
    width = layer.weight.shape[1]
    if width not in (encoder.dimension, backbone.dimension):
        raise EncoderError(
            f"{path}: made for vectors of {width} numbers, and {encoder.id} has {encoder.dimension}; "
            "it belongs to another encoder"
        )
    learned_for = layer.notes.get("encoder", "another encoder")
    raise EncoderError(
        f"{path}: learned for {learned_for} with other weights or another input than {encoder.id} has; "
        "learn it again: patchwise adapt"
    )


def _spec(text: str, device: str = "auto") -> EncoderSpec:
    spec = _written_out(replace(EncoderSpec.parse(text), device=device))
    if spec.family not in encoder_families():
        raise EncoderError(f"encoder {text!r}: {_advice(spec)}")
    if not spec.reference and spec.family in FAMILIES and ":" in FAMILIES[spec.family].forms:
        raise EncoderError(f"encoder {text!r}: names nothing to load; expected {FAMILIES[spec.family].forms}")
    if not _DEVICE.fullmatch(spec.device):
        raise EncoderError(f"device {spec.device!r}: expected auto, cpu, cuda, cuda:NUMBER or mps")
    folder = local_folder(spec.reference, _is_there(spec.family))
    return spec if folder is None else spec.with_reference(str(folder))


def _is_there(family: str) -> Callable[[Path], bool]:
    """What a family takes for something on this machine; names of a plug-in are its own affair."""
    if family == "onnx":
        return Path.exists
    return Path.is_dir if family in FAMILIES else lambda _: False


def _written_out(spec: EncoderSpec) -> EncoderSpec:
    """The same with its alias replaced by what it stands for; options that are given win over those of the alias."""
    alias, revision = split_revision(spec.family)
    if spec.reference or alias not in KNOWN or (revision and not KNOWN[alias].repository):
        return spec
    known = EncoderSpec.parse(KNOWN[alias].name)
    options: dict[str, Any] = {**known.options.given(), **spec.options.given()}
    if spec.options.encode == "dense" and spec.options.pooling is None:
        options.pop("pooling", None)  # an alias says which output stands for a region; here tokens do
    return replace(
        known,
        reference=f"{known.reference}@{revision}" if revision else known.reference,
        options=EncoderOptions(**options),
        device=spec.device,
    )


def _advice(spec: EncoderSpec) -> str:
    """What to write instead of a name whose family is unknown."""
    name = f"{spec.family}:{spec.reference}" if spec.reference else spec.family
    path = local_folder(name)
    if path is not None:
        forms = [f"{family}:{name}" for family in _families_of(path)]
        return f"a path needs the family of its network before it: {' or '.join(forms)}"
    on_hub = re.fullmatch(r"(?:https?://(?:www\.)?huggingface\.co/)?([\w.-]+)/([\w.@-]+)/?", name)
    if on_hub is not None:
        owner, repository = on_hub.groups()
        form = f"timm:{repository}" if owner == "timm" else f"hf:{owner}/{repository}"
        return f"a name on the hub needs its family before it: {form}"
    if spec.reference:
        families = difflib.get_close_matches(spec.family.lower(), encoder_families())
        near = [f"{family}:{spec.reference}" for family in families]
    else:
        near = difflib.get_close_matches(name.lower(), {*KNOWN, *encoder_families()})
    meant = f"unknown; did you mean {' or '.join(near)}? Names" if near else "unknown; names"
    return f"{meant} are those that `patchwise encoders` lists, or begin with {', '.join(encoder_families())}"


def _families_of(path: Path) -> list[str]:
    """The families that a file or folder may belong to."""
    if path.suffix == ".onnx":
        return ["onnx"]
    if (path / "open_clip_config.json").is_file():
        return ["open_clip"]
    try:
        config = json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError):
        return ["hf", "timm", "open_clip"]
    return ["timm"] if isinstance(config, dict) and "architecture" in config else ["hf"]


def _shipped(spec: EncoderSpec) -> Shipped:
    if spec.family in FAMILIES:
        module, _, function = FAMILIES[spec.family].loader.partition(":")
        own: Loader = getattr(importlib.import_module(module), function)
        loaded = own(spec)
    else:
        loaded = _from_plugin(spec, _plugged_in()[spec.family])
    return loaded if isinstance(loaded, Shipped) else Shipped(loaded)


def _from_plugin(spec: EncoderSpec, found: EntryPoint) -> Encoder | Shipped:
    """Load with somebody else's code, which may fail in any way."""
    try:
        loader: Loader = found.load()
        loaded = loader(spec)
        encoder = loaded.backbone if isinstance(loaded, Shipped) else loaded
        named = EncoderSpec.parse(encoder.id)
        lacking = [name for name in _NEEDED if not hasattr(encoder, name)]
    except PatchwiseError:
        raise
    except Exception as error:
        raise EncoderError(
            f"encoder {spec}: the plug-in {found.value} failed ({type(error).__name__}: {error})"
        ) from error
    if lacking or not _may_become(spec, named):
        problem = f"has no {', '.join(lacking)}" if lacking else f"is called {encoder.id!r} and not {str(spec)!r}"
        raise EncoderError(f"encoder {spec}: what the plug-in {found.value} loads {problem}")
    return loaded


_NEEDED = ("dimension", "input_size", "resampling", "fit", "batch_size", "weights_sha256", "encode")


@cache
def _plugged_in() -> dict[str, EntryPoint]:
    """Families that other packages declare; our own names are not theirs to take, and the first to take one has it."""
    declared: dict[str, EntryPoint] = {}
    for found in entry_points(group=ENTRY_POINTS):
        if found.name not in FAMILIES:
            declared.setdefault(found.name, found)
    return declared
