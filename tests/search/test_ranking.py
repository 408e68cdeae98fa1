"""Ranking: order, ties, paging and regions of hits, against brute force over the files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import FakeEncoder, make_picture
from patchwise import Explanation, Gallery, Hit
from patchwise.errors import UsageError
from patchwise.search import Candidates, CompressedSearcher, ExactSearcher, Searcher, compressed, exact, rank
from patchwise.store import Selection, Snapshot
from search.coded import WIDE, index_of
from search.conftest import LEVELS, Stored, ranked

EVERYTHING = 1000


class EveryPicture:
    """A searcher without any idea: everything may rank."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._pictures = np.arange(len(snapshot))[::-1]

    def top(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> list[Candidates]:
        return [Candidates(self._pictures, np.zeros(len(self._pictures), np.float32)) for _ in queries]


@pytest.fixture(scope="module")
def answers(gallery: Gallery, queries: np.ndarray) -> list[list[Hit]]:
    return list(gallery.search_vectors(queries, k=EVERYTHING))


def test_hits_are_those_of_brute_force(
    answers: list[list[Hit]], stored: dict[str, Stored], queries: np.ndarray
) -> None:
    for hits, query in zip(answers, queries, strict=True):
        expected = ranked(stored, query)
        assert [hit.path for hit in hits] == [path for _, path, _ in expected]
        np.testing.assert_allclose([hit.score for hit in hits], [score for score, _, _ in expected], atol=1e-12)
        assert [hit.rank for hit in hits] == list(range(1, len(stored) + 1))


def test_the_winning_region_is_the_first_of_the_best(
    answers: list[list[Hit]], stored: dict[str, Stored], queries: np.ndarray
) -> None:
    for hits, query in zip(answers, queries, strict=True):
        for hit in hits:
            scores = stored[hit.path].scores(query)
            first = next(i for i, score in enumerate(scores) if math.isclose(score, max(scores), abs_tol=1e-12))
            region = stored[hit.path].regions[first]
            assert hit.box == tuple(region["box"].tolist())
            assert (hit.level, hit.cell) == (region["level"], (region["row"], region["column"]))
            assert hit.size == stored[hit.path].size


def test_the_ten_best_regions_best_first(
    answers: list[list[Hit]], stored: dict[str, Stored], queries: np.ndarray
) -> None:
    for hit, query in ((hit, query) for hits, query in zip(answers, queries, strict=True) for hit in hits):
        scores, table = stored[hit.path].scores(query), stored[hit.path].regions
        best = sorted(range(len(scores)), key=lambda i: (-round(scores[i], 12), i))[:10]
        np.testing.assert_allclose([region.score for region in hit.regions], [scores[i] for i in best], atol=1e-12)
        assert [region.box for region in hit.regions] == [tuple(table[i]["box"].tolist()) for i in best]
        assert (hit.score, hit.box, hit.level, hit.cell) == (
            hit.regions[0].score,
            hit.regions[0].box,
            hit.regions[0].level,
            hit.regions[0].cell,
        )


def test_boxes_lie_inside_their_image(answers: list[list[Hit]]) -> None:
    for hit in (hit for hits in answers for hit in hits):
        for x0, y0, x1, y1 in (region.box for region in hit.regions):
            assert 0 <= x0 < x1 <= hit.size[0]
            assert 0 <= y0 < y1 <= hit.size[1]


def test_a_score_is_the_maximum_of_its_explanation(
    gallery: Gallery, answers: list[list[Hit]], stored: dict[str, Stored], queries: np.ndarray
) -> None:
    for hits, query in zip(answers[::4], queries[::4], strict=True):
        for hit in hits:
            explanation = gallery.explain_vector(query, hit)
            assert (explanation.path, explanation.size) == (hit.path, hit.size)
            assert max(region.score for region in explanation.regions) == hit.score
            assert set(hit.regions) <= set(explanation.regions)
            np.testing.assert_allclose(
                [region.score for region in explanation.regions], stored[hit.path].scores(query), atol=1e-12
            )
            assert gallery.explain_vector(query, Path(hit.path)) == explanation


@settings(max_examples=60, deadline=None)
@given(
    query=st.integers(0, 1000),
    k=st.integers(1, 30),
    offset=st.integers(0, 30),
    min_score=st.none() | st.floats(-1.1, 1.1),
)
def test_a_page_is_a_piece_of_the_whole_answer(
    gallery: Gallery,
    answers: list[list[Hit]],
    queries: np.ndarray,
    query: int,
    k: int,
    offset: int,
    min_score: float | None,
) -> None:
    query %= len(queries)
    (page,) = gallery.search_vectors(queries[query][None], k=k, offset=offset, min_score=min_score)
    kept = [hit for hit in answers[query] if min_score is None or hit.score >= min_score]
    assert page == kept[offset : offset + k]


def test_min_score_is_inclusive(gallery: Gallery, answers: list[list[Hit]], queries: np.ndarray) -> None:
    copies = [hit for hit in answers[-1] if hit.path.endswith("05.png")]
    score, last = copies[0].score, copies[-1].rank
    (kept,) = gallery.search_vectors(queries[-1:], k=EVERYTHING, min_score=score)
    assert len(kept) == last
    (kept,) = gallery.search_vectors(queries[-1:], k=EVERYTHING, min_score=np.nextafter(score, 2))
    assert len(kept) == last - 3


def test_nothing_may_be_left(gallery: Gallery, queries: np.ndarray) -> None:
    assert list(gallery.search_vectors(queries[:2], min_score=1.5)) == [[], []]
    assert list(gallery.search_vectors(queries[:2], offset=EVERYTHING)) == [[], []]
    assert list(gallery.search_vectors(queries[:0])) == []


@pytest.mark.parametrize(("k", "offset"), [(0, 0), (-1, 0), (1, -1)])
def test_paging_that_makes_no_sense(gallery: Gallery, queries: np.ndarray, k: int, offset: int) -> None:
    with pytest.raises(UsageError, match=f"not {k} and {offset}"):
        gallery.search_vectors(queries, k=k, offset=offset)


@pytest.mark.parametrize("k", [1, 4, EVERYTHING])
def test_one_query_or_many(gallery: Gallery, queries: np.ndarray, k: int) -> None:
    together = list(gallery.search_vectors(queries, k=k))
    assert together == [next(gallery.search_vectors(query[None], k=k)) for query in queries]


@pytest.mark.parametrize("k", [1, 4, EVERYTHING])
def test_whatever_found_the_candidates(snapshot: Snapshot, queries: np.ndarray, k: int) -> None:
    resident = list(rank(snapshot, ExactSearcher(snapshot, 10**9), queries, k=k))
    assert list(rank(snapshot, ExactSearcher(snapshot, 0), queries, k=k)) == resident
    assert list(rank(snapshot, EveryPicture(snapshot), queries, k=k)) == resident


@pytest.fixture(scope="module")
def searchers(snapshot: Snapshot) -> dict[str, Searcher]:
    index = index_of(snapshot)
    return {
        "in memory": ExactSearcher(snapshot, 10**9),
        "on disk": ExactSearcher(snapshot, 0),
        "by codes": CompressedSearcher(snapshot, index, WIDE),
    }


@settings(max_examples=80, deadline=None)
@given(data=st.data(), k=st.integers(1, 20), offset=st.integers(0, 5), picked=st.sampled_from([0.0, exact._PICKED, 1]))
@pytest.mark.parametrize("which", ["in memory", "on disk", "by codes"])
def test_any_selection_gives_the_whole_answer_without_what_is_left_out(
    snapshot: Snapshot,
    searchers: dict[str, Searcher],
    answers: list[list[Hit]],
    queries: np.ndarray,
    which: str,
    data: st.DataObject,
    k: int,
    offset: int,
    picked: float,
) -> None:
    """However many may be found, and whether they are picked out or everything is passed over."""
    paths = sorted(hit.path for hit in answers[0])
    selected = data.draw(st.sets(st.sampled_from(paths)) | st.just(set(paths)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_PICKED", picked)
        patch.setattr(compressed, "_SCANNED_PER_SCORED", 10**9)
        patch.setattr(compressed, "_LEAST_REGIONS", 1)
        selection = Selection(tuple(sorted(selected)))
        found = list(rank(snapshot, searchers[which], queries, k=k, offset=offset, selection=selection))
    for hits, whole in zip(found, answers, strict=True):
        left = [hit for hit in whole if hit.path in selected][offset : offset + k]
        assert [hit.path for hit in hits] == [hit.path for hit in left]
        assert [hit.rank for hit in hits] == list(range(offset + 1, offset + 1 + len(hits)))
        assert [hit.regions for hit in hits] == [hit.regions for hit in left]


def test_identical_files_are_ordered_by_path(answers: list[list[Hit]]) -> None:
    for hits in answers:
        copies = [hit for hit in hits if hit.path.endswith("05.png")]
        assert [Path(hit.path).name for hit in copies] == ["00 copy of 05.png", "05.png", "copy of 05.png"]
        assert len({(hit.score, hit.box, hit.regions) for hit in copies}) == 1
        assert [hit.rank - copies[0].rank for hit in copies] == [0, 1, 2]


def test_pictures_that_tie_are_ordered_by_path_even_across_pages(gallery: Gallery, queries: np.ndarray) -> None:
    for query in queries:
        seen = [next(gallery.search_vectors(query[None], k=1, offset=offset)) for offset in range(15)]
        plain = [Path(hit.path).name for (hit,) in seen if "plain" in hit.path]
        assert plain == ["plain a.png", "plain b.png", "plain c.png"]


def test_regions_that_tie_are_in_region_order(answers: list[list[Hit]]) -> None:
    hit = next(hit for hit in answers[0] if "plain a" in hit.path)
    assert (hit.box, hit.level, hit.cell) == ((0, 0, 40, 30), 0, (0, 0))
    assert len({region.score for region in hit.regions}) == 1
    order = [
        (level, (row, column)) for level in range(LEVELS) for row in range(level + 1) for column in range(level + 1)
    ]
    assert [(region.level, region.cell) for region in hit.regions] == order[:10]


def test_a_removed_picture_is_not_found(answers: list[list[Hit]]) -> None:
    assert not any(hit.path.endswith("/06.png") for hits in answers for hit in hits)


def test_an_empty_gallery_answers_with_nothing(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g.pw", encoder=FakeEncoder()) as gallery:
        assert gallery.search(make_picture(0)) == []


def test_an_image_that_is_not_in_the_gallery_cannot_be_explained(gallery: Gallery, queries: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"/nowhere\.png: not in the gallery"):
        gallery.explain_vector(queries[0], "/nowhere.png")


def test_a_picture_finds_itself_and_where_it_is_part_of_another(tmp_path: Path) -> None:
    small = make_picture(50, (40, 30))
    scene = make_picture(51, (160, 120))
    scene.paste(small, (80, 60))
    folder = tmp_path / "pictures"
    folder.mkdir()
    scene.save(folder / "scene.png")
    small.save(folder / "small.png")
    for seed in range(20):
        make_picture(seed, (160, 120)).save(folder / f"{seed:02d}.png")
    with Gallery.create(tmp_path / "g.pw", encoder=FakeEncoder(), regions="pyramid:3") as gallery:
        gallery.add(folder)
        part, itself, other, *_ = gallery.search(small)
        assert (Path(part.path).name, part.level, part.cell, part.box) == ("scene.png", 3, (2, 2), (80, 60, 120, 90))
        assert (Path(itself.path).name, itself.level, itself.box) == ("small.png", 0, (0, 0, 40, 30))
        assert part.score == itself.score == pytest.approx(1, abs=1e-3)
        assert other.score < 0.9
        assert gallery.search(folder / "scene.png", box=(80, 60, 120, 90))[:2] == [part, itself]
        explanation = gallery.explain(small, part)
        assert isinstance(explanation, Explanation)
        assert len(explanation.regions) == 30
        assert max(explanation.regions, key=lambda region: region.score) == part.regions[0]


@pytest.mark.parametrize("size", [(1, 1), (7, 300)])
def test_any_size_can_be_searched_for(gallery: Gallery, size: tuple[int, int]) -> None:
    assert gallery.search(Image.new("RGB", size, (200, 30, 30)), k=3)
