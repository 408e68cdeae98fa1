"""The codes of a gallery as they were found: either all that is known of them can be used, or there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from patchwise.search import Margins
from patchwise.store import Codes, Store

__all__ = ["FoundCodes", "found_codes"]


@dataclass(frozen=True)
class FoundCodes:
    """Codes that can be searched, and what was measured with them.

    Args:
        codes: the generation in use.
        margins: with which they are searched.
        regions: how many the gallery held when it was measured.
        recall: for each k, when the codes were made and after the last larger addition.
        recall_now: for each k, with the margins as they are now.
        advice: what had better be done, if anything.
    """

    codes: Codes
    margins: Margins
    regions: int
    recall: dict[int, float]
    recall_now: dict[int, float]
    advice: str | None


def found_codes(store: Store) -> FoundCodes | None:
    """The codes of a gallery; None where there are none that can be used, for whatever reason."""
    codes = Codes.open(store.folder, store.manifest.dimension)
    if codes is None:
        return None
    measured = codes.record.calibration
    try:
        margins, recall = Margins.from_json(measured["margins"]), _by_k(measured["recall"])
        now, advice = _by_k(measured.get("recall_now", measured["recall"])), measured.get("advice")
        return FoundCodes(
            codes, margins, int(measured["regions"]), recall, now, None if advice is None else str(advice)
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None


def _by_k(measured: Mapping[str, Any]) -> dict[int, float]:
    return {int(k): float(recall) for k, recall in measured.items()}
