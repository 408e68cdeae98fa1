"""Strategies by name: `whole`, `pyramid:L`."""

from __future__ import annotations

from collections.abc import Callable

from patchwise.errors import RegionsError
from patchwise.regions.base import RegionStrategy
from patchwise.regions.pyramid import MAX_LEVEL, Pyramid
from patchwise.regions.whole import Whole

__all__ = ["parse_regions"]


def _whole(parameters: list[str]) -> RegionStrategy:
    if parameters:
        raise ValueError("takes no parameter")
    return Whole()


def _pyramid(parameters: list[str]) -> RegionStrategy:
    if len(parameters) != 1 or not parameters[0].isdecimal():
        raise ValueError(f"expected one level between 0 and {MAX_LEVEL}, as in pyramid:3")
    return Pyramid(int(parameters[0]))


_STRATEGIES: dict[str, Callable[[list[str]], RegionStrategy]] = {"whole": _whole, "pyramid": _pyramid}


def parse_regions(text: str) -> RegionStrategy:
    """Read a strategy string such as `pyramid:3`.

    Raises:
        RegionsError: unknown strategy or bad parameter.
    """
    name, *parameters = text.strip().split(":")
    if name not in _STRATEGIES:
        raise RegionsError(f"regions {text!r}: unknown strategy; known are {', '.join(sorted(_STRATEGIES))}")
    try:
        return _STRATEGIES[name](parameters)
    except RegionsError:
        raise
    except ValueError as error:
        raise RegionsError(f"regions {text!r}: {error}") from error
