"""Codes beside shards: those of every row, once, and only what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchwise.codecs import train_codec
from patchwise.compression import write
from patchwise.compression.write import write_codes
from patchwise.store import Codes, Snapshot, Store, shards
from search.coded import clustered_pictures, encoded_picture, live_vectors, make_store, random_pictures

DIMENSION = 32


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * DIMENSION * 30)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "g", clustered_pictures([5] * 20))


def begun(store: Store, codec: str = "fastscan:8") -> Codes:
    codes = Codes.begin(store.folder, train_codec(codec, live_vectors(store.snapshot())), {})
    codes.publish()
    return codes


def assert_mirrors(codes: Codes, snapshot: Snapshot) -> None:
    """Row for row, every shard has the codes of its vectors."""
    assert codes.record.shards.keys() == snapshot.shards.keys()
    for shard, rows in snapshot.shards.items():
        expected = codes.codec.encode(snapshot.shard_vectors(shard, 0, rows).astype(np.float32))
        found = codes.read(shard)
        assert found is not None
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("block", [1, 7, 65_536])
def test_every_row_gets_its_code(store: Store, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_BLOCK_ROWS", block)
    codes, told = begun(store), []
    snapshot = store.snapshot()
    assert len(snapshot.shards) > 2
    assert write_codes(snapshot, codes, lambda done, total: told.append((done, total))) == 100
    assert_mirrors(codes, snapshot)
    assert told[-1] == (100, 100) and {total for _, total in told} == {100}
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_only_what_was_added_is_written(store: Store) -> None:
    codes = begun(store)
    write_codes(store.snapshot(), codes, lambda done, total: None)
    before = {shard: codes.path(shard).stat().st_mtime_ns for shard in store.snapshot().shards}
    with store.writer() as writer:
        writer.add([encoded_picture("more", random_pictures([7])[0])])
    snapshot, told = store.snapshot(), []
    assert write_codes(snapshot, codes, lambda done, total: told.append((done, total))) == 7
    assert told == [(7, 7)]
    assert_mirrors(codes, snapshot)
    after = {shard: codes.path(shard).stat().st_mtime_ns for shard in before}
    assert sum(before[shard] != after[shard] for shard in before) <= 1  # the last, if it had room
    assert write_codes(snapshot, codes, lambda done, total: told.append((done, total))) == 0
    assert told == [(7, 7)]


def test_codes_of_rows_that_are_gone_are_deleted(store: Store) -> None:
    codes = begun(store)
    write_codes(store.snapshot(), codes, lambda done, total: None)
    with store.writer() as writer:
        writer.record(forgotten=[f"/p/{number}" for number in range(12)])
        writer.compact()
    snapshot = store.snapshot()
    write_codes(snapshot, codes, lambda done, total: None)
    assert_mirrors(codes, snapshot)
    assert {path.name for path in codes.folder.glob("*.codes")} == {f"{shard:06d}.codes" for shard in snapshot.shards}


def test_one_lost_file_is_written_again(store: Store) -> None:
    codes = begun(store)
    snapshot = store.snapshot()
    write_codes(snapshot, codes, lambda done, total: None)
    shard = sorted(snapshot.shards)[1]
    codes.path(shard).unlink()
    assert write_codes(snapshot, codes, lambda done, total: None) == snapshot.shards[shard]
    assert_mirrors(codes, snapshot)


def test_shards_of_the_same_codec_need_no_others(store: Store) -> None:
    codes = begun(store, "SQ8")
    write_codes(store.snapshot(), codes, lambda done, total: None)
    store.keep_only_codes(codes.codec)
    assert write_codes(store.snapshot(), codes, lambda done, total: None) == 0
    assert not list(codes.folder.glob("*.codes")) and codes.record.shards == {}
