"""Metadata in the catalogue: columns that are added as they come, older schemas, and selections of files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchwise.errors import UsageError
from patchwise.store import Condition, Encoded, Selection, Store
from patchwise.store.database import SCHEMA_VERSION
from patchwise.store.metadata_table import MOST_COLUMNS
from store.test_catalogue import as_schema


def test_values_come_back_as_they_were_given(filled: Store) -> None:
    values: list[Any] = ["", "007", "x\x00y", "日本 🎈", 7, -(2**63), 2**63 - 1, 0.1, 1e300, None]
    names = [f"column {number}" for number in range(len(values))]
    with filled.writer() as writer:
        writer.describe(names, [("/p/0", values), ("/p/1", values[::-1])])
    first, second, third = filled.catalogue.metadata_of(["/p/0", "/p/1", "/p/2"])
    assert first == {name: value for name, value in zip(names, values, strict=True) if value is not None}
    assert list(map(type, first.values())) == list(map(type, values[:-1]))
    assert list(second.values()) == values[-2::-1] and third == {}


def test_a_row_is_replaced_as_a_whole(filled: Store) -> None:
    with filled.writer() as writer:
        writer.describe(["a", "b"], [("/p/0", (1, 2)), ("/p/1", (3, 4))])
        writer.describe(["b", "c"], [("/p/0", (5, None))])
    assert filled.catalogue.metadata_of(["/p/0", "/p/1"]) == [{"b": 5}, {"a": 3, "b": 4}]
    assert list(filled.catalogue.metadata_columns()) == ["a", "b", "c"]


def test_columns_are_numbered_once_and_for_all(filled: Store) -> None:
    with filled.writer() as writer:
        writer.describe(["a"], [("/p/0", (1,))])
        writer.describe(["b", "a"], [("/p/1", (2, 3))])
    with Store(filled.folder) as opened:
        assert list(opened.catalogue.metadata_columns()) == ["a", "b"]
        assert opened.catalogue.metadata_of(["/p/1"]) == [{"a": 3, "b": 2}]


def test_there_is_a_limit_to_columns(filled: Store) -> None:
    names = [f"c{number}" for number in range(MOST_COLUMNS)]
    with filled.writer() as writer:
        writer.describe(names, [("/p/0", list(range(MOST_COLUMNS)))])
        with pytest.raises(UsageError, match="at most 1,000 columns of metadata, not 1,001"):
            writer.describe(["one more"], [("/p/1", (1,))])
    assert len(filled.catalogue.metadata_of(["/p/0"])[0]) == MOST_COLUMNS
    (stored,) = filled.catalogue.images_selected(Selection(("/p/0",)))
    assert stored.metadata["c999"] == 999


def test_columns_without_a_value_make_room(filled: Store) -> None:
    names = [f"c{number}" for number in range(MOST_COLUMNS)]
    with filled.writer() as writer:
        writer.describe(names, [("/p/0", list(range(MOST_COLUMNS)))])
        writer.describe(["c7", "c8"], [("/p/0", (7, None)), ("/p/1", (None, 8))])
        writer.describe(["new", "c9"], [("/p/2", ("x", 9))])
        assert len(writer.catalogue.metadata_columns()) == MOST_COLUMNS
        writer.describe([f"n{number}" for number in range(MOST_COLUMNS - 4)], [("/p/2", [1] * (MOST_COLUMNS - 4))])
        with pytest.raises(UsageError, match="at most 1,000 columns of metadata, not 1,001"):
            writer.describe([f"m{number}" for number in range(3)], [("/p/1", (1, 2, 3))])
    assert filled.catalogue.metadata_of(["/p/0", "/p/1"]) == [{"c7": 7}, {"c8": 8}]
    assert len(filled.catalogue.metadata_of(["/p/2"])[0]) == MOST_COLUMNS - 4


def test_values_are_counted(filled: Store) -> None:
    with filled.writer() as writer:
        rows = [("/p/0", ("x", 1)), ("/p/1", ("y", 2.5)), ("/p/2", ("y", None)), ("/elsewhere", ("x", 1))]
        writer.describe(["a", "b", "c"], [(path, (*values, None)) for path, values in rows])
    a, b = filled.catalogue.summaries()
    assert (a.name, a.kind, a.images, a.values, a.counts) == ("a", "text", 3, ("y", "x"), (2, 1))
    assert (b.values, b.counts, b.minimum, b.maximum) == ((1, 2.5), (1, 1), 1, 2.5)


def test_nothing_is_kept_of_rows_that_fail(filled: Store) -> None:
    def rows() -> Any:
        yield "/p/0", (1,)
        raise KeyboardInterrupt

    with filled.writer() as writer, pytest.raises(KeyboardInterrupt):
        writer.describe(["a"], rows())
    assert filled.catalogue.metadata_columns() == {}
    with filled.writer() as writer:
        writer.describe(["a"], [("/p/0", (2,))])
    assert filled.catalogue.metadata_of(["/p/0"]) == [{"a": 2}]


@pytest.mark.parametrize("version", [1, 2])
def test_galleries_of_earlier_schemas_gain_metadata(filled: Store, version: int) -> None:
    filled.close()
    as_schema(version, filled.folder)
    with Store(filled.folder) as opened:
        assert opened.catalogue.schema_version() == SCHEMA_VERSION
        assert opened.catalogue.metadata_columns() == {} and opened.catalogue.summaries() == []
        with opened.writer() as writer:
            writer.describe(["a"], [("/p/0", (1,))])
            writer.record(forgotten=["/p/1"])
        assert opened.catalogue.metadata_of(["/p/0"]) == [{"a": 1}]


def test_a_gallery_of_an_earlier_schema_that_may_only_be_read(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.close()
    as_schema(2, filled.folder)
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)
    with Store(filled.folder) as opened:
        catalogue = opened.catalogue
        assert catalogue.schema_version() == 2
        assert catalogue.metadata_columns() == {} and catalogue.metadata_of(["/p/0"]) == [{}]
        assert catalogue.summaries() == [] and catalogue.folders() == [("/p", 6)]
        assert [image.path for image in catalogue.images_selected(Selection(), 4)] == ["/p/4", "/p/5"]
        named = Selection(None, Condition("file_name(path) > ?", ("3",)))
        assert catalogue.count_selected(named) == 2
        assert opened.snapshot().pictures(named).tolist() == [False] * 4 + [True] * 2


def test_the_schema_holds_nothing_that_a_user_wrote(filled: Store) -> None:
    evil = "x); DROP TABLE file; --"
    with filled.writer() as writer:
        writer.describe([evil], [("/p/0", (evil,))])
    connection = sqlite3.connect(filled.folder / "catalogue.sqlite")
    (sql,) = connection.execute("SELECT group_concat(sql) FROM sqlite_master").fetchone()
    connection.close()
    assert "DROP" not in sql and "c1" in sql
    assert filled.catalogue.metadata_of(["/p/0"]) == [{evil: evil}]


def test_what_is_carried_along(filled: Store, encoded: Callable[..., Encoded]) -> None:
    with filled.writer() as writer:
        writer.describe(["a", "b"], [("/p/0", (1, "x")), ("/p/1", (2, "y")), ("/p/2", (3, "z"))])
        rows = filled.catalogue.known()
        writer.record(
            files=[rows["/p/0"]._replace(path="/new"), rows["/p/1"], rows["/p/2"]],
            renamed={"/new": "/p/0", "/p/0": "/p/1", "/p/1": "/p/3"},
            undescribed=["/p/2"],
        )
    assert filled.catalogue.metadata_of(["/new", "/p/0", "/p/1", "/p/2"]) == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": "y"},
        {},
        {},
    ]
    assert [filled.catalogue.is_described(path) for path in ("/new", "/p/1")] == [True, False]
    assert [filled.catalogue.is_known(path) for path in ("/new", "/p/9")] == [True, False]


PATHS = st.text(st.sampled_from("ab/. -é"), max_size=5).map("/".__add__)


@settings(deadline=None)
@given(under=st.lists(PATHS, max_size=5), paths=st.lists(PATHS, max_size=8))
def test_spans_hold_what_is_under_a_path_and_never_twice(under: list[str], paths: list[str]) -> None:
    selection = Selection(tuple(under))
    assert list(selection.spans) == sorted(selection.spans)
    for (_, end), (first, _) in zip(selection.spans, selection.spans[1:], strict=False):
        assert end is not None and end <= first
    for path in paths:
        expected = any(path == place or path.startswith(place.rstrip("/") + "/") for place in under)
        key = os.fsencode(path)
        assert selection.is_under(key) == expected
        assert sum(first <= key and (end is None or key < end) for first, end in selection.spans) == expected
        assert Selection().is_under(key)


def test_the_innermost_folder_of_all(store: Store, encoded: Callable[..., Encoded], tmp_path: Path) -> None:
    assert store.catalogue.common_folder() == []
    for path, folder in (("/a/b/c.png", "/a/b"), ("/a/b/d/e.png", "/a/b"), ("/a/bb.png", "/a"), ("/z.png", "/")):
        with store.writer() as writer:
            writer.add([encoded(path, len(path))])
        assert store.catalogue.common_folder() == [folder]
