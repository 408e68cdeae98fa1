"""The whole image as its only region: one global vector per image, the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from patchwise.regions.base import Regions
from patchwise.regions.pyramid import Pyramid

__all__ = ["Whole"]


@dataclass(frozen=True)
class Whole:
    """One region per image."""

    @property
    def name(self) -> str:
        return "whole"

    def regions(self, size: tuple[int, int]) -> Regions:
        return Pyramid(0).regions(size)
