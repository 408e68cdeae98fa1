"""Margins that are measured with some queries keep their word with others, whatever the gallery looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from patchwise.compression.calibrate import HeldOut, calibrate, held_out, measured_recall
from patchwise.search import CodeIndex, CompressedSearcher, Margins, compressed
from patchwise.search.margins import DEFAULT_RECALL
from patchwise.store import Snapshot
from search.coded import clustered_pictures, index_of, make_store, random_pictures, true_scores, unit


@pytest.fixture(autouse=True)
def no_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Galleries are small here: codes are scanned all the same, and from a shortlist as short as can be."""
    monkeypatch.setattr(compressed, "_SCANNED_PER_SCORED", 10**9)
    monkeypatch.setattr(compressed, "_LEAST_REGIONS", 1)


def copies(count: int) -> list[np.ndarray]:
    """Pictures with the very same regions."""
    return random_pictures([3]) * count


def one_theme(count: int) -> list[np.ndarray]:
    return clustered_pictures([3] * count, themes=1, spread=0.15)


GALLERIES: dict[str, Callable[[], list[np.ndarray]]] = {
    "random": lambda: random_pictures([4] * 400),
    "themes": lambda: clustered_pictures([4] * 400),
    "one theme": lambda: one_theme(400),
}


def queries_of(snapshot: Snapshot, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stored regions of pictures drawn at random, and whose they are."""
    generator = np.random.default_rng(seed)
    own = generator.choice(len(snapshot), count)
    vectors = np.stack([generator.choice(snapshot.vectors(int(picture))) for picture in own])
    return unit(vectors.astype(np.float32)), own.astype(np.int64)


def asked(snapshot: Snapshot, count: int, seed: int) -> HeldOut:
    return held_out(snapshot, *queries_of(snapshot, count, seed), lambda: None)


def recall_of(searcher: CompressedSearcher, snapshot: Snapshot, k: int, count: int, seed: int) -> float:
    """The share of the k best other pictures found by queries of another seed, counted one by one."""
    vectors, own = queries_of(snapshot, count, seed)
    truth = true_scores(snapshot, vectors)
    truth[np.arange(count), own] = -2
    shares = []
    for scores, found, picture in zip(truth, searcher.top(vectors, k + 1), own.tolist(), strict=True):
        others = found.pictures[found.pictures != picture]
        best = others[np.argsort(-scores[others])][:k]
        limit = np.sort(scores)[-k]
        shares.append((scores[best] >= limit - 3e-6).sum() / k)  # of pictures that tie, any will do
    return float(np.mean(shares))


@pytest.mark.parametrize("codec", ["fastscan:4", "ivf:8:8"])
@pytest.mark.parametrize("gallery", GALLERIES)
def test_other_queries_find_what_was_promised(tmp_path: Path, gallery: str, codec: str) -> None:
    """With slack for what 150 queries can tell: 1.5 % of the hits, and never because everything is looked at."""
    snapshot = make_store(tmp_path / "g", GALLERIES[gallery]()).snapshot()
    index = index_of(snapshot, codec)
    margins = calibrate(snapshot, index, asked(snapshot, 100, seed=1))
    for recall in (0.9, DEFAULT_RECALL):
        searcher = CompressedSearcher(snapshot, index, margins, recall=recall)
        for k in (10, 100):
            assert recall_of(searcher, snapshot, k, 150, seed=2) >= recall - 0.015
            assert margins.margin(recall, k) > 0
    assert (margins.lists > 0) == codec.startswith("ivf")


def test_what_is_measured_is_what_is_counted(tmp_path: Path) -> None:
    """Coarse codes and next to no margin: most is missed, and that is what the measure says."""
    snapshot = make_store(tmp_path / "g", clustered_pictures([4] * 300)).snapshot()
    index = index_of(snapshot, "fastscan:2")
    narrow = Margins(((0.5, 0.0), (0.999, 0.0)), ((1, 1),))
    searcher = CompressedSearcher(snapshot, index, narrow)
    told = measured_recall(searcher, asked(snapshot, 80, seed=5))
    assert told.keys() == {10, 100}
    for k, recall in told.items():
        assert recall == pytest.approx(recall_of(searcher, snapshot, k, 80, seed=5), abs=0.005)
    assert min(told.values()) < 0.95


@pytest.mark.parametrize("codec", ["fastscan:8", "SQ8"])
def test_of_pictures_that_tie_any_will_do(tmp_path: Path, codec: str) -> None:
    """Each of 100 pictures is there three times, so that most hits tie with others."""
    snapshot = make_store(tmp_path / "g", clustered_pictures([2] * 100) * 3).snapshot()
    queries = asked(snapshot, 40, seed=0)
    wide = Margins(((0.5, 9.0), (0.999, 9.0)), ((1, 1),))
    assert set(measured_recall(CompressedSearcher(snapshot, index_of(snapshot, codec), wide), queries).values()) == {
        1.0
    }


def test_the_same_queries_give_the_same_margins(tmp_path: Path) -> None:
    snapshot = make_store(tmp_path / "g", clustered_pictures([4] * 200)).snapshot()
    index, queries = index_of(snapshot, "fastscan:4"), asked(snapshot, 60, seed=1)
    assert calibrate(snapshot, index, queries) == calibrate(snapshot, index, queries)


def test_margins_rise_with_the_recall_and_better_codes_take_less_work(tmp_path: Path) -> None:
    snapshot = make_store(tmp_path / "g", clustered_pictures([4] * 400)).snapshot()
    queries = asked(snapshot, 100, seed=1)
    found = [calibrate(snapshot, index_of(snapshot, codec), queries) for codec in ("fastscan:2", "fastscan:8", "SQ8")]
    for margins in found:
        recalls, widths = zip(*margins.margins, strict=True)
        assert list(recalls) == sorted(recalls) and list(widths) == sorted(widths)
        assert [k for k, _ in margins.regions] == [k for k, _ in margins.factors] == [10, 100]
        assert [recall for recall, _ in margins.effort] == list(recalls)
    for k in (10, 100):
        work = [margins.expected_regions(DEFAULT_RECALL, k) for margins in found]
        assert work == sorted(work, reverse=True) and work[0] > work[-1]


def test_codes_that_lose_nothing_need_no_line_and_no_work(tmp_path: Path) -> None:
    snapshot = make_store(tmp_path / "g", random_pictures([1] * 300)).snapshot()
    margins = calibrate(snapshot, index_of(snapshot, "SQfp16"), asked(snapshot, 60, seed=1))
    assert margins.slope == pytest.approx(1, abs=1e-3) and margins.offset == pytest.approx(0, abs=1e-3)
    assert margins.margin(DEFAULT_RECALL, 10) < 0.01
    assert 10 <= margins.expected_regions(DEFAULT_RECALL, 10) < 20  # one region a picture


@pytest.mark.parametrize("codec", ["fastscan:4", "pq:8", "SQ8"])
@pytest.mark.parametrize("pictures", [copies(30), copies(2), random_pictures([2, 3]), one_theme(5)])
def test_odd_galleries_are_measured_and_found_in(tmp_path: Path, pictures: list[np.ndarray], codec: str) -> None:
    snapshot = make_store(tmp_path / "g", pictures).snapshot()
    index = index_of(snapshot, codec)
    queries = asked(snapshot, 24, seed=0)
    margins = calibrate(snapshot, index, queries)
    assert Margins.from_json(margins.as_json()) == margins and np.isfinite(margins.margin(DEFAULT_RECALL, 10))
    searcher = CompressedSearcher(snapshot, index, margins)
    assert max(queries.ks) <= max(len(snapshot) // 2, 1)
    for k in queries.ks:
        assert recall_of(searcher, snapshot, k, 24, seed=3) >= 0.95


def test_held_out_queries_leave_their_own_picture_out(tmp_path: Path) -> None:
    snapshot = make_store(tmp_path / "g", clustered_pictures([3] * 50)).snapshot()
    vectors, own = queries_of(snapshot, 20, seed=0)
    own[5:] = -1  # not of this gallery
    told: list[int] = []
    queries = held_out(snapshot, vectors, own, lambda: told.append(1))
    assert told == [1] and queries.ks == (10,)
    truth = true_scores(snapshot, vectors)
    for scores, picture, best in zip(truth, own.tolist(), queries.best, strict=True):
        if picture >= 0:
            assert picture not in best.pictures
            scores[picture] = -2
        assert len(best.pictures) == 10
        np.testing.assert_allclose(best.scores, np.sort(scores)[::-1][:10], atol=2e-6)
        np.testing.assert_allclose(best.scores, scores[best.pictures], atol=2e-6)


def test_parts_of_the_queries(tmp_path: Path) -> None:
    snapshot = make_store(tmp_path / "g", random_pictures([2] * 9)).snapshot()
    queries = asked(snapshot, 7, seed=0)
    part = queries.part(slice(2, None, 3), slice(0, None, 3))  # 2, 5 and 0, 3, 6
    assert part.own.tolist() == queries.own[[0, 2, 3, 5, 6]].tolist()
    np.testing.assert_array_equal(part.vectors, queries.vectors[[0, 2, 3, 5, 6]])
    assert [id(best) for best in part.best] == [id(queries.best[number]) for number in (0, 2, 3, 5, 6)]
    assert part.ks == queries.ks == (4,)


@pytest.mark.parametrize(
    ("pictures", "ks"), [(2, (1,)), (7, (3,)), (19, (9,)), (20, (10,)), (199, (10,)), (200, (10, 100))]
)
def test_half_of_all_pictures_is_asked_for_at_most(tmp_path: Path, pictures: int, ks: tuple[int, ...]) -> None:
    snapshot = make_store(tmp_path / "g", random_pictures([1] * pictures, 8)).snapshot()
    assert asked(snapshot, 2, seed=0).ks == ks


def test_an_index_is_not_changed_by_being_measured(tmp_path: Path) -> None:
    snapshot = make_store(tmp_path / "g", clustered_pictures([4] * 60)).snapshot()
    index: CodeIndex = index_of(snapshot, "fastscan:4")
    (query,), _ = queries_of(snapshot, 1, seed=4)
    depths = np.full(len(index), 5)
    before = index.scan(query[None], depths)
    calibrate(snapshot, index, asked(snapshot, 12, seed=0))
    after = index.scan(query[None], depths)
    np.testing.assert_array_equal(before[0][0].scores, after[0][0].scores)
