"""The result format of ILIAS: written, read piece by piece, and judged as its published definition says."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from patchwise.errors import ResultsError, StorageFull, UsageError
from patchwise.evaluation.datasets import Benchmark, Query
from patchwise.evaluation.datasets.ilias import from_official_id, official_id
from patchwise.evaluation.ilias_results import IliasResultsWriter, evaluate_ilias_results, read_ilias_results
from patchwise.evaluation.metrics import per_query

AWKWARD = {
    'a "quoted" {query}': {"pos/1.jpg": 0.1 + 0.2, "shard.tar/}{": -1.0, "№ ä": 1e-300},
    "empty": {},
    "second": {"x": 3.0, "y": 2.0},
}


def write(path: Path, results: dict[str, dict[str, float]]) -> Path:
    with IliasResultsWriter(path) as writer:
        for query, images in results.items():
            writer.add(query, list(images), list(images.values()))
    return path


def read(path: Path) -> dict[str, dict[str, float]]:
    return {query: dict(zip(ids, scores.tolist(), strict=True)) for query, ids, scores in read_ilias_results(path)}


@pytest.mark.parametrize("name", ["r.json", "r.json.gz"])
@pytest.mark.parametrize("results", [AWKWARD, {}], ids=["awkward", "empty"])
def test_what_is_written_is_json_and_comes_back(
    tmp_path: Path, name: str, results: dict[str, dict[str, float]]
) -> None:
    path = write(tmp_path / name, results)
    raw = path.read_bytes()
    assert json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw) == results
    assert read(path) == results


@pytest.mark.parametrize("chunk", [1, 2, 7, 10**6])
@pytest.mark.parametrize("indent", [None, 3])
def test_pieces_of_any_length_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
) -> None:
    path = tmp_path / "r.json"
    path.write_text(" \n" + json.dumps(AWKWARD, indent=indent) + "\n")
    monkeypatch.setattr("patchwise.evaluation.ilias_results._CHUNK", chunk)
    assert read(path) == AWKWARD


def test_queries_come_before_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"first": {"a": 1.0}, "second": {"b": 1.0}})[:-10])
    monkeypatch.setattr("patchwise.evaluation.ilias_results._CHUNK", 8)
    entries = read_ilias_results(path)
    query, ids, scores = next(entries)
    assert (query, ids, scores.tolist()) == ("first", ["a"], [1.0])
    with pytest.raises(ResultsError, match="at the end of the file"):
        next(entries)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected {"),
        ("[]", "expected {"),
        ('{"q": {"a": 1}', "expected , or }"),
        ('{"q": {"a": 1} "r"', "expected , or }"),
        ('{"q"}', "expected :"),
        ('{"q": 3}', "expected {"),
        ("{3: {}}", 'expected "'),
        ('{"q": {"a": 1,}}', "is not JSON"),
        ('{"q": {"a": "1"}}', "query q: every image needs a number"),
        ('{"q": {"a": true}}', "query q: every image needs a number"),
        ('{"q": {"a": {"b": 1}}}', "query q: every image needs a number"),
        ('{"q": {"a": NaN}}', "query q: holds a score that is not finite"),
        ('{"q": {"a": 1e999}}', "query q: holds a score that is not finite"),
        ('{"q": {"a": 1, "a": 2}}', "query q: .*twice"),
        ('{"q": {}, "q": {}}', "query q: .*twice"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(ResultsError, match=rf"r\.json: .*{said}"):
        read(path)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for ids, scores in ((["a"], [1.0, 2.0]), (["a"], [np.nan]), (["a", "a"], [1.0, 2.0])):
        with pytest.raises(UsageError, match="query q"), IliasResultsWriter(path) as writer:
            writer.add("q", ids, scores)
    with pytest.raises(UsageError, match=r"query q: .*twice"), IliasResultsWriter(path) as writer:
        writer.add("q", ["a"], [1.0])
        writer.add("q", ["a"], [1.0])
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="inside `with"):
        IliasResultsWriter(path).add("q", ["a"], [1.0])
    path.write_text("")
    with pytest.raises(StorageFull, match=r"r\.json.in\.json: cannot be written"), IliasResultsWriter(path / "in.json"):
        pass


def benchmark(queries: list[Query], depth: int = 1000) -> Benchmark:
    return Benchmark("ilias", Path("."), [], queries, depth=depth, average_precision="at depth")


def test_a_thousand_random_files_entries_agree_with_the_published_definition(tmp_path: Path) -> None:
    """ILIAS's AP@k said again with scikit-learn, on rankings with ties in no particular order."""
    generator = np.random.default_rng(11)
    k, results, queries, expected = 25, {}, [], []
    for number in range(1000):
        positives = {f"{number}/pos/{n}.jpg" for n in range(int(generator.integers(1, 9)))}
        names = [*(name for name in sorted(positives) if generator.random() < 0.7), *(f"s.tar/{n}" for n in range(20))]
        names = [names[place] for place in generator.permutation(len(names))][
            :k
        ]  # as many as count: no cut through ties
        scores = generator.integers(0, generator.choice([3, 9, 10**6]), len(names)) / 9
        results[f"{number}/query/Q.jpg"] = dict(zip(names, scores.tolist(), strict=True))
        queries.append(Query(f"{number}/query/Q.jpg", Path("q"), None, dict.fromkeys(positives, ()), group=str(number)))
        hit = np.array([name in positives for name in names])
        ap = average_precision_score(hit, scores) * hit.sum() / min(k, len(positives)) if hit.any() else 0.0
        expected.append(ap)
    run = evaluate_ilias_results(write(tmp_path / "r.json", results), benchmark(queries, k))
    values = per_query(run)
    assert values["average_precision"] == pytest.approx(np.array(expected), abs=1e-12)
    assert np.isnan(values["loc_score"]).all()
    assert (run.benchmark, run.strategy, run.depth) == ("ilias", "r.json", k)
    assert sum(len(outcome.missed) for outcome in run.outcomes) > 500


def test_ignored_images_leave_the_ranking_and_ties_keep_the_files_order(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", {"q": {"junk": 9.0, "d": 5.0, "p": 5.0, "junk2": 5.0, "e": 5.0, "p2": 1.0}})
    query = Query("q", Path("q"), None, {"p": (), "p2": (), "gone": ()}, frozenset({"junk", "junk2"}))
    [outcome] = evaluate_ilias_results(path, benchmark([query]), strategy="mine").outcomes
    assert [(item.image, item.rank, item.last_rank, item.score) for item in outcome.found] == [
        ("p", 2, 3, 5.0),
        ("p2", 4, 4, 1.0),
    ]
    assert [item.image for item in outcome.missed] == ["gone"]
    many = write(tmp_path / "s.json", {"q": {f"{n}.jpg": float(n % 2) for n in range(300)}})
    every = Query("q", Path("q"), None, {f"{n}.jpg": () for n in range(300)})
    [outcome] = evaluate_ilias_results(many, benchmark([every])).outcomes
    assert [item.image for item in outcome.found] == [f"{n}.jpg" for n in (*range(1, 300, 2), *range(0, 300, 2))]


def test_queries_that_do_not_fit_are_errors_unless_a_part_will_do(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", {"q1": {"p": 1.0}, "text query": {"p": 1.0}})
    queries = [Query(name, Path("q"), None, {"p": ()}) for name in ("q1", "q2")]
    with pytest.raises(ResultsError, match="1 queries are unknown to ilias, such as text query"):
        evaluate_ilias_results(path, benchmark(queries[:1]))
    with pytest.raises(ResultsError, match="1 queries are of ilias but not there, such as q2"):
        evaluate_ilias_results(write(tmp_path / "s.json", {"q1": {"p": 1.0}}), benchmark(queries))
    run = evaluate_ilias_results(path, benchmark(queries), partial=True)
    assert [outcome.query for outcome in run.outcomes] == ["q1"]
    assert (run.details["missing_queries"], run.details["unknown_queries"]) == (1, 1)
    with pytest.raises(ResultsError, match="unknown"):
        evaluate_ilias_results(write(tmp_path / "t.json", {"other": {"p": 1.0}}), benchmark(queries), partial=True)


def test_ids_of_the_authors_become_those_of_the_benchmark(tmp_path: Path) -> None:
    query = Query("cup/query/Q.jpg", Path("q"), None, {"ilias_core/cup/pos/P.jpg": ()})
    images = ["yfcc100m/1.tar/d.jpg", "ilias_core/cup/pos/P.jpg"]
    path = write(tmp_path / "r.json", {query.id: {official_id(image): -n for n, image in enumerate(images)}})
    assert read(path) == {query.id: {"1.tar/d": 0, "cup/pos/P.jpg": -1}}
    ilias = replace(benchmark([query]), published_id=official_id, own_id=from_official_id)
    [outcome] = evaluate_ilias_results(path, ilias).outcomes
    assert [(item.image, item.rank) for item in outcome.found] == [("ilias_core/cup/pos/P.jpg", 2)]
    with pytest.raises(ResultsError, match="no positive of ilias; its image ids should look like 'ilias_core/cup/pos/"):
        evaluate_ilias_results(path, benchmark([query]))
