"""Codes kept in step: additions, compaction, growth, what is unlike what was learned from, and damage."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from patchwise import Gallery
from patchwise.compression import CodesDamaged, codes_searcher, compress, compression_info, keep_up
from patchwise.compression import keep as keep_module
from patchwise.search import Margins, compressed
from patchwise.store import Store, codes_version
from patchwise.store.catalogue import CATALOGUE
from search.coded import (
    assert_exact,
    clustered_pictures,
    encoded_picture,
    live_vectors,
    make_store,
    opened_codes,
    random_pictures,
    true_scores,
)


@pytest.fixture(autouse=True)
def quick_and_without_shortcut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "_SCANNED_PER_SCORED", 10**9)
    monkeypatch.setattr(compressed, "_LEAST_REGIONS", 1)
    monkeypatch.setattr(keep_module, "_QUERIES", 96)


def add(store: Store, pictures: list[np.ndarray], name: str = "more") -> bool:
    with store.writer() as writer:
        writer.add([encoded_picture(f"{name} {number}", vectors) for number, vectors in enumerate(pictures)])
        return keep_up(store)


def assert_codes_of_all(store: Store) -> None:
    """Row for row the codes of every shard, and nobody else's."""
    codes, snapshot = opened_codes(store), store.snapshot()
    assert codes.record.shards.keys() == snapshot.shards.keys()
    for shard, rows in snapshot.shards.items():
        vectors = snapshot.shard_vectors(shard, 0, rows).astype(np.float32)
        found = codes.read(shard)
        assert found is not None
        np.testing.assert_array_equal(found, codes.codec.encode(vectors))


def assert_finds(store: Store, least: float = 0.9) -> None:
    """By its codes the gallery finds what is in it."""
    snapshot = store.snapshot()
    searcher = codes_searcher(store, snapshot)
    assert searcher is not None
    queries = live_vectors(snapshot)[:: max(snapshot.rows // 20, 1)]
    truth = true_scores(snapshot, queries)
    hits = [
        np.isin(np.argsort(-scores)[:5], found.pictures).mean()
        for scores, found in zip(truth, searcher.top(queries, 5), strict=True)
    ]
    assert np.mean(hits) >= least


def test_without_codes_there_is_nothing_to_keep(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g", random_pictures([3] * 4))
    with store.writer():
        assert not keep_up(store)
    assert codes_searcher(store, store.snapshot()) is None


def test_additions_get_codes(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g", clustered_pictures([4] * 60))
    compress(store, "fastscan:8")
    before = opened_codes(store).record
    assert add(store, clustered_pictures([4] * 10, seed=0))
    assert_codes_of_all(store)
    assert_finds(store)
    after = opened_codes(store).record
    assert after.calibration == before.calibration  # too little was added to measure again
    assert (after.codec, after.training) == (before.codec, before.training)


def test_compaction_keeps_codes_in_step(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g", clustered_pictures([4] * 60))
    compress(store, "fastscan:8")
    with store.writer() as writer:
        writer.record(forgotten=[f"/p/{number}" for number in range(0, 60, 2)])
        writer.compact()
        assert keep_up(store)
    assert store.snapshot().rows == 120
    assert_codes_of_all(store)
    assert_finds(store)


@pytest.mark.parametrize(("more", "again"), [(15, False), (16, True)])
def test_growth_by_more_than_a_quarter_measures_again(tmp_path: Path, more: int, again: bool) -> None:
    store = make_store(tmp_path / "g", clustered_pictures([4] * 75)[:60])
    compress(store, "fastscan:8")
    before = opened_codes(store).record.calibration
    assert add(store, clustered_pictures([4] * 76)[60 : 60 + more])
    after = opened_codes(store).record.calibration
    assert after["regions"] == (240 + 4 * more if again else 240) and (after != before) == again
    assert_codes_of_all(store)
    assert_finds(store)
    if again:  # and from there on it takes another quarter
        assert add(store, clustered_pictures([4] * 5, seed=0), "yet more")
        assert opened_codes(store).record.calibration == after


def test_more_of_the_same_needs_no_advice(tmp_path: Path) -> None:
    """Where codes do not know what they were learned from by heart, as product quantisers of few vectors do."""
    pictures = clustered_pictures([4] * 400)
    store = make_store(tmp_path / "g", pictures[:250])
    compress(store, "SQ8")
    assert add(store, pictures[250:])
    info = compression_info(store)
    assert info is not None and info.advice is None
    assert min(info.recall_now.values()) >= 0.95


def test_codes_that_new_codebooks_would_not_better_need_no_advice(tmp_path: Path) -> None:
    """A product quantiser of 200 vectors knows them by heart, and vectors of the same kind less well."""
    pictures = random_pictures([2] * 400)
    store = make_store(tmp_path / "g", pictures[:100])
    compress(store, "fastscan:8")
    assert add(store, pictures[100:])
    info = compression_info(store)
    assert info is not None and info.advice is None
    assert min(info.recall_now.values()) >= 0.95


def test_what_is_unlike_what_was_learned_from_brings_advice(tmp_path: Path) -> None:
    """Codebooks of vectors in few dimensions know nothing of the others; margins are widened until it is mended."""
    flat = [np.pad(vectors, ((0, 0), (0, 24))) for vectors in random_pictures([4] * 120, 8)]
    others = [np.pad(vectors, ((0, 0), (8, 0))) for vectors in random_pictures([4] * 200, 24, seed=5)]
    store = make_store(tmp_path / "g", flat)
    before = compress(store, "fastscan:8").info
    assert before.advice is None
    assert add(store, others)
    info = compression_info(store)
    assert info is not None and info.advice is not None
    assert "learn them anew with patchwise compress" in info.advice
    assert min(info.recall_now.values()) > 0.95
    assert_finds(store)
    assert compress(store, "fastscan:8").info.advice is None


def test_rows_that_a_power_cut_took_back_get_no_codes_of_others(tmp_path: Path) -> None:
    """The catalogue is an hour older than the codes, and other pictures come to stand where the lost ones did."""
    store = make_store(tmp_path / "g", clustered_pictures([4] * 60))
    compress(store, "fastscan:8")
    with closing(sqlite3.connect(tmp_path / "kept")) as kept:
        with closing(sqlite3.connect(store.folder / CATALOGUE)) as catalogue:
            catalogue.backup(kept)
        assert add(store, clustered_pictures([4] * 10, seed=3), "lost")
        store.close()
        with closing(sqlite3.connect(store.folder / CATALOGUE)) as catalogue:
            kept.backup(catalogue)
    with Store(store.folder) as again:
        assert len(again.snapshot()) == 60
        assert add(again, clustered_pictures([4] * 10, seed=4), "others")
        assert_codes_of_all(again)
        assert_finds(again)


@pytest.mark.parametrize("found", [{10: 0.5}, {10: 0.98}])
def test_margins_that_find_more_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: dict[int, float]
) -> None:
    """Where measuring anew does not reach what was promised, and the old ones do better."""
    store = make_store(tmp_path / "g", clustered_pictures([4] * 60))
    compress(store, "fastscan:8")
    before = opened_codes(store).record.calibration["margins"]
    worse = replace(Margins.from_json(before), slope=0.5)
    monkeypatch.setattr(keep_module, "calibrate", lambda *_: worse)
    monkeypatch.setattr(
        keep_module, "measured_recall", lambda searcher, _: found if searcher._margins == worse else {10: 0.97}
    )
    assert add(store, clustered_pictures([4] * 40, seed=1))
    now = opened_codes(store).record.calibration
    kept = found[10] < 0.97
    assert now["margins"] == json.loads(json.dumps(before if kept else worse.as_json()))
    assert now["recall_now"] == {"10": 0.97 if kept else 0.98}


def test_margins_measured_again_reach_those_who_have_the_codes_open(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g", clustered_pictures([4] * 60))
    compress(store, "fastscan:8")
    before = codes_version(store.folder)
    assert add(store, clustered_pictures([4] * 5, seed=3), "few")
    assert codes_version(store.folder) == before
    assert add(store, clustered_pictures([4] * 40, seed=4))
    assert codes_version(store.folder) != before


def test_where_nothing_can_be_learned_anew_that_is_not_advised(tmp_path: Path) -> None:
    flat = [np.pad(vectors, ((0, 0), (0, 24))) for vectors in random_pictures([4] * 120, 8)]
    others = [np.pad(vectors, ((0, 0), (8, 0))) for vectors in random_pictures([4] * 200, 24, seed=5)]
    store = make_store(tmp_path / "g", flat)
    compress(store, "fastscan:8", codes_only=True)
    assert add(store, others)
    info = compression_info(store)
    assert info is not None and info.codes_only and info.advice is None


def test_damage_is_told_and_mended(tmp_path: Path) -> None:
    store = make_store(tmp_path / "g", clustered_pictures([4] * 40))
    compress(store, "fastscan:8")
    (path,) = opened_codes(store).folder.glob("*.codes")
    written = path.read_bytes()
    path.write_bytes(written[:9] + bytes([written[9] ^ 4]) + written[10:])
    snapshot = store.snapshot()
    with pytest.raises(CodesDamaged) as damage:
        codes_searcher(store, snapshot)
    assert damage.value.shard == int(path.stem)
    mended = codes_searcher(store, snapshot, mend=True)  # in memory
    assert mended is not None and path.read_bytes() != written
    query = live_vectors(snapshot)[:1]
    assert_exact(mended.top(query, 1)[0], true_scores(snapshot, query)[0], 1)
    with store.writer():
        assert keep_up(store, damaged=damage.value.shard)
    assert path.read_bytes() == written
    assert_finds(store)


def test_rows_added_since_are_found_before_they_have_codes(tmp_path: Path) -> None:
    """By a reader who may not write them."""
    store = make_store(tmp_path / "g", clustered_pictures([4] * 60))
    compress(store, "fastscan:8")
    (new,) = random_pictures([2], seed=77)
    with store.writer() as writer:
        writer.add([encoded_picture("new", new)])
    snapshot = store.snapshot()
    searcher = codes_searcher(store, snapshot)
    assert searcher is not None
    assert int(searcher.top(new[:1], 1)[0].pictures[0]) == snapshot.index_of_path("/p/new")
    assert opened_codes(store).rows(max(snapshot.shards)) == 240


_SEARCH = """
import sys
sys.path.insert(0, sys.argv[3])
from conftest import FakeEncoder
from patchwise import Gallery
with Gallery.open(sys.argv[1], encoder=FakeEncoder()) as gallery:
    for exact in (False, True):
        print([(hit.path, round(hit.score, 9)) for hit in gallery.search(sys.argv[2], k=3, exact=exact)])
    print(type(gallery.current()[1]).__name__)
"""


def test_a_gallery_that_may_not_be_written_is_searched_exactly(
    gallery: Gallery, pictures: Path, unprivileged: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Its codes are lost, and nobody may make others."""
    gallery.compress("fastscan:8")
    current = gallery.path / "compressed" / "current.json"
    current.unlink()
    folders = [path for path in (gallery.path, *gallery.path.rglob("*")) if path.is_dir()]
    files = [path for path in gallery.path.rglob("*") if path.is_file()]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (*folders, *files)}
    try:
        for path in files:
            path.chmod(0o444)
        for path in folders:
            path.chmod(0o555)
        found = unprivileged("-c", _SEARCH, gallery.path, pictures / "02.png", Path(__file__).parents[1])
    finally:
        for path in folders:
            path.chmod(0o755)
        for path, mode in modes.items():
            path.chmod(mode)
    assert found.returncode == 0, found.stderr
    by_codes, exactly, searcher = found.stdout.splitlines()
    assert by_codes == exactly and "02.png" in exactly
    assert searcher == "ExactSearcher"
    assert not current.exists()
