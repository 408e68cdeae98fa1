"""The whole image as its only region: one global vector per image, the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from patchwise.regions.base import Regions, View
from patchwise.regions.pyramid import Pyramid

__all__ = ["Whole"]


@dataclass(frozen=True)
class Whole:
    """One region per image."""

    @property
    def name(self) -> str:
        return "whole"

    @property
    def typical_count(self) -> int:
        return 1

    def finest_side(self, view: View) -> float:
        return min(view.size)

    def regions(self, view: View) -> Regions:
        return Pyramid(0).regions(view)
