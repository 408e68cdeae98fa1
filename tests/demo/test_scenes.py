"""The demonstration's scenes: what hangs where must be true, or the demo proves nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import FakeEncoder
from patchwise.demo.scenes import SCENE_SIZE, Objects, Scene, load_photographs, make_scenes
from patchwise.errors import MissingExtra

pytest.importorskip("skimage")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def objects() -> Objects:
    return load_photographs()


@pytest.fixture(scope="module")
def scenes(objects: Objects, tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    return make_scenes(tmp_path_factory.mktemp("scenes"), objects, per_object=3, empty=4)


def test_every_object_hangs_as_often_as_asked(objects: Objects, scenes: list[Scene]) -> None:
    shown = [scene.shows for scene in scenes]
    assert {name: shown.count(name) for name in objects.queries} == dict.fromkeys(objects.queries, 3)
    assert shown.count(None) == 4
    assert all((scene.box is None) == (scene.shows is None) for scene in scenes)
    for scene in scenes:
        with Image.open(scene.path) as image:
            assert image.size == SCENE_SIZE


def test_objects_are_small_and_off_centre(scenes: list[Scene]) -> None:
    width, height = SCENE_SIZE
    for scene in scenes:
        if scene.box is None:
            continue
        x0, y0, x1, y1 = scene.box
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert 0.03 < (x1 - x0) * (y1 - y0) / (width * height) < 0.14
        assert max(abs((x0 + x1) / 2 / width - 0.5), abs((y0 + y1) / 2 / height - 0.5)) > 0.19


def test_the_object_is_where_the_box_says(objects: Objects, scenes: list[Scene], fake_encoder: FakeEncoder) -> None:
    names = list(objects.shown)

    def layout(images: list[Image.Image]) -> np.ndarray:
        return fake_encoder.encode(np.stack([np.asarray(image.resize((16, 16))) for image in images]))

    hung = [scene for scene in scenes if scene.box is not None]
    crops = []
    for scene in hung:
        with Image.open(scene.path) as image:
            crops.append(image.crop(tuple(map(int, scene.box or ()))))
    nearest = (layout(crops) @ layout([objects.shown[name] for name in names]).T).argmax(axis=1)
    right = [names[index] == scene.shows for index, scene in zip(nearest, hung, strict=True)]
    assert np.mean(right) >= 0.8, right


def test_a_query_is_not_cut_from_the_scene_it_hangs_in(objects: Objects) -> None:
    """The motorcycle that is asked for was photographed from another place than the one that hangs."""
    asked, hangs = (np.asarray(images["motorcycle"], dtype=int) for images in (objects.queries, objects.shown))
    assert np.abs(asked - hangs).mean() > 10


def test_the_same_seed_gives_the_same_files(objects: Objects, tmp_path: Path) -> None:
    first, second, other = (
        make_scenes(tmp_path / name, objects, per_object=0, empty=2, seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert [scene.path.read_bytes() for scene in first] == [scene.path.read_bytes() for scene in second]
    assert first[0].path.read_bytes() != other[0].path.read_bytes()


@pytest.mark.parametrize("package", ["skimage", "sklearn.datasets"])
def test_without_the_photographs_it_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'patchwise\[demo\]'"):
        load_photographs()
