"""The result format of ILIAS, JSON `{query: {image id: score}}`: written and read query by query, and judged.

Source: repository ilias-vrg/ilias, `evaluation/evaluate.py --similarity_file FILE.json`. Its other format, a pickle, is
not read: unpickling a stranger's file runs their code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, cast

import numpy as np
import numpy.typing as npt

from patchwise.errors import ResultsError, UsageError
from patchwise.evaluation.metrics import last_tied_ranks
from patchwise.evaluation.outcomes import Found, Missed, QueryOutcome, Run
from patchwise.evaluation.run_files import read_text, write_text

if TYPE_CHECKING:
    from patchwise.evaluation.datasets import Benchmark, Query

__all__ = ["IliasResultsWriter", "evaluate_ilias_results", "read_ilias_results"]

Scores = npt.NDArray[np.float64]
_CHUNK = 1 << 20


class IliasResultsWriter:
    """Writes a file of results query by query, compressed if its name ends in `.gz`.

    To be used in `with`: the file takes its name when the block is left without an error.

    Raises:
        StorageFull: it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._opened = write_text(path)
        self._queries: set[str] = set()
        self._file: TextIO | None = None

    def __enter__(self) -> IliasResultsWriter:
        self._file = self._opened.__enter__()
        self._file.write("{")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and kind is None:
            self._file.write("}\n")
        self._file = None
        self._opened.__exit__(kind, error, trace)

    def add(self, query: str, image_ids: Sequence[str], scores: npt.ArrayLike) -> None:
        """Append one query: ids and scores (K,), best first by custom; scores keep every digit.

        Ids are written as they are; those of ILIAS's own files come from `Benchmark.published_id`.

        Raises:
            UsageError: outside `with`, a query given twice, ids that are not unique, lengths that differ, or a score
                that is not finite.
        """
        if self._file is None:
            raise UsageError("results are written inside `with IliasResultsWriter(path) as results:`")
        values = np.asarray(scores, dtype=np.float64)
        if len(values) != len(image_ids) or not np.isfinite(values).all():
            raise UsageError(f"query {query}: {len(image_ids)} images need as many finite scores")
        entry = dict(zip(image_ids, values.tolist(), strict=True))
        if query in self._queries or len(entry) != len(values):
            raise UsageError(f"query {query}: the query or one of its images was given twice")
        self._file.write((",\n" if self._queries else "") + json.dumps(query) + ": " + json.dumps(entry))
        self._queries.add(query)


def read_ilias_results(path: str | os.PathLike[str]) -> Iterator[tuple[str, list[str], Scores]]:
    """Each query of a file of results with its image ids and scores (K,), in the file's order.

    One query is held at a time, so 1,232 x 1,000 scores need no more memory than one.

    Raises:
        ResultsError: the file cannot be read, is not of this form, is cut short, or holds a query or image twice or a
            score that is not a finite number.
    """
    seen: set[str] = set()
    with read_text(path) as file:
        for query, pairs in _entries(file, str(path)):
            ids = [name for name, _ in pairs]
            if any(isinstance(score, bool) or not isinstance(score, (int, float)) for _, score in pairs):
                raise ResultsError(f"{path}: query {query}: every image needs a number as its score")
            scores = np.array([cast(float, score) for _, score in pairs], dtype=np.float64)
            if not np.isfinite(scores).all():
                raise ResultsError(f"{path}: query {query}: holds a score that is not finite")
            if query in seen or len(set(ids)) != len(ids):
                raise ResultsError(f"{path}: query {query}: the query or one of its images is there twice")
            seen.add(query)
            yield query, ids, scores


def evaluate_ilias_results(
    path: str | os.PathLike[str],
    benchmark: Benchmark,
    strategy: str | None = None,
    partial: bool = False,
) -> Run:
    """Judge a file of results by a benchmark; the run knows ranks only, so it has no LocScore.

    Images are sorted by falling score, those that tie in the file's order. `strategy` names the run (the file's name).
    With `partial` queries missing from the file are left out, as by ILIAS's own script, and those that the benchmark
    lacks (text queries) are passed over; otherwise either is an error.

    Raises:
        ResultsError: what `read_ilias_results` refuses, queries that do not fit the benchmark, or a file without any
            positive, whose ids are most likely of another form.
    """
    queries = {query.id: query for query in benchmark.queries}
    outcomes: dict[str, QueryOutcome] = {}
    unknown = []
    for name, ids, scores in read_ilias_results(path):
        if name in queries:
            outcomes[name] = _judge(queries[name], [benchmark.own_id(one) for one in ids], scores)
        else:
            unknown.append(name)
    missing = [name for name in queries if name not in outcomes]
    for names, trouble in ((unknown, f"unknown to {benchmark.name}"), (missing, f"of {benchmark.name} but not there")):
        if names and (not partial or not outcomes):
            raise ResultsError(f"{path}: {len(names)} queries are {trouble}, such as {names[0]}")
    if not any(outcome.found for outcome in outcomes.values()):
        wanted = next((name for query in queries.values() for name in query.positives), "")
        form = benchmark.published_id(wanted)
        raise ResultsError(f"{path}: holds no positive of {benchmark.name}; its image ids should look like {form!r}")
    return Run(
        benchmark=benchmark.name,
        strategy=Path(path).name if strategy is None else strategy,
        encoder={},
        depth=benchmark.depth,
        average_precision=benchmark.average_precision,
        outcomes=[outcomes[name] for name in queries if name in outcomes],
        details={"results_file": str(path), "missing_queries": len(missing), "unknown_queries": len(unknown)},
    )


def _judge(query: Query, ids: Sequence[str], scores: Scores) -> QueryOutcome:
    counted = np.array([name not in query.ignored for name in ids], dtype=bool)
    order = np.argsort(-scores, kind="stable")
    order = order[counted[order]]
    last = last_tied_ranks(scores[order])
    found = [
        Found(ids[place], rank, int(last[rank - 1]), float(scores[place]), None, None, None, None)
        for rank, place in enumerate(order.tolist(), start=1)
        if ids[place] in query.positives
    ]
    seen = {item.image for item in found}
    missed = [Missed(name, None, None) for name in query.positives if name not in seen]
    return QueryOutcome(query.id, query.group, len(query.positives), found, missed)


class _Scanner:
    """Reads JSON piece by piece, holding no more than the piece at hand and a chunk of the file."""

    def __init__(self, file: TextIO, path: str) -> None:
        self._file, self._path = file, path
        self._text, self._at = "", 0
        self._decoder = json.JSONDecoder(object_pairs_hook=list)

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._fill():
                return ""

    def take(self, allowed: str) -> str:
        """Step over the next character, which must be one of those allowed."""
        character = self.peek()
        if not character or character not in allowed:
            raise self._refusal(f"expected {' or '.join(allowed)}")
        self._at += 1
        return character

    def value(self, opening: str) -> object:
        """The string or object that starts here; an object comes as the list of its pairs."""
        if self.peek() != opening:
            raise self._refusal(f"expected {opening}")
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # Most often the piece is not here as a whole yet.
                if not self._fill():
                    raise self._refusal(error.msg, error.pos) from error
            else:
                return cast(object, value)

    def _fill(self) -> bool:
        # As much again as is held, so that a long piece is tried a few times only.
        more = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)

    def _refusal(self, reason: str, at: int | None = None) -> ResultsError:
        start = self._at if at is None else at
        near = repr(self._text[start : start + 20]) if start < len(self._text) else "the end of the file"
        return ResultsError(f"{self._path}: is not JSON of the form {{query: {{image id: score}}}}: {reason} at {near}")


def _entries(file: TextIO, path: str) -> Iterator[tuple[str, list[tuple[str, object]]]]:
    """The members of one JSON object, each decoded as soon as it is read."""
    scanner = _Scanner(file, path)
    scanner.take("{")
    if scanner.peek() == "}":
        return
    while True:
        query = cast(str, scanner.value('"'))
        scanner.take(":")
        yield query, cast(list[tuple[str, object]], scanner.value("{"))
        if scanner.take(",}") == "}":
            return
