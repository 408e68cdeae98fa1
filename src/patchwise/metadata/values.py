"""What the texts of a column in a CSV file are: numbers, true and false, or texts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from patchwise.store import MetadataValue

__all__ = ["ColumnKind", "is_kept"]

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FIXED_POINT = re.compile(r"-?(0|[1-9][0-9]*)\.([0-9]+)")
_MOST_DIGITS = 15  # what every float64 keeps


def is_kept(number: int) -> bool:
    """Whether SQLite takes an integer."""
    return -(2**63) <= number < 2**63


class ColumnKind:
    """Learns from all values of a column, none of them empty, how to read each.

    They are numbers if each is written as Python would write it again (2019, -0.5, 1e-05), or if all are decimals with
    as many places (12.50 and 9.90). So codes such as 007, 1e5 or 4006381333931000000000, and versions such as 1.9 and
    1.10, stay texts. Values that are all true or false, however capitalised, become true and false.
    """

    def __init__(self) -> None:
        self._canonical = self._fixed = self._truths = True
        self._places: int | None = None

    def see(self, text: str) -> None:
        """Learn from a value."""
        if self._truths:
            self._truths = text.casefold() in ("true", "false")
        if self._canonical:
            self._canonical = _is_canonical(text)
        if self._fixed:
            match = _FIXED_POINT.fullmatch(text)
            places = len(match[2]) if match else 0
            self._fixed = bool(match) and len(text.lstrip("-")) <= _MOST_DIGITS and self._places in (None, places)
            self._places = places

    @property
    def reader(self) -> Callable[[str], MetadataValue]:
        """Turns a text of the column into its value."""
        if self._truths:
            return str.casefold
        return _number if self._canonical or self._fixed else str


def _is_canonical(text: str) -> bool:
    if _INTEGER.fullmatch(text):
        return text != "-0" and len(text) <= 20 and is_kept(int(text))
    try:
        number = float(text)
    except ValueError:
        return False
    return math.isfinite(number) and repr(number) == text


def _number(text: str) -> int | float:
    return int(text) if _INTEGER.fullmatch(text) else float(text)
