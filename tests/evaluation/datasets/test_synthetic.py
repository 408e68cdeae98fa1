"""The built-in benchmark: made once, the same for everybody, recognised when it is there, and never half believed."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchwise import Gallery
from patchwise.errors import MissingExtra, PatchwiseError, UsageError
from patchwise.evaluation import per_query
from patchwise.evaluation.datasets import Benchmark, read_benchmark
from patchwise.evaluation.datasets import synthetic as module
from patchwise.evaluation.datasets.synthetic import (
    SYNTHETIC_EDGES,
    SyntheticPhotographs,
    default_folder,
    load_photographs,
    read_synthetic,
)
from patchwise.evaluation.runner import evaluate

pytest.importorskip("skimage")
pytest.importorskip("sklearn")

SMALL: dict[str, Any] = {"scenes_per_object": 2, "empty": 3}


@pytest.fixture(scope="module")
def photographs() -> SyntheticPhotographs:
    return load_photographs()


@pytest.fixture
def quick(photographs: SyntheticPhotographs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two objects instead of sixteen."""
    few = ("cat", "motorcycle")
    small = SyntheticPhotographs(
        {name: photographs.asked[name] for name in few},
        {name: photographs.shown[name] for name in few},
        photographs.backgrounds,
    )
    monkeypatch.setattr(module, "load_photographs", lambda: small)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return read_synthetic(tmp_path_factory.mktemp("made") / "synthetic", **SMALL)


def test_every_object_is_shown_and_asked_for_evenly(made: Benchmark, photographs: SyntheticPhotographs) -> None:
    assert made.name == "synthetic 1, scenes per object 2, empty 3"
    assert len(made.image_ids) == 16 * 2 + 3
    assert len(made.queries) == 16 * 3
    assert {query.group for query in made.queries} == set(photographs.asked)
    shown = {query.group: query.positives for query in made.queries}
    assert [len(positives) for positives in shown.values()] == [2] * 16
    assert len({image for positives in shown.values() for image in positives}) == 16 * 2
    for query in made.queries:
        assert query.box is None and query.image.is_file()
    for image in made.image_ids:
        with Image.open(made.root / image) as scene:
            assert scene.size == (800, 600)


def test_attributes_tell_of_every_scene_with_an_object(made: Benchmark) -> None:
    truth = {image: boxes for query in made.queries for image, boxes in query.positives.items()}
    assert set(made.attributes) == set(truth)
    for image, ((x0, y0, x1, y1),) in truth.items():
        measured = made.attributes[image]
        assert set(measured) == {
            "size_share",
            "centre_distance",
            "clutter_pictures",
            "occlusion_share",
            "light_stops",
            "viewpoint_degrees",
            "turn_degrees",
        }
        assert measured["size_share"] == pytest.approx((x1 - x0) * (y1 - y0) / (800 * 600))
        assert 0 <= measured["occlusion_share"] <= 0.55


def test_the_bins_of_breakdowns_hold_every_scene(made: Benchmark) -> None:
    for name, edges in SYNTHETIC_EDGES.items():
        values = [measured[name] for measured in made.attributes.values()]
        counts = np.histogram(values, edges)[0]
        assert counts.sum() == len(values) == 32
        assert counts.min() >= 3, name


def test_the_box_holds_the_object(made: Benchmark, photographs: SyntheticPhotographs) -> None:
    """Cut out and compared by colours with all objects, it is mostly the right one that is nearest."""

    def colours(image: Image.Image) -> np.ndarray:
        small = np.asarray(image.resize((6, 6), Image.Resampling.BOX), dtype=float)
        return ((small - small.mean()) / small.std()).ravel()

    names = list(photographs.shown)
    references = np.array([colours(photographs.shown[name]) for name in names])
    right = []
    for query in made.queries[::3]:
        for image, (box,) in query.positives.items():
            if made.attributes[image]["occlusion_share"] < 0.1:
                with Image.open(made.root / image) as scene:
                    cut = colours(scene.crop(tuple(map(int, box))))
                right.append(names[int((references @ cut).argmax())] == query.group)
    assert len(right) >= 12
    assert np.mean(right) > 0.7


def test_the_motorcycle_is_asked_for_by_another_photograph(photographs: SyntheticPhotographs) -> None:
    assert [name for name in photographs.asked if photographs.asked[name] is not photographs.shown[name]] == [
        "motorcycle"
    ]
    asked, shown = (np.asarray(images["motorcycle"], dtype=int) for images in (photographs.asked, photographs.shown))
    assert np.abs(asked - shown).mean() > 10


@pytest.mark.usefixtures("quick")
def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    def files(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        read_synthetic(tmp_path / name, **SMALL, seed=seed)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    other = files(tmp_path / "other")
    assert all(data != other.get(name) for name, data in files(tmp_path / "one").items())


@pytest.mark.usefixtures("quick")
def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    first = read_benchmark("synthetic:scenes=2:empty=3", tmp_path / "new" / "folder", progress=said.append)
    assert said == ["composed 7 of 7 scenes"]
    again = read_synthetic(tmp_path / "new" / "folder", **SMALL, progress=said.append)
    assert said == ["composed 7 of 7 scenes"]
    assert again == first


@pytest.mark.usefixtures("quick")
def test_an_interrupted_making_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(picture: Image.Image, path: Path, **options: Any) -> None:
        if path.name == "0004.jpg":
            raise KeyboardInterrupt
        save(picture, path, **options)

    save = Image.Image.save
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read_synthetic(tmp_path / "s", **SMALL)
    assert (tmp_path / "s" / "scenes" / "0003.jpg").is_file() and not (tmp_path / "s" / "benchmark.json").exists()
    assert len(read_synthetic(tmp_path / "s", **SMALL).image_ids) == 7


@pytest.mark.usefixtures("quick")
def test_changed_or_lost_files_are_noticed(tmp_path: Path, refusal: Callable[..., str]) -> None:
    root = tmp_path / "s"
    whole = read_synthetic(root, **SMALL)
    (root / "scenes" / "0002.jpg").unlink()
    (root / "queries" / "cat_1.jpg").write_bytes(b"something else")
    message = refusal(read_synthetic, root, **SMALL)
    assert "changed or missing since it was made: scenes/0002.jpg, queries/cat_1.jpg; delete the folder" in message
    shutil.rmtree(root)
    assert read_synthetic(root, **SMALL) == whole
    manifest = root / "benchmark.json"
    text = manifest.read_text()
    for broken in (text[:-5], "[]", json.dumps({**json.loads(text), "scenes": [1]})):
        manifest.write_text(broken)
        with pytest.raises(PatchwiseError, match=r"cannot be read|not a synthetic benchmark"):
            read_synthetic(root, **SMALL)


@pytest.mark.usefixtures("quick")
def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError, match="holds other files, and is left alone"):
        read_synthetic(tmp_path / "mine", **SMALL)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["holiday.jpg"]
    with pytest.raises(UsageError, match="holds other files"):
        read_synthetic(tmp_path / "mine" / "holiday.jpg", **SMALL)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "benchmark.json").write_text('{"format": "another"}')
    with pytest.raises(UsageError, match=r"benchmark\.json: not a synthetic benchmark"):
        read_synthetic(tmp_path / "foreign", **SMALL)


@pytest.mark.usefixtures("quick")
def test_another_kind_is_not_mistaken_for_it(tmp_path: Path) -> None:
    read_synthetic(tmp_path, **SMALL)
    with pytest.raises(UsageError, match=r"of another kind \(seed 0, not 7\)"):
        read_synthetic(tmp_path, **SMALL, seed=7)
    with pytest.raises(UsageError, match=r"scenes_per_object 2, not 3, empty 3, not 0"):
        read_synthetic(tmp_path, scenes_per_object=3, empty=0)
    with pytest.raises(UsageError, match="at least 2 scenes per object"):
        read_synthetic(tmp_path, scenes_per_object=1)


@pytest.mark.usefixtures("quick")
def test_without_a_folder_it_lives_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWISE_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "synthetic-1"
    one, two = (read_benchmark(f"synthetic:scenes=2:empty=0:seed={seed}").root for seed in (0, 1))
    assert one != two and one.parent == two.parent == tmp_path


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setitem(sys.modules, "pooch", None)
    loaded = load_photographs()
    assert (len(loaded.asked), len(loaded.backgrounds)) == (16, 10)
    assert all(image.mode == "RGB" and min(image.size) >= 100 for image in loaded.shown.values())


@pytest.mark.parametrize("package", ["skimage", "sklearn.datasets"])
def test_without_the_photographs_it_says_what_to_install(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'patchwise\[demo\]'"):
        read_synthetic(tmp_path / "s", **SMALL)
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_it_separates_region_strategies_in_the_papers_order(tmp_path: Path) -> None:
    """The poster's table: whole < Patchify < sliding window 0.5 in LocScore; a tenth of the scenes is enough."""
    benchmark = read_synthetic(tmp_path / "s", scenes_per_object=2, empty=0)
    values = []
    for regions in ("whole", "pyramid:3", "sliding:3:0.5"):
        with Gallery.create(tmp_path / f"{len(values)}.pw", regions=regions) as gallery:
            values.append(per_query(evaluate(benchmark, gallery))["loc_score"])
    whole, pyramid, sliding = map(np.mean, values)
    assert whole + 0.1 < pyramid
    assert pyramid < sliding
