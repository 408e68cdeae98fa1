"""The catalogue: schema versions, paths of every kind, and errors that say what happened."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchwise.errors import GalleryBusy, GalleryDamaged, GalleryMismatch, StorageFull
from patchwise.store import database as module
from patchwise.store.catalogue import CATALOGUE, Catalogue, ContentRow
from patchwise.store.database import SCHEMA_VERSION


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(tmp_path, create=True)
    with made.transaction():
        made.put_shard(1, 100)
    yield made
    made.close()


def put_content(catalogue: Catalogue, digest: bytes, first: int = 0, rows: int = 1) -> int:
    return catalogue.put_content(digest, ContentRow(0, 4, 3, 1, first, rows, 0))


# Schema


def test_a_new_catalogue_has_the_present_schema(catalogue: Catalogue) -> None:
    assert catalogue.schema_version() == SCHEMA_VERSION


def test_an_older_catalogue_is_migrated_and_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Catalogue(tmp_path, create=True)
    with old.transaction():
        old.put_shard(1, 5)
        old.put_file("/a", 1, 2, put_content(old, b"a"))
    old.close()

    steps = ("ALTER TABLE file ADD COLUMN note TEXT;", "CREATE TABLE later (id INTEGER); INSERT INTO later VALUES (7);")
    monkeypatch.setattr(module, "_MIGRATIONS", (*module._MIGRATIONS, *steps))
    monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 2)
    for _ in range(2):  # the second time there is nothing left to do
        new = Catalogue(tmp_path)
        assert new.schema_version() == SCHEMA_VERSION + 2
        assert list(new.known()) == ["/a"]
        assert new._all("SELECT id FROM later") == [(7,)]
        assert new._all("SELECT note FROM file") == [(None,)]
        new.close()


def as_schema(version: int, folder: Path) -> None:
    """Make a catalogue what an earlier version of patchwise would have written."""
    connection = sqlite3.connect(folder / CATALOGUE)
    connection.execute("DROP TABLE metadata")
    connection.execute("DROP TABLE metadata_column")
    if version < 2:
        connection.execute("ALTER TABLE shard DROP COLUMN codec")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()


def test_shards_of_the_first_schema_hold_vectors(tmp_path: Path, catalogue: Catalogue) -> None:
    with catalogue.transaction():
        catalogue.put_file("/a", 1, 2, put_content(catalogue, b"a"))
    catalogue.close()
    as_schema(1, tmp_path)
    for _ in range(2):
        opened = Catalogue(tmp_path)
        assert opened.schema_version() == SCHEMA_VERSION == 3
        assert opened.shards() == {1: 100} and opened.codecs() == {}
        assert list(opened.known()) == ["/a"]
        opened.close()
    opened = Catalogue(tmp_path)
    with opened.transaction():
        opened.put_shard(2, 5, "digest")
        opened.put_shard(1, 7)
    assert opened.shards() == {1: 7, 2: 5} and opened.codecs() == {2: "digest"}
    opened.close()


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Catalogue(tmp_path, create=True).close()
    monkeypatch.setattr(module, "_MIGRATIONS", (*module._MIGRATIONS, "CREATE TABLE half (id); NOT SQL AT ALL;"))
    monkeypatch.setattr(module, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    with pytest.raises(GalleryDamaged):
        Catalogue(tmp_path)
    monkeypatch.undo()
    unharmed = Catalogue(tmp_path)
    assert unharmed.schema_version() == SCHEMA_VERSION
    assert unharmed._all("SELECT name FROM sqlite_master WHERE name = 'half'") == []
    unharmed.close()


def test_a_newer_schema_is_refused_with_the_upgrade(tmp_path: Path) -> None:
    Catalogue(tmp_path, create=True).close()
    connection = sqlite3.connect(tmp_path / CATALOGUE)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = (tmp_path / CATALOGUE).read_bytes()
    with pytest.raises(GalleryMismatch, match=f"schema {SCHEMA_VERSION + 1} is newer") as raised:
        Catalogue(tmp_path)
    assert "pip install -U patchwise" in str(raised.value)
    assert (tmp_path / CATALOGUE).read_bytes() == before


# Damage


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(GalleryDamaged, match=f"{CATALOGUE}: missing"):
        Catalogue(tmp_path)
    assert not (tmp_path / CATALOGUE).exists()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_garbage_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CATALOGUE).write_bytes(content)
    with pytest.raises(GalleryDamaged, match=CATALOGUE):
        Catalogue(tmp_path)
    assert (tmp_path / CATALOGUE).read_bytes() == content


def test_a_table_that_is_gone_is_damage(catalogue: Catalogue) -> None:
    catalogue._run("DROP TABLE failure")
    with pytest.raises(GalleryDamaged, match="failure"):
        catalogue.failures()


def test_a_lock_held_elsewhere_is_not_called_damage(tmp_path: Path, catalogue: Catalogue) -> None:
    catalogue._run("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(tmp_path / CATALOGUE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(GalleryBusy, match="locked") as raised, catalogue.transaction():
        pass
    assert "verify" not in str(raised.value)
    other.execute("ROLLBACK")
    other.close()
    with catalogue.transaction():  # and nothing is left over from the refusal
        catalogue.put_shard(2, 1)
    assert catalogue.shards() == {1: 100, 2: 1}


@pytest.mark.parametrize("message", ["database or disk is full", "disk I/O error"])
def test_a_full_disk_is_not_called_damage(catalogue: Catalogue, message: str) -> None:
    with pytest.raises(StorageFull, match="run the same command again"), catalogue._explained():
        raise sqlite3.OperationalError(message)


def test_a_write_that_is_refused_is_not_called_damage(catalogue: Catalogue) -> None:
    catalogue._run("PRAGMA query_only = ON")
    with pytest.raises(StorageFull, match="cannot be written to"), catalogue.transaction():
        catalogue.put_shard(2, 1)


def test_integrity_problems_are_listed(catalogue: Catalogue) -> None:
    assert catalogue.integrity_problems() == []
    catalogue._run("PRAGMA foreign_keys = OFF")
    with catalogue.transaction():
        catalogue.put_file("/a", 1, 1, 99)
    assert catalogue.integrity_problems() == ["broken reference in table file"]


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/plain",
        "/with space/ü 日本 🎈.png",
        "/new\nline\ttab",
        "/quote'\"%_\\",
        os.fsdecode(b"/bad \xff\xfe utf-8"),
        "/",
    ],
)
def test_every_path_survives(catalogue: Catalogue, path: str) -> None:
    with catalogue.transaction():
        content = put_content(catalogue, b"x")
        catalogue.put_file(path, 123_456_789_012_345_678, 42, content)
    row = catalogue.known()[path]
    assert row == (path, 123_456_789_012_345_678, 42, content)
    assert catalogue.paths_of([content]) == [(path, content)]
    with catalogue.transaction():
        catalogue.put_failure(path, 5, 6, f"cannot read {path}")
    assert catalogue.known(path) == {path: (path, 5, 6, None)}
    assert [name for name, _ in catalogue.failures()] == [path]
    with catalogue.transaction():
        catalogue.forget(path)
    assert catalogue.known() == {}


def test_under_is_the_path_itself_and_all_below(catalogue: Catalogue) -> None:
    inside = ["/photos/a", "/photos/a/1.png", "/photos/a/ü/2.png", "/photos/a/\xff", os.fsdecode(b"/photos/a/\xff\xff")]
    outside = ["/photos/ab", "/photos/a.png", "/photos/a b/1.png", "/photos/a0", "/photos/a.", "/photos", "/photos/A/1"]
    with catalogue.transaction():
        content = put_content(catalogue, b"x")
        for number, path in enumerate(inside + outside):
            if number % 2:
                catalogue.put_failure(path, 1, 1, "no")
            else:
                catalogue.put_file(path, 1, 1, content)
    assert set(catalogue.known("/photos/a")) == set(inside)
    assert set(catalogue.known("/photos/a/")) == set(inside) - {"/photos/a"}
    assert set(catalogue.known("/")) == set(catalogue.known()) == set(inside + outside)


NAMES = st.text(st.sampled_from("ab/. -0é\udcff"), min_size=1, max_size=6)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=60
)
@given(paths=st.lists(NAMES.map("/".__add__), min_size=1, unique=True), root=NAMES.map("/".__add__))
def test_under_agrees_with_its_definition(catalogue: Catalogue, paths: list[str], root: str) -> None:
    with catalogue.transaction():
        for path in catalogue.known():
            catalogue.forget(path)
        found = catalogue.content_by_hash(b"x")
        content = found.id if found else put_content(catalogue, b"x")
        for path in paths:
            catalogue.put_file(path, 1, 1, content)
    below = os.fsencode(root).rstrip(b"/") + b"/"
    expected = {path for path in paths if path == root or os.fsencode(path).startswith(below)}
    assert set(catalogue.known(root)) == expected


def test_failure_reasons_may_hold_anything(catalogue: Catalogue) -> None:
    with catalogue.transaction():
        catalogue.put_failure("/a", 1, 1, "name \udcff and\nnewline")
    assert catalogue.failures() == [("/a", "name \\udcff and\nnewline")]


# Files, failures, pictures


def test_a_file_is_either_readable_or_not(catalogue: Catalogue) -> None:
    with catalogue.transaction():
        content = put_content(catalogue, b"x")
        catalogue.put_file("/a", 1, 1, content)
        catalogue.put_failure("/a", 2, 2, "broken")
    assert catalogue.known() == {"/a": ("/a", 2, 2, None)}
    assert catalogue.counts()["images"] == 0 and catalogue.counts()["unreadable"] == 1
    with catalogue.transaction():
        catalogue.put_file("/a", 3, 3, content)
    assert catalogue.known() == {"/a": ("/a", 3, 3, content)}
    assert catalogue.failures() == []


def test_a_picture_lives_as_long_as_a_file_holds_it(catalogue: Catalogue) -> None:
    with catalogue.transaction():
        content = put_content(catalogue, b"x", 0, 5)
        catalogue.put_file("/a", 1, 1, content)
        catalogue.put_file("/b", 1, 1, content)
    assert catalogue.counts() == {
        "images": 2,
        "unreadable": 0,
        "distinct_images": 1,
        "regions": 5,
        "dead_regions": 95,
    }
    with catalogue.transaction():
        catalogue.forget("/a")
        assert catalogue.drop_dead_contents() == 0
        catalogue.forget("/b")
        assert catalogue.contents() == []
        assert [row.id for row in catalogue.contents(live_only=False)] == [content]
        assert catalogue.drop_dead_contents() == 1
    assert catalogue.content_by_hash(b"x") is None


def test_ids_of_forgotten_pictures_are_never_used_again(catalogue: Catalogue) -> None:
    """A reader that still holds the old id must not be given another picture's path."""
    with catalogue.transaction():
        first = put_content(catalogue, b"x")
        catalogue.drop_dead_contents()
        second = put_content(catalogue, b"y")
    assert first != second


def test_dropping_pictures_names_their_files(catalogue: Catalogue) -> None:
    with catalogue.transaction():
        content = put_content(catalogue, b"x")
        kept = put_content(catalogue, b"y", 1)
        for path, holds in (("/a", content), ("/b", content), ("/c", kept)):
            catalogue.put_file(path, 1, 1, holds)
    with catalogue.transaction():
        assert sorted(catalogue.drop_contents([content])) == ["/a", "/b"]
    assert list(catalogue.known()) == ["/c"]


# Transactions


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, StorageFull])
def test_a_transaction_is_all_or_nothing(catalogue: Catalogue, failure: type[BaseException]) -> None:
    with pytest.raises(failure), catalogue.transaction():
        catalogue.put_shard(2, 7)
        raise failure("stop")
    assert catalogue.shards() == {1: 100}
    with catalogue.transaction():
        catalogue.put_shard(2, 8)
    assert catalogue.shards() == {1: 100, 2: 8}


def test_a_statement_that_fails_rolls_everything_back(catalogue: Catalogue) -> None:
    with pytest.raises(GalleryDamaged), catalogue.transaction():
        put_content(catalogue, b"x")
        put_content(catalogue, b"x")  # the same hash twice
    assert catalogue.contents(live_only=False) == []


def test_a_durable_commit_is_forced_to_disk(catalogue: Catalogue) -> None:
    normal, full = [(1,)], [(2,)]
    assert catalogue._all("PRAGMA synchronous") == normal
    with catalogue.transaction(durable=True):
        assert catalogue._all("PRAGMA synchronous") == full
        catalogue.put_shard(2, 7)
    with pytest.raises(ValueError, match="stop"), catalogue.transaction(durable=True):
        raise ValueError("stop")
    assert catalogue._all("PRAGMA synchronous") == normal
    assert catalogue.shards() == {1: 100, 2: 7}


def test_checksums_are_replaced(catalogue: Catalogue) -> None:
    with catalogue.transaction():
        contents = [put_content(catalogue, bytes([number]), number) for number in range(3)]
        catalogue.put_checksums((contents[number], 7 + number) for number in (2, 0))
    assert [row.crc for row in catalogue.contents(live_only=False)] == [7, 0, 9]
    columns = catalogue.columns(live_only=False)
    assert columns[:, 0].tolist() == contents and columns[:, 6].tolist() == [7, 0, 9]
    assert len(catalogue.columns()) == 0


def test_the_data_version_changes_with_every_commit(tmp_path: Path, catalogue: Catalogue) -> None:
    other = Catalogue(tmp_path)
    mine, theirs = catalogue.data_version(), other.data_version()
    assert (catalogue.data_version(), other.data_version()) == (mine, theirs)
    with catalogue.transaction():
        catalogue.put_shard(2, 1)
    assert catalogue.data_version() != mine
    assert other.data_version() != theirs
    other.close()


def test_reading_sees_one_state(tmp_path: Path, catalogue: Catalogue) -> None:
    other = Catalogue(tmp_path)
    with other.reading():
        assert other.shards() == {1: 100}
        with catalogue.transaction():
            catalogue.put_shard(2, 1)
        assert other.shards() == {1: 100}
        with other.reading():
            assert other.shards() == {1: 100}
    assert other.shards() == {1: 100, 2: 1}
    other.close()


def test_threads_may_read_and_write_through_one_connection(catalogue: Catalogue) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(30):
                with catalogue.transaction():
                    content = put_content(catalogue, bytes([number, step]))
                    catalogue.put_file(f"/{number}/{step}", 1, 1, content)
                assert f"/{number}/{step}" in catalogue.known(f"/{number}")
                with catalogue.reading():
                    assert catalogue.counts()["images"] == len(catalogue.known())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert catalogue.counts()["images"] == 120
