"""Every strategy from end to end: images with different numbers of regions are stored, found, explained, dropped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.errors import GalleryMismatch, RegionsError
from patchwise.images import read_picture
from patchwise.indexing import index_paths, walk
from patchwise.regions import FixedBoxes, View, parse_regions
from patchwise.report import table_lines
from patchwise.report.page import write_search_page

SIZES = {"a.png": (96, 64), "b.png": (64, 96), "c.png": (40, 40), "tiny.png": (3, 2), "pixel.png": (1, 1)}
BOXES = """path,x0,y0,x1,y1,score
photos/a.png,10,10,50,40,0.9
photos/a.png,30,20,96,64,0.8
photos/b.png,1.5,2.5,33,44,
tiny.png,0,0,2,2,
c.png,,,,
"""
BOX_COUNTS = {"a.png": 3, "b.png": 2, "c.png": 1, "tiny.png": 2, "pixel.png": 1}
STRATEGIES = ["whole", "pyramid:3", "sliding:2:0.5", "sliding:3:0.25", "proposals:selective:20", "boxes"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        make_picture(seed, size).save(folder / name)
    make_picture(7, (512, 384)).save(folder / "large.jpg", quality=95)
    (tmp_path / "boxes.csv").write_text(BOXES)
    return folder


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"boxes:{tmp_path / 'boxes.csv'}" if request.param == "boxes" else str(request.param)


@pytest.fixture
def gallery(photos: Path, tmp_path: Path, strategy: str) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "g", encoder=FakeEncoder(), regions=strategy) as made:
        report = made.add(photos)
        assert report.added == len(SIZES) + 1 and not report.failed
        yield made


def answers(gallery: Gallery, query: Image.Image) -> list[tuple[object, ...]]:
    return [
        (Path(hit.path).name, hit.score, hit.box, hit.level, hit.cell, hit.regions)
        for hit in gallery.search(query, k=100)
    ]


def test_every_region_is_stored_and_explained(gallery: Gallery, photos: Path, strategy: str) -> None:
    query = make_picture(0)
    total = 0
    for path in sorted(photos.iterdir()):
        picture = read_picture(path)
        expected = parse_regions(strategy).regions(View(picture.size, str(path), picture.pixels)).table
        explanation = gallery.explain(query, path)
        assert [region.box for region in explanation.regions] == [tuple(box) for box in expected["box"].tolist()]
        assert [region.level for region in explanation.regions] == expected["level"].tolist()
        assert [region.cell for region in explanation.regions] == list(
            zip(expected["row"].tolist(), expected["column"].tolist(), strict=True)
        )
        heat = explanation.heat_map(16)
        scores = [region.score for region in explanation.regions]
        assert heat.shape == {"large.jpg": (12, 16), "a.png": (11, 16), "b.png": (16, 11)}.get(path.name, heat.shape)
        assert min(scores) - 1e-6 <= heat.min() and heat.max() <= max(scores) + 1e-6
        total += len(expected)
    assert gallery.info().regions == total


def test_the_best_region_wins(gallery: Gallery, photos: Path) -> None:
    hits = {hit.path: hit for hit in gallery.search(make_picture(0), k=100)}
    assert set(hits) == {str(path) for path in photos.iterdir()}
    for path, hit in hits.items():
        regions = gallery.explain(make_picture(0), path).regions
        best = max(regions, key=lambda region: region.score)  # the first of equals
        assert (hit.score, hit.box, hit.level, hit.cell) == (best.score, best.box, best.level, best.cell)
        assert len(hit.regions) == min(len(regions), 10)
    assert next(iter(hits)) == str(photos / "a.png")


def test_changing_and_dropping_gives_what_a_fresh_gallery_gives(
    gallery: Gallery, photos: Path, tmp_path: Path, strategy: str
) -> None:
    make_picture(11, (80, 120)).save(photos / "c.png")
    make_picture(12, (30, 50)).save(photos / "new.png")
    (photos / "b.png").unlink()
    (photos / "pixel.png").unlink()
    report = gallery.add(photos)
    assert (report.added, report.changed, report.removed) == (1, 1, 2)
    assert gallery.remove(photos / "tiny.png") == 1
    assert gallery.verify().ok
    dead = gallery.info().dead_regions
    assert dead > 0 and gallery.compact() == dead and gallery.info().dead_regions == 0
    assert gallery.verify().ok
    (photos / "tiny.png").unlink()
    with Gallery.create(tmp_path / "fresh", encoder=FakeEncoder(), regions=strategy) as fresh:
        fresh.add(photos)
        for seed in (0, 7, 11, 12):
            assert answers(gallery, make_picture(seed)) == answers(fresh, make_picture(seed))
        assert len(gallery) == len(fresh) == 4


def test_reports_show_it(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    hits = gallery.search(make_picture(0), k=10)
    lines = list(table_lines(hits))
    assert len(lines) == 1 + len(SIZES) + 1 and not any("L-1" in line for line in lines)
    write_search_page(tmp_path / "page.html", gallery, photos / "a.png", None, hits, title="a")
    page = (tmp_path / "page.html").read_text()
    assert "L-1" not in page and "level -1" not in page and page.count("<figure>") == len(hits)
    assert gallery.info().regions_strategy.removesuffix(".0") in page


# Boxes


@pytest.fixture
def boxed(photos: Path, tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "b", encoder=FakeEncoder(), regions=f"boxes:{tmp_path / 'boxes.csv'}") as made:
        made.add(photos)
        yield made


def test_each_image_has_its_own_boxes(boxed: Gallery, photos: Path) -> None:
    for name, count in BOX_COUNTS.items():
        assert len(boxed.explain(make_picture(0), photos / name).regions) == count
    query = make_picture(0).crop((10, 10, 50, 40))
    hit = boxed.search(query, k=1)[0]
    assert (Path(hit.path).name, hit.box, hit.level, hit.cell) == ("a.png", (10, 10, 50, 40), -1, (-1, -1))
    assert hit.score > 0.999
    assert " box " in list(table_lines([hit]))[1]


def test_a_changed_file_stops_indexing_and_nothing_else(boxed: Gallery, photos: Path, tmp_path: Path) -> None:
    boxed.close()
    (tmp_path / "boxes.csv").write_text(BOXES + "c.png,0,0,9,9,\n")
    with Gallery.open(tmp_path / "b", encoder=FakeEncoder()) as opened:
        hits = opened.search(make_picture(0), k=3)
        write_search_page(tmp_path / "page.html", opened, photos / "a.png", None, hits, title="a")
        assert opened.verify().ok and len(opened) == 6
        with pytest.raises(RegionsError, match="has changed since the gallery was made"):
            opened.add(photos)
    with pytest.raises(GalleryMismatch, match="made with regions"):
        Gallery.open_or_create(tmp_path / "b", regions=f"boxes:{tmp_path / 'boxes.csv'}")
    (tmp_path / "boxes.csv").write_text(BOXES)
    with Gallery.open(tmp_path / "b", encoder=FakeEncoder()) as opened:
        assert opened.add(photos).unchanged == 6


def test_an_image_whose_boxes_are_for_another_size_is_skipped_with_its_reason(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(
        '{"images": [{"id": 1, "file_name": "large.jpg", "width": 384, "height": 512},'
        ' {"id": 2, "file_name": "a.png", "width": 96, "height": 64}],'
        ' "annotations": [{"image_id": 1, "bbox": [0, 0, 9, 9]}, {"image_id": 2, "bbox": [0, 0, 9, 9]}]}'
    )
    strategy = f"boxes:{tmp_path / 'coco.json'}"
    with Gallery.create(tmp_path / "g", encoder=FakeEncoder(), regions=strategy) as made:
        report = made.add(photos)
        assert report.added == len(SIZES)
        ((path, reason),) = report.failed
        assert path == str(photos / "large.jpg")
        assert "384 x 512 pixels, but upright it has 512 x 384" in reason


def test_copies_share_the_boxes_of_the_one_that_came_first(tmp_path: Path) -> None:
    """One picture is stored once, whatever the number of its files."""
    (tmp_path / "p").mkdir()
    make_picture(0).save(tmp_path / "p" / "a.png")
    shutil.copy(tmp_path / "p" / "a.png", tmp_path / "p" / "b.png")
    (tmp_path / "boxes.csv").write_text("path,x0,y0,x1,y1\na.png,0,0,9,9\na.png,1,1,9,9\nb.png,5,5,50,50\n")
    with Gallery.create(tmp_path / "g", encoder=FakeEncoder(), regions=f"boxes:{tmp_path / 'boxes.csv'}") as made:
        made.add(tmp_path / "p")
        for name in ("a.png", "b.png"):
            explained = made.explain(make_picture(0), tmp_path / "p" / name).regions
            assert [region.box for region in explained[1:]] == [(0, 0, 9, 9), (1, 1, 9, 9)]


def test_a_strategy_made_in_memory_can_be_indexed_with(photos: Path, tmp_path: Path) -> None:
    """As an evaluation does with its ground truth."""
    oracle = FixedBoxes("oracle", {str(photos / "a.png"): [(10, 10, 50, 40)]})
    encoder: Any = FakeEncoder()
    with Gallery.create(tmp_path / "g", encoder=encoder, regions="whole") as made, made._store.writer() as writer:
        index_paths(writer, lambda: encoder, oracle, walk([photos]))
        hit = made.search(make_picture(0).crop((10, 10, 50, 40)), k=1)[0]
        assert hit.box == (10, 10, 50, 40) and hit.score > 0.999
        assert made.info().regions == len(SIZES) + 2
        np.testing.assert_equal(len(made.explain(make_picture(0), photos / "b.png").regions), 1)
