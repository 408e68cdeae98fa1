"""Hits made by hand, with the file names that break careless programs."""

from __future__ import annotations

import pytest

from patchwise import Explanation, Hit, RegionScore

HOSTILE = [
    "/photos/<script>alert(1)</script>.jpg",
    "/photos/\"quoted\" & 'quoted'.jpg",
    "/photos/two\nlines\tand a tab\r.jpg",
    "/photos/\x1b[31mred\x1b[0m.jpg",
    "/photos/$title ${sections} $$ %s {0}.jpg",
    "/photos/right-to-left \u202egpj.exe",
    "/photos/bytes that are no text \udcff\udc80.jpg",
    "/photos/日本語 ü 🎈 " + "long " * 60 + ".jpg",
    "/photos/\" onerror=alert(1) x='.jpg",
    "/photos/a#b?c%41.jpg",
]


def make_hit(rank: int = 1, path: str = "/photos/a.jpg", score: float = 0.87654321) -> Hit:
    whole = RegionScore((0.0, 0.0, 200.0, 100.0), 0, (0, 0), score - 0.5)
    best = RegionScore((100.0, 50.0, 200.0, 100.0), 1, (1, 1), score)
    return Hit(rank, path, score, best.box, best.level, best.cell, (200, 100), (best, whole), (), 0.0012345)


def make_explanation(hit: Hit) -> Explanation:
    return Explanation(hit.path, hit.size, tuple(sorted(hit.regions, key=lambda region: region.level)))


@pytest.fixture
def hostile_hits() -> list[Hit]:
    return [make_hit(rank, path, 1 - rank / 20) for rank, path in enumerate(HOSTILE, start=1)]
