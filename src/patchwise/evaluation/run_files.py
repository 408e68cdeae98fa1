"""Runs on disk: JSON, compressed when the file's name ends in .gz, with a version that readers check."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import numpy as np

from patchwise.errors import ResultsError, StorageFull, UsageError
from patchwise.evaluation.outcomes import Found, Missed, QueryOutcome, Run
from patchwise.whole_files import whole_file

__all__ = ["load_run", "read_text", "save_run", "write_text"]

FORMAT = "patchwise run"
VERSION = 1
_FOUND = [field.name for field in fields(Found)]
_MISSED = [field.name for field in fields(Missed)]
# What the fields of a run and of an outcome must be, in JSON's types.
_RUN: dict[str, tuple[type, ...]] = {
    "benchmark": (str,),
    "strategy": (str,),
    "encoder": (dict,),
    "depth": (int, type(None)),
    "average_precision": (str,),
    "costs": (dict,),
    "details": (dict,),
    "outcomes": (list,),
}
_OUTCOME: dict[str, tuple[type, ...]] = {
    "query": (str,),
    "group": (str,),
    "positives": (int,),
    "found": (dict,),
    "missed": (dict,),
}
_NUMBER = (int, float)
_ITEM: dict[str, tuple[type, ...]] = {
    "image": (str,),
    "rank": (int,),
    "last_rank": (int,),
    "score": _NUMBER,
    "box": (list, type(None)),
    "iou": (*_NUMBER, type(None)),
    "object_share": (*_NUMBER, type(None)),
    "centre_distance": (*_NUMBER, type(None)),
}


def save_run(run: Run, path: str | os.PathLike[str]) -> None:
    """Write a run as JSON, gzip-compressed if the name ends in `.gz`; an existing file is replaced as a whole.

    Raises:
        UsageError: a figure that is not finite, or details that are not JSON.
        StorageFull: it cannot be written.
    """
    record = {"format": FORMAT, "version": VERSION, **{name: getattr(run, name) for name in _RUN}}
    record["outcomes"] = [
        {
            "query": outcome.query,
            "group": outcome.group,
            "positives": outcome.positives,
            "found": _columns(outcome.found, _FOUND),
            "missed": _columns(outcome.missed, _MISSED),
        }
        for outcome in run.outcomes
    ]
    try:
        text = json.dumps(record, allow_nan=False, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the run of {run.strategy} on {run.benchmark} cannot be saved: {error}") from error
    with write_text(path) as file:
        file.write(text)


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read what `save_run` wrote.

    Raises:
        ResultsError: no such file, not a saved run, written by a newer patchwise, or damaged.
    """
    with read_text(path) as file:
        try:
            record = json.load(file)
        except json.JSONDecodeError as error:
            raise ResultsError(f"{path}: is no saved run, since it is not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ResultsError(f"{path}: is no saved run; `patchwise eval --save-run FILE` writes one")
    if record.get("version") != VERSION:
        raise ResultsError(
            f"{path}: is a run of version {record.get('version')!r}, and this patchwise reads {VERSION}; "
            "update patchwise or save the run anew"
        )
    _check(record, _RUN, f"{path}: ")
    outcomes = []
    for number, entry in enumerate(record["outcomes"]):
        where = f"{path}: outcome {number}: "
        if not isinstance(entry, dict):
            raise ResultsError(f"{where}is not an object")
        _check(entry, _OUTCOME, where)
        try:
            found = [Found(**{**row, "box": row["box"] and tuple(row["box"])}) for row in _rows(entry, "found", where)]
            missed = [Missed(**row) for row in _rows(entry, "missed", where)]
            outcomes.append(QueryOutcome(entry["query"], entry["group"], entry["positives"], found, missed))
        except UsageError as error:
            raise ResultsError(f"{where}{error}") from error
    return Run(**{name: record[name] for name in _RUN if name != "outcomes"}, outcomes=outcomes)


@contextmanager
def write_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a text file for writing, compressed if its name ends in `.gz`; it takes its name only when it is whole.

    Folders on the way to it are made.

    Raises:
        StorageFull: it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as place, _open(place, "wt", compressed=path.suffix == ".gz") as file:
            yield file
    except OSError as error:
        raise StorageFull(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def read_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a text file for reading, decompressed if its name ends in `.gz`.

    Raises:
        ResultsError: it cannot be opened, is cut short, or is not text.
    """
    path = Path(path)
    try:
        with _open(path, "rt", compressed=path.suffix == ".gz") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise ResultsError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: cannot be read, since it is not text") from error


def _open(path: Path, mode: Literal["rt", "wt"], compressed: bool) -> TextIO:
    if compressed:
        return cast(TextIO, gzip.open(path, mode, encoding="utf-8"))
    return cast(TextIO, path.open(mode, encoding="utf-8"))


def _columns(items: Sequence[Found] | Sequence[Missed], names: Sequence[str]) -> dict[str, list[Any]]:
    return {name: [getattr(item, name) for item in items] for name in names}


def _rows(entry: dict[str, Any], what: str, where: str) -> list[dict[str, Any]]:
    columns = entry[what]
    names = _FOUND if what == "found" else _MISSED
    _check(columns, dict.fromkeys(names, (list,)), f"{where}{what}: ")
    if len({len(columns[name]) for name in names}) != 1:
        raise ResultsError(f"{where}{what}: its columns differ in length")
    for name in names:
        for value in columns[name]:
            box_is_bad = name == "box" and value is not None and not _is_box(value)
            if not isinstance(value, _ITEM[name]) or isinstance(value, bool) or box_is_bad:
                raise ResultsError(f"{where}{what}: {name} cannot be {value!r}")
    return [dict(zip(names, row, strict=True)) for row in zip(*(columns[name] for name in names), strict=True)]


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(edge, _NUMBER) for edge in value)


def _check(record: dict[str, Any], kinds: dict[str, tuple[type, ...]], where: str) -> None:
    for name, kind in kinds.items():
        if name not in record:
            raise ResultsError(f"{where}has no {name!r}; the file is damaged or was not written by patchwise")
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise ResultsError(f"{where}{name!r} cannot be {type(record[name]).__name__}")


def _plain(value: object) -> object:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} is not JSON")
