"""Compressed search against scores computed one by one: all of them at a wide margin, most of them at a narrow one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchwise.search import Candidates, CompressedSearcher, ExactSearcher, Margins, code_index, compressed
from patchwise.search.rescoring import row_scores
from patchwise.store import Snapshot, Store, shards
from search.coded import (
    WIDE,
    assert_exact,
    clustered_pictures,
    encoded_picture,
    index_of,
    make_store,
    random_pictures,
    true_scores,
    unit,
)

COUNTS = [1, 300, 2, 5, 30, 64, 3, 65, 14, 1, 100, 7] * 4  # regions: from one to several segments' worth
MAKERS = {"random": random_pictures, "clustered": clustered_pictures}


@pytest.fixture
def no_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Galleries are small here: codes are scanned all the same, and from a shortlist as short as can be."""
    monkeypatch.setattr(compressed, "_SCANNED_PER_SCORED", 10**9)
    monkeypatch.setattr(compressed, "_LEAST_REGIONS", 1)


class Work:
    """Counts the regions that are scored by their vectors, whoever searches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.regions = 0
        monkeypatch.setattr(compressed, "row_scores", self._counted)

    def _counted(self, snapshot: Snapshot, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
        self.regions += len(rows)
        return row_scores(snapshot, rows, query)

    def of(self, searcher: CompressedSearcher, queries: np.ndarray, k: int) -> tuple[list[Candidates], int]:
        before = self.regions
        return searcher.top(queries, k), self.regions - before


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_index, "_SEGMENT_ROWS", 64)
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 32 * 500)  # 500 regions


def snapshot_of(folder: Path, pictures: list[np.ndarray]) -> Snapshot:
    return make_store(folder / "g", pictures).snapshot()


def some_queries(snapshot: Snapshot, count: int, seed: int = 1) -> np.ndarray:
    """Half of them stored regions, half of them at random."""
    generator = np.random.default_rng(seed)
    own = snapshot.gather(np.sort(generator.choice(snapshot.rows, count // 2, replace=False))).astype(np.float32)
    return np.concatenate([unit(own), unit(generator.normal(size=(count - count // 2, snapshot.dimension)))])


@pytest.mark.usefixtures("no_shortcut", "small_segments")
@pytest.mark.parametrize("codec", ["fastscan:8", "fastscan:3", "pq:8", "opq:8", "ivf:8:6", "SQ8", "RQ4x4"])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_wide_margin_gives_what_exact_search_gives(tmp_path: Path, kind: str, codec: str) -> None:
    snapshot = snapshot_of(tmp_path, MAKERS[kind](COUNTS))
    queries = some_queries(snapshot, 10)
    truth = true_scores(snapshot, queries)
    searcher = CompressedSearcher(snapshot, index_of(snapshot, codec), WIDE, recall=0.999)
    for k in (1, 7, len(snapshot), 1000):
        together = searcher.top(queries, k)
        assert len(together) == len(queries)
        for query, scores, found in zip(queries, truth, together, strict=True):
            assert_exact(found, scores, k)
            alone = searcher.top(query[None], k)[0]
            assert_exact(alone, scores, k)
            assert set(alone.pictures.tolist()) == set(found.pictures.tolist())


def masks(pictures: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    numbers = np.arange(pictures)
    return {
        "1 %": generator.permutation(pictures) < max(pictures // 100, 1),
        "50 %": generator.random(pictures) < 0.5,
        "contiguous": (numbers >= pictures // 3) & (numbers < pictures // 2),
        "empty": numbers < 0,
        "single": numbers == 13,
        "all": numbers >= 0,
        "all but one": numbers != 3,
    }


@pytest.mark.usefixtures("no_shortcut", "small_segments")
@pytest.mark.parametrize("codec", ["fastscan:8", "ivf:8:6"])
@pytest.mark.parametrize("which", masks(1))
def test_only_what_is_allowed_is_found_and_all_of_it(tmp_path: Path, which: str, codec: str) -> None:
    snapshot = snapshot_of(tmp_path, clustered_pictures(COUNTS))
    queries = some_queries(snapshot, 10)
    truth = true_scores(snapshot, queries)
    allowed = masks(len(snapshot))[which]
    searcher = CompressedSearcher(snapshot, index_of(snapshot, codec), WIDE)
    for k in (1, 5, 200):
        for scores, found in zip(truth, searcher.top(queries, k, allowed), strict=True):
            assert_exact(found, scores, k, allowed)
            assert len(found.pictures) >= min(k, allowed.sum())


@pytest.mark.usefixtures("no_shortcut", "small_segments")
def test_every_single_picture_can_be_allowed(tmp_path: Path) -> None:
    """Each in turn, wherever its regions lie: one segment, the end of one, or several."""
    snapshot = snapshot_of(tmp_path, random_pictures(COUNTS))
    queries = some_queries(snapshot, 2)
    truth = true_scores(snapshot, queries)
    searcher = CompressedSearcher(snapshot, index_of(snapshot), WIDE)
    for picture in range(len(snapshot)):
        allowed = np.arange(len(snapshot)) == picture
        for scores, found in zip(truth, searcher.top(queries, 1, allowed), strict=True):
            assert found.pictures.tolist() == [picture]
            assert found.scores[0] <= scores[picture] + 2e-6


@pytest.mark.usefixtures("no_shortcut", "small_segments")
@pytest.mark.parametrize("codec", ["fastscan:8", "ivf:8:6"])
def test_dead_regions_are_never_found(tmp_path: Path, codec: str) -> None:
    """Two of three pictures are forgotten, among them those that fit best."""
    pictures = clustered_pictures(COUNTS)
    with make_store(tmp_path / "g", pictures) as store:
        with store.writer() as writer:
            writer.record(forgotten=[f"/p/{number}" for number in range(len(pictures)) if number % 3])
        snapshot = store.snapshot()
        assert len(snapshot) == -(-len(pictures) // 3)
        queries = unit(np.stack([vectors[0] for vectors in pictures]))  # most of them of what is gone
        truth = true_scores(snapshot, queries)
        searcher = CompressedSearcher(snapshot, index_of(snapshot, codec), WIDE)
        for k in (1, 6, 100):
            for scores, found in zip(truth, searcher.top(queries, k), strict=True):
                assert_exact(found, scores, k)


@pytest.mark.usefixtures("no_shortcut")
@pytest.mark.parametrize("margin", [0.0, 9.0])
def test_the_shortlist_grows_to_the_bound_among_near_duplicates(
    tmp_path: Path, margin: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k - 1 pictures of identical regions that fit better than all else: (k - 1) x regions + 1 codes are looked at."""
    monkeypatch.setattr(code_index, "_SEGMENT_ROWS", 256)
    generator = np.random.default_rng(0)
    query = unit(generator.normal(size=(1, 32)))
    copies, regions = 9, 300
    near = [unit(np.repeat(query, regions, axis=0) + 0.01 * generator.normal(size=(1, 32))) for _ in range(copies)]
    far = random_pictures([5] * 400, seed=3)
    snapshot = snapshot_of(tmp_path, [*far[:200], *near, *far[200:]])
    truth = true_scores(snapshot, query)[0]
    margins = Margins(((0.5, margin), (0.999, margin)), ((1, 4),))
    index = index_of(snapshot, "SQfp16")
    scan, looked = index.scan, []
    monkeypatch.setattr(
        index, "scan", lambda asked, depths, lists: looked.append(int(depths.sum())) or scan(asked, depths, lists)
    )
    searcher = CompressedSearcher(snapshot, index, margins)
    for k in (copies, copies + 1, copies + 20):
        looked.clear()
        (found,) = searcher.top(query, k)
        assert_exact(found, truth, k)
        if k > copies:
            assert sum(looked) >= copies * regions + 1


@pytest.mark.usefixtures("no_shortcut", "small_segments")
def test_identical_pictures_all_tie(tmp_path: Path) -> None:
    """Pictures with one and the same vector: however few are asked for, all of them come."""
    same = random_pictures([3])[0][:1]
    snapshot = snapshot_of(tmp_path, [np.repeat(same, 3, axis=0)] * 50 + random_pictures([4] * 100, seed=1))
    searcher = CompressedSearcher(snapshot, index_of(snapshot), WIDE)
    for k in (1, 10, 49, 50):
        assert set(searcher.top(same, k)[0].pictures.tolist()) == set(range(50))


@pytest.mark.usefixtures("no_shortcut", "small_segments")
def test_without_a_margin_scores_are_exact_all_the_same(tmp_path: Path) -> None:
    """Coarse codes and no margin miss pictures and regions; what is returned is a cosine of a region that is there."""
    snapshot = snapshot_of(tmp_path, clustered_pictures(COUNTS))
    queries = some_queries(snapshot, 20)
    truth = true_scores(snapshot, queries)
    narrow = Margins(((0.5, 0.0), (0.999, 0.0)), ((1, 1),))
    searcher = CompressedSearcher(snapshot, index_of(snapshot, "fastscan:2"), narrow)
    missed = 0
    for query, scores, found in zip(queries, truth, searcher.top(queries, 10), strict=True):
        assert len(found.pictures) >= 10
        for picture, score in zip(found.pictures.tolist(), found.scores.tolist(), strict=True):
            of_regions = snapshot.vectors(picture).astype(np.float64) @ query.astype(np.float64)
            assert np.abs(of_regions - score).min() < 2e-6
        missed += len(set(np.argsort(-scores)[:10].tolist()) - set(found.pictures.tolist()))
    assert missed > 0  # else this says nothing


@pytest.mark.usefixtures("no_shortcut", "small_segments")
def test_more_margin_finds_more_for_more_work(tmp_path: Path, work: Work) -> None:
    snapshot = snapshot_of(tmp_path, clustered_pictures(COUNTS))
    queries = some_queries(snapshot, 30)
    truth = true_scores(snapshot, queries)
    best = [set(np.argsort(-scores)[:10].tolist()) for scores in truth]
    index = index_of(snapshot, "fastscan:2")
    margins = Margins(((0.5, 0.0), (0.9, 0.1), (0.99, 0.3), (0.999, 2.0)), ((1, 1),))
    recalls, scored = [], []
    for recall in (0.5, 0.9, 0.99, 0.999):
        answers, regions = work.of(CompressedSearcher(snapshot, index, margins, recall=recall), queries, 10)
        found = [set(candidates.pictures.tolist()) for candidates in answers]
        recalls.append(np.mean([len(one & other) / 10 for one, other in zip(best, found, strict=True)]))
        scored.append(regions)
    assert recalls == sorted(recalls) and recalls[0] < 0.9 and recalls[-1] == 1
    assert scored == sorted(scored) and scored[0] < scored[-1]


@pytest.mark.usefixtures("no_shortcut", "small_segments")
def test_aiming_at_another_recall(tmp_path: Path, work: Work) -> None:
    snapshot = snapshot_of(tmp_path, clustered_pictures(COUNTS))
    queries = some_queries(snapshot, 5)
    index = index_of(snapshot, "fastscan:2")
    margins = Margins(((0.5, 0.0), (0.999, 2.0)), ((1, 1),))
    low, high = (CompressedSearcher(snapshot, index, margins, recall=recall) for recall in (0.5, 0.999))

    def scored(searcher: CompressedSearcher) -> int:
        return work.of(searcher, queries, 10)[1]

    assert scored(low) < scored(high)
    assert scored(low.aiming_at(0.999)) == scored(high)
    assert scored(high.aiming_at(0.5)) == scored(low)
    assert scored(low.aiming_at(0.5, WIDE)) == scored(high.aiming_at(0.999, WIDE)) > scored(low)
    assert scored(low) < scored(high)  # and they are as they were


@pytest.mark.usefixtures("no_shortcut", "small_segments")
@pytest.mark.parametrize("coded", [0.0, 0.5, 0.97])
def test_regions_without_codes_get_theirs(tmp_path: Path, coded: float) -> None:
    snapshot = snapshot_of(tmp_path, random_pictures(COUNTS))
    queries = some_queries(snapshot, 6)
    whole, part = (CompressedSearcher(snapshot, index_of(snapshot, coded=share), WIDE) for share in (1.0, coded))
    for one, other in zip(whole.top(queries, 5), part.top(queries, 5), strict=True):
        np.testing.assert_array_equal(one.pictures, other.pictures)
        np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.usefixtures("no_shortcut", "small_segments")
def test_shards_of_codes_alone(tmp_path: Path) -> None:
    """Their vectors are what their codes say."""
    from patchwise.codecs import train_codec

    pictures = clustered_pictures(COUNTS)
    codec = train_codec("fastscan:8", np.concatenate(pictures))
    with make_store(tmp_path / "g", pictures) as store:
        store.keep_only_codes(codec)
        with store.writer() as writer:
            writer.add([encoded_picture("more", random_pictures([9], seed=9)[0])])
        snapshot = store.snapshot()
        assert set(map(snapshot.codec_digest, snapshot.shards)) == {codec.digest}
        queries = some_queries(snapshot, 8)
        truth = true_scores(snapshot, queries)
        index = code_index.CodeIndex(snapshot, codec, snapshot.codes)
        searcher = CompressedSearcher(snapshot, index, WIDE)
        for scores, found in zip(truth, searcher.top(queries, 10), strict=True):
            assert_exact(found, scores, 10)


@pytest.mark.usefixtures("no_shortcut", "small_segments")
def test_a_narrow_search_deepens_where_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is sought lies in one of many segments: that one is looked at again, the others are not."""
    query = unit(np.ones((1, 32)))
    generator = np.random.default_rng(0)
    far = [unit(-query + 0.3 * generator.normal(size=(8, 32))) for _ in range(200)]
    near = [unit(query + 0.05 * generator.normal(size=(8, 32))) for _ in range(8)]
    snapshot = snapshot_of(tmp_path, [*far[:96], *near, *far[96:]])
    index = index_of(snapshot, "SQfp16")
    looked: list[np.ndarray] = []
    scan = index.scan

    def noted(queries: np.ndarray, depths: np.ndarray, lists: int = 0) -> object:
        looked.append(depths)
        return scan(queries, depths, lists)

    monkeypatch.setattr(index, "scan", noted)
    searcher = CompressedSearcher(snapshot, index, Margins(((0.5, 0.01), (0.999, 0.01)), ((8, 256),)))
    truth = true_scores(snapshot, query)[0]
    (found,) = searcher.top(query, 8)
    assert_exact(found, truth, 8)
    assert len(looked) > 1 and (looked[0] > 0).all()
    home = set(np.flatnonzero(index.shards == snapshot.places[0][96]).tolist())
    for depths in looked[1:]:
        assert set(np.flatnonzero(depths).tolist()) <= home
        assert 1 <= np.count_nonzero(depths) <= 2  # the eight pictures may lie across a boundary


def test_a_small_question_is_answered_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where few regions are concerned, as in a small folder, no code is looked at."""
    snapshot = snapshot_of(tmp_path, random_pictures([40] * 100))
    index = index_of(snapshot)
    looked = []
    scan = index.scan
    monkeypatch.setattr(index, "scan", lambda *arguments: looked.append(1) or scan(*arguments))
    searcher = CompressedSearcher(snapshot, index, Margins(((0.5, 0.0), (0.999, 0.0)), ((10, 100),)))
    queries = some_queries(snapshot, 4)
    few = np.arange(100) < 4
    for one, other in zip(searcher.top(queries, 2, few), ExactSearcher(snapshot).top(queries, 2, few), strict=True):
        np.testing.assert_array_equal(one.pictures, other.pictures)
        np.testing.assert_array_equal(one.scores, other.scores)
    assert not looked
    searcher.top(queries, 2)
    assert looked


def test_an_empty_gallery_and_no_query(tmp_path: Path) -> None:
    pictures = random_pictures([3] * 4)
    with make_store(tmp_path / "g", pictures) as store:
        codec = index_of(store.snapshot(), "SQ8").codec
        with store.writer() as writer:
            writer.record(forgotten=[f"/p/{number}" for number in range(4)])
        dead = store.snapshot()
        with store.writer() as writer:
            writer.compact()
        empty = store.snapshot()
        for snapshot in (dead, empty):
            searcher = CompressedSearcher(snapshot, index_of(snapshot, codec), WIDE)
            assert [len(found.pictures) for found in searcher.top(pictures[0], 5)] == [0, 0, 0]
            assert searcher.top(pictures[0][:0], 5) == []


@pytest.mark.usefixtures("no_shortcut", "small_segments")
def test_what_was_opened_before_a_compaction_is_searched_on(tmp_path: Path) -> None:
    pictures = random_pictures(COUNTS)
    with Store(make_store(tmp_path / "g", pictures).folder) as store:
        snapshot = store.snapshot()
        searcher = CompressedSearcher(snapshot, index_of(snapshot), WIDE)
        queries = some_queries(snapshot, 4)
        before = searcher.top(queries, 5)
        with store.writer() as writer:
            writer.record(forgotten=["/p/1", "/p/4"])
            writer.compact()
        for one, other in zip(before, searcher.top(queries, 5), strict=True):
            np.testing.assert_array_equal(one.pictures, other.pictures)


# Inverted lists


@pytest.mark.usefixtures("no_shortcut")
def test_few_lists_are_enough_until_they_hold_too_little(tmp_path: Path, work: Work) -> None:
    """What may be found lies in other lists than the query: these are looked at before anything is said to be all."""
    themes = unit(np.random.default_rng(0).normal(size=(16, 32)))
    noise = np.random.default_rng(1).normal(size=(800, 4, 32)) * 0.05
    snapshot = snapshot_of(tmp_path, [unit(themes[number % 16] + noise[number]) for number in range(800)])
    index = index_of(snapshot, "ivf:8:16")
    margins = Margins(((0.5, 9.0), (0.999, 9.0)), ((10, 40),), lists=1)
    searcher = CompressedSearcher(snapshot, index, margins)
    query = unit(themes[:1])
    truth = true_scores(snapshot, query)[0]
    (found,), scored = work.of(searcher, query, 10)
    assert_exact(found, truth, 10)
    assert scored < snapshot.rows / 4  # one list only
    elsewhere = np.arange(800) % 16 == 5
    assert_exact(searcher.top(query, 10, elsewhere)[0], truth, 10, elsewhere)
    for k in (400, 800, 5000):
        assert len(searcher.top(query, k)[0].pictures) >= min(k, 800)


@pytest.mark.usefixtures("no_shortcut")
@pytest.mark.parametrize("codec", ["fastscan:8", "ivf:8:4"])
def test_codes_that_say_nothing_hide_nothing(tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of numbers that are none rank codes anyhow, or lose them: vectors decide then."""
    snapshot = snapshot_of(tmp_path, clustered_pictures([4] * 200))
    queries = some_queries(snapshot, 6)
    truth = true_scores(snapshot, queries)
    index = index_of(snapshot, codec)
    search = index._search

    def silent(*arguments: object) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = search(*arguments)
        return np.full_like(scores, np.nan), rows

    def lost(*arguments: object) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = search(*arguments)
        return scores, np.where(np.arange(rows.shape[1]) < 3, rows, -1)

    for broken in (silent, lost):
        monkeypatch.setattr(index, "_search", broken)
        for k in (5, 150):
            answers = CompressedSearcher(snapshot, index, WIDE).top(queries, k)
            for scores, found in zip(truth, answers, strict=True):
                assert len(found.pictures) >= k
                assert (found.scores <= scores[found.pictures] + 2e-6).all()
    assert_exact(CompressedSearcher(snapshot, index, WIDE).top(queries, 5)[0], truth[0], 5)


@pytest.mark.usefixtures("no_shortcut")
def test_looking_at_more_lists_leaves_the_query_as_it_was(tmp_path: Path) -> None:
    """What measures searches the same query again and again."""
    snapshot = snapshot_of(tmp_path, clustered_pictures([4] * 200))
    searcher = CompressedSearcher(
        snapshot, index_of(snapshot, "ivf:8:16"), Margins(((0.5, 9.0), (0.999, 9.0)), ((10, 40),), lists=1)
    )
    (pursuit,) = searcher.pursuits(some_queries(snapshot, 2)[:1], 10, 40)
    few = pursuit.best(10, 40, 9.0)
    assert len(pursuit.best(200, 40, 9.0).pictures) == 200
    again = pursuit.best(10, 40, 9.0)
    assert set(again.pictures.tolist()) == set(few.pictures.tolist())


@pytest.mark.usefixtures("no_shortcut", "small_segments")
def test_a_query_with_a_limit_knows_no_more_than_it_must(tmp_path: Path) -> None:
    """Those who hold many of them in memory ask for no more."""
    snapshot = snapshot_of(tmp_path, clustered_pictures(COUNTS))
    searcher = CompressedSearcher(snapshot, index_of(snapshot), WIDE)
    (query,) = some_queries(snapshot, 2)[:1]
    free, bound = (next(searcher.pursuits(query[None], 5, 20, limit=limit)) for limit in (snapshot.rows, 0))
    assert free.within(-2.0) == snapshot.rows > bound.within(-2.0) >= 20
    assert len(bound.best(5, 20, 9.0).pictures) >= 5
