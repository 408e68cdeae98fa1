"""Several strategies on one benchmark: each in a gallery that is kept, found again, and never mixed up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from conftest import FakeEncoder
from patchwise.encoders import registry
from patchwise.errors import GalleryMismatch, RegionsError, StorageFull, UsageError
from patchwise.evaluation import Run, load_run, save_run, summarise
from patchwise.evaluation.datasets import Benchmark, Query
from patchwise.evaluation.reports import breakdown_tables, write_report
from patchwise.evaluation.sweep import default_cache, sweep

STRATEGIES = ("whole", "pyramid:2", "sliding:2:0.5", "oracle")
Picture = Callable[..., Image.Image]


@pytest.fixture(autouse=True)
def registered(fake_encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_plugged_in", lambda: {"fake": SimpleNamespace(load=lambda: lambda _: fake_encoder)})


@pytest.fixture
def benchmark(tmp_path: Path, picture: Picture) -> Benchmark:
    """Two things, each pasted into two of eight scenes at a known box."""
    root = tmp_path / "data"
    root.mkdir()
    queries, names = [], []
    for seed in range(8):
        scene = picture(seed, (120, 90))
        if seed < 4:
            scene.paste(picture(100 + seed % 2, (40, 30)), (60 + seed, 40))
        names.append(f"{seed}.png")
        scene.save(root / names[-1])
    for thing in range(2):
        picture(100 + thing, (40, 30)).save(tmp_path / f"query {thing}.png")
        boxes = {f"{seed}.png": ((60.0 + seed, 40.0, 100.0 + seed, 70.0),) for seed in (thing, thing + 2)}
        queries.append(Query(f"q{thing}", tmp_path / f"query {thing}.png", None, boxes, group=str(thing)))
    return Benchmark("things", root, names, queries, notes=("One note.",))


def run(benchmark: Benchmark, cache: Path, regions: tuple[str, ...] = STRATEGIES, **how: object) -> list[Run]:
    return list(sweep(benchmark, regions, encoder="fake", cache=cache, **how))  # type: ignore[arg-type]


def test_the_oracle_places_best_and_the_whole_image_worst(benchmark: Benchmark, tmp_path: Path) -> None:
    runs = run(benchmark, tmp_path / "cache")
    assert [one.strategy for one in runs] == list(STRATEGIES)
    loc = [summarise(one).metrics["loc_score"].mean for one in runs]
    assert loc[0] == min(loc) < loc[3] == max(loc)
    assert loc[3] == pytest.approx(1.0)
    assert runs[3].costs["regions_per_image"] == pytest.approx(1 + 4 / 8)


def test_a_second_time_nothing_is_encoded(benchmark: Benchmark, tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    first = run(benchmark, tmp_path / "cache")
    encoded = fake_encoder.encoded_regions
    again = run(benchmark, tmp_path / "cache")
    assert fake_encoder.encoded_regions == encoded + 2 * len(STRATEGIES)  # the queries
    assert [one.outcomes for one in again] == [one.outcomes for one in first]
    assert len(list((tmp_path / "cache").iterdir())) == len(STRATEGIES)


def test_what_decides_the_vectors_decides_the_gallery(benchmark: Benchmark, tmp_path: Path) -> None:
    run(benchmark, tmp_path / "cache", ("oracle",))
    moved = dict.fromkeys(benchmark.queries[0].positives, ((0.0, 0.0, 30.0, 30.0),))
    other = replace(benchmark, queries=[replace(benchmark.queries[0], positives=moved), benchmark.queries[1]])
    run(other, tmp_path / "cache", ("oracle",))
    run(replace(benchmark, name="things, otherwise"), tmp_path / "cache", ("oracle",))
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_weights_that_have_changed_are_refused(benchmark: Benchmark, tmp_path: Path, fake_encoder: FakeEncoder) -> None:
    run(benchmark, tmp_path / "cache", ("whole",))
    fake_encoder.weights_sha256 = "1" * 64
    with pytest.raises(GalleryMismatch, match=r"weights_sha256.*or delete .*cache.*only a cache"):
        run(benchmark, tmp_path / "cache", ("whole",))


@pytest.mark.parametrize(
    ("regions", "error", "message"),
    [
        ((), UsageError, "at least one"),
        (("whole", "whole"), UsageError, "each once"),
        (("grid:3",), RegionsError, "unknown strategy"),
    ],
)
def test_strategies_that_make_no_sense(
    benchmark: Benchmark, tmp_path: Path, regions: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(benchmark, tmp_path / "cache", regions)
    assert not (tmp_path / "cache").exists()


def test_interrupted_it_goes_on_where_it_stopped(
    benchmark: Benchmark, tmp_path: Path, fake_encoder: FakeEncoder
) -> None:
    class Stop(BaseException):
        pass

    def stop(event: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        run(benchmark, tmp_path / "cache", ("pyramid:2",), indexing=stop)
    assert run(benchmark, tmp_path / "cache", ("pyramid:2",))[0].details["images"] == 8


def test_a_run_is_the_same_from_its_file(benchmark: Benchmark, tmp_path: Path) -> None:
    for one in run(benchmark, tmp_path / "cache"):
        save_run(one, tmp_path / "run.json.gz")
        assert load_run(tmp_path / "run.json.gz") == one


def test_the_report(benchmark: Benchmark, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = run(benchmark, tmp_path / "cache")
    written = write_report(tmp_path / "new" / "report", benchmark, runs, [summarise(one) for one in runs])
    names = {path.name for path in written}
    assert names == {
        "locscore_over_delta.png", "by_area.png", "by_centre_distance.png", "accuracy_against_memory.png",
        "results.md", "results.json",
    }  # fmt: skip
    page = (tmp_path / "new" / "report" / "results.md").read_text(encoding="utf-8")
    assert "One note." in page and all(f"fake {name}" in page and name for name in STRATEGIES)
    assert all(f"]({name})" in page for name in names if name.endswith(".png"))
    found = json.loads((tmp_path / "new" / "report" / "results.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in found["results"]] == [f"fake {name}" for name in STRATEGIES]
    assert found["results"][3]["metrics"]["loc_score"]["mean"] == pytest.approx(1.0)
    for path in written:
        assert path.stat().st_size > 500


def test_without_boxes_there_are_no_plots_of_places(benchmark: Benchmark, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    queries = [replace(query, positives=dict.fromkeys(query.positives, ())) for query in benchmark.queries]
    plain = replace(benchmark, queries=queries)
    runs = run(plain, tmp_path / "cache", ("whole",))
    written = write_report(tmp_path / "report", plain, runs, [summarise(one) for one in runs])
    assert [path.name for path in written] == ["accuracy_against_memory.png", "results.md", "results.json"]


def test_a_report_that_cannot_be_written(benchmark: Benchmark, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    runs = run(benchmark, tmp_path / "cache", ("whole",))
    with pytest.raises(StorageFull, match=r"file/report: cannot be written to"):
        write_report(tmp_path / "file" / "report", benchmark, runs, [summarise(one) for one in runs])


def test_scale_and_clutter_get_a_table_each(benchmark: Benchmark, tmp_path: Path) -> None:
    known = {f"{seed}.png": {"scale": 0.05 if seed < 2 else 0.2, "clutter": 40.0} for seed in range(4)}
    runs = run(benchmark, tmp_path / "cache", ("whole", "oracle"))
    scale, clutter = breakdown_tables(replace(benchmark, attributes=known), runs)
    assert scale.title == "things by scale" and clutter.title == "things by clutter"
    assert "2, 0, 2, 0" in scale.notes[0] and "0, 0, 4, 0" in clutter.notes[0]
    assert scale.rows[1][1:] == ["100.0 / 100.0", "– / –", "100.0 / 100.0", "– / –"]
    assert list(breakdown_tables(benchmark, runs)) == []
    turned = {"0.png": {"turn_degrees": -20.0, "occlusion_share": 0.0}}
    hidden, turn = breakdown_tables(replace(benchmark, attributes=turned), runs)
    assert hidden.columns[1:] == ["0", "1e-09 to 0.22", "from 0.22"] and turn.columns[1] == "below -10"
    assert "1, 0, 0, 0" in turn.notes[0]


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATCHWISE_CACHE", str(tmp_path / "c"))
    assert default_cache() == tmp_path / "c" / "eval"
    monkeypatch.delenv("PATCHWISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_cache().parent.name == "patchwise"
