"""Near-duplicates among hits: who leads, who joins, and what stays by itself."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from conftest import FakeEncoder, make_picture
from patchwise.errors import ImageUnreadable
from patchwise.images import Picture, cut_regions
from patchwise.regions import View, parse_regions
from patchwise.search import Hit
from patchwise.search.collapse import (
    NEAR_DUPLICATE,
    collapsed,
    in_place,
    near_duplicate_from,
    unrelated_likeness,
)


def hit(name: str, rank: int = 1) -> Hit:
    return Hit(rank, name, 1 / rank, (0.0, 0.0, 9.0, 9.0), 0, (0, 0), (9, 9), ())


def at(*degrees: float) -> np.ndarray:
    """Regions as unit vectors of a plane: (regions, 2)."""
    turned = np.deg2rad(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


def groups(stored: dict[str, np.ndarray], threshold: float = NEAR_DUPLICATE, **options: float) -> list[str]:
    """The names of each group, the one that leads first."""
    hits = [hit(name, rank) for rank, name in enumerate(stored, 1)]
    rows = collapsed(hits, lambda each: stored[each.path], threshold, **options)
    return [row.path + "".join(member.path for member in row.alike) for row in rows]


def test_the_best_leads_and_the_others_follow_in_their_order() -> None:
    stored = {"a": at(0, 0), "b": at(90, 90), "c": at(5, 5), "d": at(85, 95), "e": at(2, -2), "f": at(180, 0)}
    assert groups(stored) == ["ace", "bd", "f"]
    rows = collapsed([hit(name, rank) for rank, name in enumerate(stored, 1)], lambda each: stored[each.path], 0.7)
    assert [row.rank for row in rows] == [1, 2, 6]
    assert rows[0].alike == (hit("c", 3), hit("e", 5))


def test_all_regions_count_and_each_in_its_place() -> None:
    """By hand: cosines of 1 and .4 are .7 on average."""
    turned = float(np.rad2deg(np.arccos(0.4)))
    assert groups({"a": at(0, 0), "b": at(0, turned - 0.1)}) == ["ab"]
    assert groups({"a": at(0, 0), "b": at(0, turned + 0.1)}) == ["a", "b"]
    assert groups({"a": at(0, 90), "b": at(90, 0)}) == ["a", "b"]  # the same regions, elsewhere


def test_groups_do_not_drift() -> None:
    """Each is like the one before it, and the last is not like the first."""
    chain = {"a": at(0), "b": at(40), "c": at(80), "d": at(41)}
    assert np.cos(np.deg2rad(40)) > NEAR_DUPLICATE
    assert groups(chain) == ["ab", "cd"]


def test_the_most_alike_leader_is_joined() -> None:
    assert groups({"a": at(0), "b": at(60), "c": at(35)}, 0.75) == ["a", "bc"]


def test_likeness_counts_from_that_of_unrelated_pictures() -> None:
    """With .6 between unrelated ones, .8 is but half of the way to the same."""
    pair = {"a": at(0), "b": at(float(np.rad2deg(np.arccos(0.8))))}
    assert groups(pair) == ["ab"] and groups(pair, unrelated=0.6) == ["a", "b"]
    assert groups(pair, 0.49, unrelated=0.6) == ["ab"]


def test_what_cannot_be_compared_stays_by_itself() -> None:
    stored = {"a": at(0), "b": at(0, 0), "c": at(0), "d": np.empty((0, 2)), "e": np.empty((0, 2))}
    assert groups(stored) == ["ac", "b", "d", "e"]

    def gone(each: Hit) -> np.ndarray:
        if each.path == "a":
            raise ImageUnreadable("a", "it is no longer in the gallery")
        return stored["c"]

    rows = collapsed([hit("a"), hit("b"), hit("c")], gone)
    assert [(row.path, len(row.alike)) for row in rows] == [("a", 0), ("b", 1)]
    assert collapsed([], gone) == []


@given(st.lists(st.integers(0, 359), max_size=30), st.integers(0, 30))
def test_more_hits_leave_the_rows_there_are(angles: list[int], fewer: int) -> None:
    """Pages stay as they are when more is fetched; every hit is in one row, in its order."""
    stored = {f"{number}": at(angle) for number, angle in enumerate(angles)}
    hits = [hit(name) for name in stored]
    rows = collapsed(hits, lambda each: stored[each.path], NEAR_DUPLICATE)
    before = collapsed(hits[:fewer], lambda each: stored[each.path], NEAR_DUPLICATE)
    assert [row.path for row in before] == [row.path for row in rows][: len(before)]
    members = [[row.path, *(each.path for each in row.alike)] for row in rows]
    assert sorted(name for row in members for name in row) == sorted(stored)
    assert all(row == sorted(row, key=int) for row in members)
    for row in rows:
        for member in row.alike:
            assert (stored[row.path] @ stored[member.path].T).item() >= NEAR_DUPLICATE - 1e-6


@pytest.mark.parametrize("count", [32, 70])
def test_many_leaders(count: int) -> None:
    eye = np.eye(count, dtype=np.float32)
    stored = {str(number): eye[number % count][None] for number in range(count + 3)}
    rows = collapsed([hit(name) for name in stored], lambda each: stored[each.path])
    assert len(rows) == count
    assert [(row.path, row.alike[0].path) for row in rows if row.alike] == [
        (str(number), str(number + count)) for number in range(3)
    ]


def test_fewer_regions_have_to_be_more_alike() -> None:
    assert [near_duplicate_from(n) for n in (1, 5, 14, 30, 84)] == [0.95, 0.85, 0.75, 0.7, 0.7]
    turned = float(np.rad2deg(np.arccos(0.9)))
    for regions, alike in ((1, False), (2, True), (30, True)):
        stored = {"a": at(*[0] * regions), "b": at(*[turned] * regions)}
        rows = collapsed([hit("a"), hit("b")], lambda each, stored=stored: stored[each.path])
        assert len(rows) == (1 if alike else 2), regions


def test_regions_of_no_grid_are_not_compared() -> None:
    vectors = at(0, 10, 20)
    np.testing.assert_array_equal(in_place(vectors, np.array([0, 1, 1])), vectors)
    np.testing.assert_array_equal(in_place(vectors, np.array([-1, -1, -1])), vectors[:1])
    np.testing.assert_array_equal(in_place(vectors, np.array([0, -1, -1])), vectors[:1])


def test_the_likeness_of_unrelated_pictures_is_that_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(0.3, 1, (7, 5, 16))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    pairs = [(a * b).sum(axis=1).mean() for a, b in combinations(vectors, 2)]
    assert unrelated_likeness(vectors) == pytest.approx(np.mean(pairs))
    other = list(vectors[:3, :2])
    both = [*pairs, *((a * b).sum(axis=1).mean() for a, b in combinations(other, 2))]
    assert unrelated_likeness([*vectors, *other]) == pytest.approx(np.mean(both))
    assert unrelated_likeness([]) == unrelated_likeness([vectors[0]]) == unrelated_likeness([vectors[0], other[0]]) == 0


def test_pictures_stored_again_are_one_row_and_others_are_not() -> None:
    """Through pixels: in other quality, size and light, and a little cropped."""
    encoder, strategy = FakeEncoder(), parse_regions("pyramid:2")

    def encoded(pixels: Image.Image) -> np.ndarray:
        boxes = strategy.regions(View(pixels.size)).boxes
        return encoder.encode(cut_regions(Picture(pixels, pixels.size), boxes, 16, encoder.resampling, encoder.fit))

    stored = {}
    for seed in range(6):
        original = make_picture(seed, (120, 90))
        jpeg = io.BytesIO()
        original.save(jpeg, "JPEG", quality=30)
        again = {
            "": original,
            "-jpeg": Image.open(jpeg).convert("RGB"),
            "-half": original.resize((60, 45)),
            "-dark": ImageEnhance.Brightness(original).enhance(0.85),
            "-crop": original.crop((2, 2, 118, 88)),
        }
        stored |= {f"{seed}{name}": encoded(pixels) for name, pixels in again.items()}
    rows = collapsed(
        [hit(name) for name in stored],
        lambda each: stored[each.path],
        unrelated=unrelated_likeness([stored[str(seed)] for seed in range(6)]),
    )
    assert [row.path for row in rows] == [str(seed) for seed in range(6)]
    assert all(len(row.alike) == 4 and {each.path[0] for each in row.alike} == {row.path} for row in rows)
