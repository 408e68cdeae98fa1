"""Runs on disk: the same comes back, and what is wrong with a file is said."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rankings import found, outcome, random_run, run

from patchwise.errors import ResultsError, StorageFull, UsageError
from patchwise.evaluation.outcomes import Missed, Run
from patchwise.evaluation.run_files import load_run, save_run, write_text

FULL = replace(
    run(
        outcome(
            [found(1, 0.1 + 0.2), found(2, None, last_rank=4, image="ä/№.jpg")], [Missed("m", None, None)], "q", "g"
        ),
        outcome([], positives=3, query="unlisted"),
        depth=1000,
        rule="at depth",
        costs={"bytes_per_image": 15450.5},
    ),
    details={"seed": 3, "nested": {"list": [1, None, "x"]}},
)


@pytest.mark.parametrize("name", ["run.json", "run.json.gz"])
@pytest.mark.parametrize("saved", [FULL, random_run(1), run()], ids=["full", "random", "empty"])
def test_the_same_run_comes_back(tmp_path: Path, name: str, saved: Run) -> None:
    save_run(saved, tmp_path / name)
    loaded = load_run(tmp_path / name)
    assert replace(loaded, outcomes=()) == replace(saved, outcomes=())
    for ours, theirs in zip(loaded.outcomes, saved.outcomes, strict=True):
        assert replace(ours, found=(), missed=()) == replace(theirs, found=(), missed=())
        assert list(ours.found) == list(theirs.found)
        assert list(ours.missed) == list(theirs.missed)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_ending_decides_about_compression(tmp_path: Path) -> None:
    save_run(random_run(1), tmp_path / "run.json")
    save_run(random_run(1), tmp_path / "run.json.gz")
    plain, packed = (tmp_path / "run.json").read_bytes(), (tmp_path / "run.json.gz").read_bytes()
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 2


def test_numpy_numbers_are_numbers(tmp_path: Path) -> None:
    numbers = replace(FULL, costs={"x": np.float32(0.5)}, details={"n": np.int64(3), "a": np.arange(2)})
    save_run(numbers, tmp_path / "run.json")
    loaded = load_run(tmp_path / "run.json")
    assert (loaded.costs, loaded.details) == ({"x": 0.5}, {"n": 3, "a": [0, 1]})


@pytest.mark.parametrize("bad", [{"costs": {"x": float("nan")}}, {"details": {"x": object()}}])
def test_what_json_cannot_say_is_refused_and_nothing_is_left_behind(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"pyramid:3 on tiny cannot be saved"):
        save_run(replace(FULL, **bad), tmp_path / "run.json")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")

    def interrupted() -> None:
        with write_text(path) as file:
            file.write("new, but not whole")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("run.json", "old")]


def test_a_folder_that_is_not_there_is_made_or_named(tmp_path: Path) -> None:
    save_run(FULL, tmp_path / "made" / "here" / "run.json")
    assert load_run(tmp_path / "made" / "here" / "run.json").costs == FULL.costs
    with pytest.raises(StorageFull, match=r"file.run\.json: cannot be written \((File exists|Not a directory)"):
        (tmp_path / "file").write_text("")
        save_run(FULL, tmp_path / "file" / "run.json")
    with pytest.raises(ResultsError, match=r"nowhere.run\.json: cannot be read \(No such file"):
        load_run(tmp_path / "nowhere" / "run.json")


def _change(record: dict[str, Any], path: str, value: object) -> None:
    *way, last = path.split("/")
    for step in way:
        record = record[int(step)] if step.isdigit() else record[step]  # type: ignore[call-overload]
    if value is KeyError:
        del record[last]
    else:
        record[last] = value


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("format", "other", "is no saved run; `patchwise eval"),
        ("version", 2, "version 2, and this patchwise reads 1"),
        ("benchmark", KeyError, "has no 'benchmark'"),
        ("depth", "deep", "'depth' cannot be str"),
        ("outcomes", {}, "'outcomes' cannot be dict"),
        ("outcomes/0/positives", True, "outcome 0: 'positives' cannot be bool"),
        ("outcomes/0/positives", 1, "outcome 0: query q: 1 positives, but 3"),
        ("outcomes/0/found/rank", KeyError, "outcome 0: found: has no 'rank'"),
        ("outcomes/0/found/rank", [2, 1], "outcome 0: query q: ranks must rise"),
        ("outcomes/0/found/rank", [1], "columns differ in length"),
        ("outcomes/0/found/rank", [1, "2"], "rank cannot be '2'"),
        ("outcomes/0/found/box", [[0, 0, 1], None], r"box cannot be \[0, 0, 1\]"),
        ("outcomes/0/missed/image", [None], "missed: image cannot be None"),
        ("outcomes/0/missed", [], "'missed' cannot be list"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, path: str, value: object, said: str) -> None:
    file = tmp_path / "run.json"
    save_run(FULL, file)
    record = json.loads(file.read_text())
    _change(record, path, value)
    file.write_text(json.dumps(record))
    with pytest.raises(ResultsError, match=rf"run\.json: .*{said}"):
        load_run(file)


OTHER_KINDS = {
    "half an object": ("run.json", b"{", "is not JSON"),
    "a list": ("run.json", b"[]", "is no saved run"),
    "no text": ("run.json", b"\xff\xfe", "is not text"),
    "no gzip": ("run.json.gz", b"{}", "cannot be read"),
    "a cut gzip": ("run.json.gz", gzip.compress(b"{}" * 100)[:-9], "cannot be read"),
}


@pytest.mark.parametrize(("name", "content", "said"), OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_files_of_another_kind_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ResultsError, match=said):
        load_run(tmp_path / name)


def test_an_outcome_that_is_no_object_is_refused(tmp_path: Path) -> None:
    save_run(run(), tmp_path / "run.json")
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "outcomes": [3]}))
    with pytest.raises(ResultsError, match="outcome 0: is not an object"):
        load_run(tmp_path / "run.json")
