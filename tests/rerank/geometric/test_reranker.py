"""Hits after geometric verification."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from patchwise.errors import ImageUnreadable
from patchwise.images import Picture
from patchwise.rerank import Question
from patchwise.rerank.base import Arrays
from patchwise.rerank.geometric import Geometric, raised
from patchwise.search import Hit, RegionScore
from rerank.geometric.scenes import stand, textured, turned

SIZE = (800, 600)
POSTER = textured(1)
CORNERS = turned((450, 300), 260, 20)
PICTURES = {
    "shows": stand(textured(100, SIZE), POSTER, CORNERS),
    "other": textured(101, SIZE),
    "plain": Image.new("RGB", SIZE, "grey"),
    "twice": stand(
        stand(textured(102, SIZE), POSTER, turned((200, 200), 240, 0)), POSTER, turned((580, 400), 300, -10)
    ),
}


class Pictures:
    """Remembers nothing, and knows what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, hit: Hit, name: str, compute: Callable[[Picture], Arrays]) -> Arrays:
        self.asked.append((hit.path, name))
        if hit.path not in PICTURES:
            raise ImageUnreadable(hit.path, "no such file")
        return compute(Picture(PICTURES[hit.path], PICTURES[hit.path].size))


def hit(path: str, score: float, size: tuple[int, int] = SIZE) -> Hit:
    regions = tuple(RegionScore((0, 0, 400 - cut, 300), 1, (0, 0), score - cut / 1000) for cut in (0, 10))
    return Hit(1, path, score, regions[0].box, 1, (0, 0), size, regions)


def question(picture: Image.Image | None = POSTER) -> Question:
    return Question(np.ones(1, dtype=np.float32), opened=None if picture is None else lambda: picture)


def rerank(hits: list[Hit], picture: Image.Image | None = POSTER, depth: int = 50) -> list[Hit]:
    return Geometric(Pictures(), depth=depth).rerank(question(picture), hits)


def test_a_verified_hit_rises_and_has_its_outline() -> None:
    before = [hit("other", 0.7), hit("plain", 0.6), hit("shows", 0.3)]
    found = rerank(before)
    assert [each.path for each in found] == ["shows", "other", "plain"]
    verified = found[0]
    assert verified.geometry is not None
    assert verified.geometry.verdict == "verified"
    assert verified.geometry.inliers > 20
    assert np.abs(np.array(verified.geometry.outline) - CORNERS).max() < 3
    assert verified.box == pytest.approx([*CORNERS.min(axis=0), *CORNERS.max(axis=0)], abs=3)
    assert 0.7 < verified.score <= 1
    assert verified.regions[0] == RegionScore(verified.box, -1, (-1, -1), verified.score)
    assert verified.regions[1] == before[2].regions[0]
    assert len(verified.regions) == len(before[2].regions)
    assert verified.instances == ()


def test_the_others_keep_score_and_box_and_say_why() -> None:
    before = [hit("other", 0.9), hit("plain", 0.8)]
    after = rerank(before)
    assert [each.geometry.verdict for each in after if each.geometry] == ["not verified", "not enough texture"]
    for old, new in zip(before, after, strict=True):
        assert (new.score, new.box, new.regions) == (old.score, old.box, old.regions)
        assert new.geometry is not None
        assert new.geometry.outline == ()


def test_further_places_are_instances() -> None:
    (found,) = rerank([hit("twice", 0.5)])
    assert len(found.instances) == 1
    middles = sorted([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] for box in (found.box, found.instances[0].box))
    assert np.allclose(middles, [(200, 200), (580, 400)], atol=12)
    assert found.score <= 1
    assert found.instances[0].score > 0.5


def test_a_query_without_texture_changes_nothing_but_the_verdict() -> None:
    after = rerank([hit("shows", 0.3), hit("other", 0.2)], Image.new("RGB", (200, 100), "white"))
    assert [(each.path, each.score) for each in after] == [("shows", 0.3), ("other", 0.2)]
    assert {each.geometry.verdict for each in after if each.geometry} == {"not enough texture"}


def test_hits_that_are_gone_or_were_changed_and_questions_without_a_picture_stay_as_they_are() -> None:
    before = [hit("gone", 0.5), hit("shows", 0.4, size=(801, 600))]
    assert rerank(before) == before
    assert rerank([hit("shows", 0.3)], None) == [hit("shows", 0.3)]
    assert rerank([]) == []


def test_only_so_many_are_looked_at_and_stay_before_the_rest() -> None:
    pictures = Pictures()
    before = [hit("other", 0.5), hit("plain", 0.4), hit("shows", 0.3)]
    after = Geometric(pictures, depth=2).rerank(question(), before)
    assert [each.path for each in after] == ["other", "plain", "shows"]
    assert [path for path, _ in pictures.asked] == ["other", "plain"]
    assert after[2] == before[2]


def test_features_are_kept_under_all_that_decides_them() -> None:
    pictures = Pictures()
    Geometric(pictures).rerank(question(), [hit("other", 0.5), hit("shows", 0.4)])
    (name,) = {name for _, name in pictures.asked}
    assert name.startswith("local-features:sift:2048:1024")


def test_small_pictures_of_a_query_are_enough() -> None:
    small = POSTER.resize((96, 72), Image.Resampling.LANCZOS)
    (found,) = rerank([hit("shows", 0.3)], small)
    assert found.geometry is not None
    assert found.geometry.verdict == "verified"
    assert np.abs(np.array(found.geometry.outline) - CORNERS).max() < 8


def test_the_score_is_that_of_the_rule() -> None:
    (found,) = rerank([hit("shows", 0.3)])
    assert raised(0.3, -3.0) < found.score <= raised(0.3, -math.inf)
