"""Tighter boxes: with an encoder that sees a hidden object, and with the real one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from patchwise.boxes import Box, box_iou
from patchwise.encoders import load_encoder
from patchwise.errors import ImageUnreadable
from patchwise.images import SQUARE, Picture, cut_regions
from patchwise.regions import View, parse_regions
from patchwise.rerank import Question
from patchwise.rerank.refine import CALLS, Refine
from patchwise.search import Hit, RegionScore

SIZE = (400, 300)
OBJECTS: list[Box] = [(40, 60, 130, 170), (250, 20, 390, 110), (110, 90, 290, 260), (10, 200, 90, 290)]


class Finder:
    """Knows where it looks, because pixels say so, and how far that is the object: its vectors have 2 numbers."""

    id, dimension, input_size, resampling, fit, batch_size = "finder", 2, 8, "bilinear", SQUARE, 7
    weights_sha256 = "0" * 64

    def __init__(self, where: Box, noise: float = 0.0) -> None:
        self.where, self.noise, self.calls = where, noise, 0
        self._generator = np.random.default_rng(0)

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        assert len(pixels) <= self.batch_size
        self.calls += len(pixels)
        cosines = np.array([0.2 + 0.6 * box_iou(seen_box(each), self.where) for each in pixels])
        cosines += self._generator.normal(size=len(pixels)) * self.noise
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)


def coordinates(size: tuple[int, int] = SIZE) -> Picture:
    """A picture in whose pixels their own places are written."""
    width, height = size
    red = np.tile(np.linspace(0, 255, width), (height, 1))
    green = np.tile(np.linspace(0, 255, height)[:, None], (1, width))
    pixels = Image.fromarray(np.stack([red, green, np.zeros_like(red)], axis=2).round().astype(np.uint8))
    return Picture(pixels, size)


def seen_box(pixels: npt.NDArray[np.uint8]) -> Box:
    """The box that a crop of `coordinates` was cut from, to within some pixels."""
    wide = pixels.astype(float)
    columns, rows = wide[..., 0].mean(axis=0), wide[..., 1].mean(axis=1)
    edges = []
    for values, side in ((columns, SIZE[0]), (rows, SIZE[1])):
        step = (values[-2] - values[1]) / (len(values) - 3)
        edges.append(((values[1] - 1.5 * step) / 255 * side, (values[-2] + 1.5 * step) / 255 * side))
    (x0, x1), (y0, y1) = edges
    return (x0, y0, x1, y1)


QUERY = Question(np.array([1, 0], dtype=np.float32))


def first_look(where: Box, path: str = "/a.jpg") -> Hit:
    """What the grid finds: its ten best regions."""
    regions = parse_regions("pyramid:3").regions(View(SIZE))
    scored = sorted(
        (
            RegionScore(tuple(map(float, box)), int(level), (0, 0), 0.2 + 0.6 * box_iou(tuple(map(float, box)), where))
            for box, level in zip(regions.boxes.tolist(), regions.table["level"], strict=True)
        ),
        key=lambda region: -region.score,
    )[:10]
    return Hit(1, path, scored[0].score, scored[0].box, scored[0].level, (0, 0), SIZE, tuple(scored))


@pytest.mark.parametrize("noise", [0.0, 0.04])
@pytest.mark.parametrize("where", OBJECTS)
def test_a_hidden_object_is_found_more_closely(where: Box, noise: float) -> None:
    finder, hit = Finder(where, noise), first_look(where)
    (found,) = Refine(finder, lambda _: coordinates()).rerank(QUERY, [hit])
    assert box_iou(found.box, where) > box_iou(hit.box, where) + 0.1
    assert box_iou(found.box, where) > (0.75 if noise == 0 else 0.6)
    assert found.score > hit.score and (found.level, found.cell) == (-1, (-1, -1))
    assert len(hit.regions) == 10  # the box found pushes the last of them out
    assert found.regions == (RegionScore(found.box, -1, (-1, -1), found.score), *hit.regions[:9])
    assert 0 < finder.calls <= CALLS
    x0, y0, x1, y1 = found.box
    assert 0 <= x0 < x1 <= SIZE[0] and 0 <= y0 < y1 <= SIZE[1]


def test_the_smoothed_score_chooses_better_than_the_best_one() -> None:
    """Over many noisy looks; what was visited is the same for both."""
    from patchwise.rerank import refine

    chosen, best = [], []
    for seed, where in enumerate(OBJECTS * 4):
        finder = Finder(where, 0.08)
        finder._generator = np.random.default_rng(seed)
        pursuit = refine._Pursuit(coordinates(), first_look(where).regions)
        looker = Refine(finder, lambda _: coordinates())
        for step in refine._ROUNDS:
            looker._score(QUERY, [(pursuit, pursuit.proposals(step))])
        chosen.append(box_iou(tuple(pursuit.choice().tolist()), where))
        best.append(box_iou(tuple(pursuit.boxes[pursuit.scores.argmax()].tolist()), where))
    assert np.mean(chosen) > np.mean(best) + 0.03


def test_only_the_first_hits_are_looked_at_and_ordered_by_their_new_scores() -> None:
    where = OBJECTS[0]
    hits = [first_look(where, f"/{number}.jpg") for number in range(12)]
    finder = Finder(where)
    shown = {hit.path: coordinates() for hit in hits}
    blank = Picture(Image.new("RGB", SIZE, (255, 255, 0)), SIZE)
    shown["/0.jpg"] = blank  # whose regions all look alike
    found = Refine(finder, lambda hit: shown[hit.path], depth=10).rerank(QUERY, hits)
    assert found[10:] == hits[10:] and found[9] == hits[0]
    assert {hit.path for hit in found[:10]} == {hit.path for hit in hits[:10]}
    assert [hit.score for hit in found[:10]] == sorted((hit.score for hit in found[:10]), reverse=True)
    assert finder.calls <= 10 * CALLS


def test_together_or_alone_is_the_same() -> None:
    hits = [first_look(where, f"/{number}.jpg") for number, where in enumerate(OBJECTS)]
    looker = Refine(Finder(OBJECTS[0]), lambda _: coordinates())
    together = looker.rerank(QUERY, hits)
    alone = [looker.rerank(QUERY, [hit])[0] for hit in hits]
    assert sorted(together, key=lambda hit: hit.path) == alone


def test_a_picture_that_is_gone_or_another_keeps_its_hit() -> None:
    hit, finder = first_look(OBJECTS[0]), Finder(OBJECTS[0])

    def gone(_: Hit) -> Picture:
        raise ImageUnreadable("/a.jpg", "no such file")

    assert Refine(finder, gone).rerank(QUERY, [hit]) == [hit]
    assert Refine(finder, lambda _: coordinates((40, 30))).rerank(QUERY, [hit]) == [hit]
    assert Refine(finder, lambda _: coordinates()).rerank(QUERY, []) == []
    assert finder.calls == 0


@pytest.mark.parametrize("size", [(3, 2), (9, 400), (1, 1)])
def test_small_and_thin_pictures(size: tuple[int, int]) -> None:
    whole = RegionScore((0, 0, *map(float, size)), 0, (0, 0), 0.1)
    hit = Hit(1, "/a.jpg", 0.1, whole.box, 0, (0, 0), size, (whole,))
    (found,) = Refine(Finder(OBJECTS[0]), lambda _: Picture(Image.new("RGB", size), size)).rerank(QUERY, [hit])
    assert 0 <= found.box[0] < found.box[2] <= size[0] and 0 <= found.box[1] < found.box[3] <= size[1]
    assert found == hit or found.regions == (RegionScore(found.box, -1, (-1, -1), found.score), whole)


def test_the_real_encoder_places_a_cat_in_a_cup_of_coffee() -> None:
    """On average over five places and sizes: what fits best need not be all of the cat."""
    data = pytest.importorskip("skimage.data")
    encoder = load_encoder("builtin")
    cat = Image.fromarray(data.chelsea())

    def encoded(picture: Picture, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        return encoder.encode(cut_regions(picture, boxes, encoder.input_size, encoder.resampling, encoder.fit))

    (query,) = encoded(Picture(cat, cat.size), np.array([[0, 0, *cat.size]]))
    regions = parse_regions("pyramid:3").regions(View((600, 400)))
    before, after, rises = [], [], []
    for where in (
        (70, 130, 280, 270),
        (340, 30, 460, 110),
        (200, 60, 320, 140),
        (380, 190, 590, 330),
        (30, 290, 120, 350),
    ):
        scene = Image.fromarray(data.coffee())
        scene.paste(cat.resize((where[2] - where[0], where[3] - where[1])), where[:2])
        picture = Picture(scene, scene.size)
        scores = encoded(picture, regions.boxes) @ query
        looked = tuple(
            RegionScore(tuple(regions.boxes[at].tolist()), int(regions.table["level"][at]), (0, 0), float(scores[at]))
            for at in np.argsort(-scores)[:10]
        )
        hit = Hit(1, "/a.jpg", looked[0].score, looked[0].box, looked[0].level, (0, 0), scene.size, looked)
        (found,) = Refine(encoder, lambda _, shown=picture: shown).rerank(Question(query), [hit])
        before.append(box_iou(hit.box, where))
        after.append(box_iou(found.box, where))
        rises.append(found.score - hit.score)
    assert np.mean(after) > np.mean(before) + 0.1 and np.mean(after) > 0.6, (before, after)
    assert min(rises) >= 0 and np.mean(rises) > 0.03, rises
