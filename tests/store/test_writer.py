"""The writer: all or none, each content once, and compaction that changes nothing but the size."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchwise.errors import StorageFull
from patchwise.search import ExactSearcher, rank
from patchwise.store import Encoded, FileRow, Store, Writer
from patchwise.store import shards as shards_module
from patchwise.store.catalogue import Catalogue
from patchwise.store.shards import VECTORS, Shards

Contents = Callable[[Store], dict[str, tuple[bytes, bytes]]]
ROWS, VECTOR_BYTES = 5, 32


def hits(store: Store, encoded: Callable[..., Encoded]) -> list[Any]:
    """Everything a search returns, for five queries."""
    queries = np.stack([encoded("", seed).vectors[seed % ROWS] for seed in range(5)])
    snapshot = store.snapshot()
    return list(rank(snapshot, ExactSearcher(snapshot), queries, k=50))


def rows_on_disk(store: Store) -> int:
    return sum(path.stat().st_size for path in (store.folder / VECTORS).glob("*.f16")) // VECTOR_BYTES


# Adding


def test_each_content_is_stored_once(store: Store, encoded: Callable[..., Encoded], contents: Contents) -> None:
    with store.writer() as writer:
        writer.add([encoded("/a", 1), encoded("/b", 1), encoded("/c", 2)])
        writer.add([encoded("/d", 2)])
        writer.add([])
    assert store.catalogue.counts()["images"] == 4
    assert store.catalogue.counts()["distinct_images"] == 2
    assert rows_on_disk(store) == 2 * ROWS
    held = contents(store)
    assert held["/a"] == held["/b"] != held["/c"] == held["/d"]


def test_stored_vectors_are_the_given_ones_in_half_precision(store: Store, encoded: Callable[..., Encoded]) -> None:
    picture = encoded("/a", 1, 3)
    with store.writer() as writer:
        writer.add([picture])
    snapshot = store.snapshot()
    assert snapshot.vectors(0).tobytes() == picture.vectors.astype("<f2").tobytes()
    assert snapshot.regions(0).table.tobytes() == picture.regions.table.tobytes()
    assert snapshot.size(0) == picture.image_size


def test_a_file_that_changes_holds_the_new_picture_only(
    store: Store, encoded: Callable[..., Encoded], contents: Contents
) -> None:
    with store.writer() as writer:
        writer.add([encoded("/a", 1)])
        writer.add([encoded("/a", 2)])
    assert contents(store)["/a"][0] == encoded("/a", 2).vectors.astype("<f2").tobytes()
    assert store.catalogue.counts()["dead_regions"] == ROWS


def test_full_shards_are_followed_by_the_next(
    store: Store, encoded: Callable[..., Encoded], contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 12 * VECTOR_BYTES)  # two pictures and a bit
    with store.writer() as writer:
        writer.add([encoded("/0", 0)])
        writer.add([encoded(f"/{seed}", seed) for seed in range(1, 6)])
        writer.add([encoded("/6", 6, level=3)])  # larger than a shard: alone in one of its own
        writer.add([encoded("/7", 7)])
    assert store.catalogue.shards() == {1: 10, 2: 10, 3: 10, 4: 30, 5: 5}
    assert contents(store) == {
        f"/{seed}": (
            encoded("", seed, level).vectors.astype("<f2").tobytes(),
            encoded("", seed, level).regions.table.tobytes(),
        )
        for seed, level in [*((seed, 1) for seed in range(6)), (6, 3), (7, 1)]
    }
    assert store.verify().problems == []


def test_many_rows_are_flushed_in_between(
    store: Store, encoded: Callable[..., Encoded], contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patchwise.store.writer._FLUSH_ROWS", 7)
    pictures = [encoded(f"/{seed}", seed) for seed in range(9)]
    with store.writer() as writer:
        writer.add(pictures)
    assert list(contents(store)) == [picture.path for picture in pictures]
    assert store.verify().problems == []


class Killed(BaseException):
    """Stands for the process being killed: nothing may catch it."""


STEPS: list[tuple[type, str]] = [
    (Shards, "append"),
    (Shards, "stored"),
    (Shards, "regions"),
    (Shards, "remove"),
    (Catalogue, "put_shard"),
    (Catalogue, "put_content"),
    (Catalogue, "put_file"),
    (Catalogue, "move_content"),
    (Catalogue, "drop_dead_contents"),
    (Catalogue, "drop_shards_except"),
]


class Interruption:
    """Fails at the n-th of all steps that touch the disk, before or after it is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self.at, self.seen, self.error = -1, 0, error
        self.fired: list[str] = []
        for owner, name in STEPS:
            monkeypatch.setattr(owner, name, self._wrapped(getattr(owner, name), name))

    def _wrapped(self, really: Callable[..., Any], name: str) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            self._maybe(f"before {name}")
            answer = really(*arguments)
            self._maybe(f"after {name}")
            return answer

        return step

    def _maybe(self, moment: str) -> None:
        self.seen += 1
        if self.seen == self.at:
            self.fired.append(moment)
            raise self.error

    def at_every_step(self) -> Iterator[None]:
        """Yields with the failure armed at one step after the other, until an attempt survives."""
        for at in range(1, 1000):
            before = len(self.fired)
            self.at, self.seen = at, 0
            yield
            self.at = -1
            if len(self.fired) == before:
                return
        raise AssertionError("never got through")


def test_adding_killed_at_any_step_is_all_or_nothing(
    filled: Store, encoded: Callable[..., Encoded], contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(filled)
    interruption = Interruption(monkeypatch, Killed())
    new = [encoded("/n/7", 7), encoded("/n/8", 8), encoded("/n/8 again", 8)]
    for _ in interruption.at_every_step():
        try:
            with filled.writer() as writer:
                writer.add(new)
        except Killed:
            armed, interruption.at = interruption.at, -1
            assert contents(filled) == before, interruption.fired[-1]
            assert filled.verify().problems == [], interruption.fired[-1]
            interruption.at = armed
    assert len(interruption.fired) > 8
    assert set(contents(filled)) == {*before, "/n/7", "/n/8", "/n/8 again"}
    assert rows_on_disk(filled) == 8 * ROWS
    assert filled.verify().problems == []


def test_a_full_disk_while_adding_stores_nothing_of_it(
    filled: Store, encoded: Callable[..., Encoded], contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(filled)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull), filled.writer() as writer:
            writer.add([encoded("/n", 9)])
    assert contents(filled) == before
    with filled.writer() as writer:
        writer.add([encoded("/n", 9)])
    assert set(contents(filled)) == {*before, "/n"}
    assert filled.verify().problems == []


def test_a_commit_that_fails_is_rolled_back(filled: Store, encoded: Callable[..., Encoded], contents: Contents) -> None:
    """The disk is full when SQLite commits: the rows written to the shard stay unknown."""
    before = contents(filled)
    really = filled.catalogue._connection

    class FullAtCommit:
        def __getattr__(self, name: str) -> Any:
            return getattr(really, name)

        def execute(self, sql: str, *parameters: Any) -> Any:
            if sql == "COMMIT":
                raise sqlite3.OperationalError("database or disk is full")
            return really.execute(sql, *parameters)

    filled.catalogue._connection = FullAtCommit()  # type: ignore[assignment]
    with pytest.raises(StorageFull, match="full"), filled.writer() as writer:
        writer.add([encoded("/n", 9)])
    filled.catalogue._connection = really
    assert not really.in_transaction
    assert contents(filled) == before
    with filled.writer() as writer:
        writer.add([encoded("/n", 9)])
    assert set(contents(filled)) == {*before, "/n"}
    assert filled.verify().problems == []


def test_record_is_one_step(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    content = filled.catalogue.known()["/p/0"].content
    with filled.writer() as writer:
        writer.record(
            files=[FileRow("/moved", 5, 5, content)],
            failures=[(FileRow("/bad", 1, 1, None), "corrupt"), (FileRow("/p/1", 2, 2, None), "became corrupt")],
            forgotten=["/p/0", "/never known"],
        )
    known = filled.catalogue.known()
    assert known["/moved"] == ("/moved", 5, 5, content)
    assert known["/bad"].content is None and known["/p/1"].content is None and "/p/0" not in known
    assert filled.catalogue.failures() == [("/bad", "corrupt"), ("/p/1", "became corrupt")]

    monkeypatch.setattr(Catalogue, "forget", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), filled.writer() as writer:
        writer.record(files=[FileRow("/x", 1, 1, content)], forgotten=["/p/2"])
    assert filled.catalogue.known() == known


# Compaction


def remove_some(writer: Writer) -> None:
    writer.record(forgotten=["/p/1", "/p/4"])


def test_compaction_frees_the_bytes_and_changes_no_hit(filled: Store, encoded: Callable[..., Encoded]) -> None:
    with filled.writer() as writer:
        remove_some(writer)
    before, rows = hits(filled, encoded), rows_on_disk(filled)
    with filled.writer() as writer:
        assert writer.compact() == 2 * ROWS
        assert rows_on_disk(filled) == rows - 2 * ROWS
        assert hits(filled, encoded) == before
        assert writer.compact() == 0
    assert hits(filled, encoded) == before
    assert filled.catalogue.counts()["dead_regions"] == 0
    assert len(filled.catalogue.contents(live_only=False)) == 4
    assert filled.verify().problems == []


def test_compaction_keeps_tidy_shards_as_they_are(
    store: Store, encoded: Callable[..., Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 2 * ROWS * VECTOR_BYTES)
    with store.writer() as writer:
        writer.add([encoded(f"/p/{seed}", seed) for seed in range(8)])
        writer.record(forgotten=["/p/2", "/p/6", "/p/7"])
        before = hits(store, encoded)
        untouched = {shard: store.shards.path(shard).stat() for shard in (1, 3)}
        assert writer.compact() == 3 * ROWS
    assert {shard: store.shards.path(shard).stat() for shard in (1, 3)} == untouched
    assert store.catalogue.shards() == {1: 10, 3: 10, 5: 5}
    assert store.shards.ids_on_disk() == [1, 3, 5]
    # Images with equal scores are ordered by path, so the order on disk shows nowhere.
    assert hits(store, encoded) == before


def test_compaction_of_an_emptied_store_leaves_no_shard(filled: Store, encoded: Callable[..., Encoded]) -> None:
    with filled.writer() as writer:
        writer.record(forgotten=[f"/p/{seed}" for seed in range(6)])
        assert writer.compact() == 6 * ROWS
    assert filled.shards.ids_on_disk() == [] and filled.catalogue.shards() == {}
    assert hits(filled, encoded) == [[]] * 5
    with filled.writer() as writer:
        writer.add([encoded("/n", 3)])
    assert filled.verify().problems == []
    assert len(filled.snapshot()) == 1


def test_compaction_of_an_empty_store(store: Store) -> None:
    with store.writer() as writer:
        assert writer.compact() == 0


def test_compaction_removes_what_killed_runs_left(filled: Store) -> None:
    (filled.folder / VECTORS / "000007.f16").write_bytes(b"orphan")
    (filled.folder / VECTORS / "000008.regions").write_bytes(b"orphan")
    with filled.writer() as writer:
        assert writer.compact() == 0
    assert filled.shards.ids_on_disk() == [1]


@pytest.mark.parametrize("shard_pictures", [1, 2, 100])
def test_compaction_killed_at_any_step_loses_nothing(
    store: Store,
    encoded: Callable[..., Encoded],
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
    shard_pictures: int,
) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", shard_pictures * ROWS * VECTOR_BYTES)
    with store.writer() as writer:
        writer.add([encoded(f"/p/{seed}", seed) for seed in range(6)])
        remove_some(writer)
    before, held = hits(store, encoded), contents(store)
    interruption = Interruption(monkeypatch, Killed())
    for _ in interruption.at_every_step():
        try:
            with Store(store.folder) as fresh, fresh.writer() as writer:
                writer.compact()
        except Killed:
            armed, interruption.at = interruption.at, -1
            moment = interruption.fired[-1]
            assert hits(store, encoded) == before, moment
            with Store(store.folder) as opened:
                assert opened.verify().problems == [], moment
                assert contents(opened) == held, moment
            interruption.at = armed
    assert len(interruption.fired) > 4
    assert hits(store, encoded) == before
    assert rows_on_disk(store) == 4 * ROWS
    with store.writer() as writer:
        writer.add([encoded("/p/1", 1), encoded("/p/4", 4)])
    assert store.verify().problems == []
    assert len(contents(store)) == 6


def test_compaction_on_a_full_disk_loses_nothing(
    filled: Store, encoded: Callable[..., Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled.writer() as writer:
        remove_some(writer)
    before = hits(filled, encoded)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull), filled.writer() as writer:
            writer.compact()
    assert hits(filled, encoded) == before
    assert filled.verify().problems == []
    with filled.writer() as writer:
        assert writer.compact() == 2 * ROWS
    assert hits(filled, encoded) == before


def test_a_shard_that_cannot_be_deleted_yet_goes_with_the_next_compaction(
    filled: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On Windows a mapped file cannot be deleted."""
    with monkeypatch.context() as patch, filled.writer() as writer:
        remove_some(writer)

        def in_use(self: Path, missing_ok: bool = False) -> None:
            raise PermissionError(13, "in use")

        patch.setattr(Path, "unlink", in_use)
        assert writer.compact() == 2 * ROWS
    assert filled.shards.ids_on_disk() == [1, 2]
    assert filled.verify().problems == []
    with filled.writer() as writer:
        assert writer.compact() == 0
    assert filled.shards.ids_on_disk() == [2]
