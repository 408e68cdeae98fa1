"""Tighter boxes: with an encoder that sees hidden objects, and with the real one."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from patchwise.boxes import Box, area_xyxy, box_iou
from patchwise.encoders import DenseEncoder, load_encoder
from patchwise.errors import ImageUnreadable
from patchwise.images import Picture, cut_regions
from patchwise.regions import View, parse_regions
from patchwise.rerank import Question, Refine
from patchwise.rerank import refine as refining
from patchwise.rerank.refine import calls
from patchwise.search import Hit, RegionScore

from .finder import SIZE, DenseFinder, Finder, coordinates, first_look, grid

OBJECTS: list[Box] = [(40, 60, 130, 170), (250, 20, 390, 110), (110, 90, 290, 260), (10, 200, 90, 290)]
QUERY = Question(np.array([1, 0], dtype=np.float32))


def look(finder: Finder, depth: int = 20) -> Refine:
    """A second look at pictures of coordinates that knows the whole grid."""
    return Refine(finder, lambda _: coordinates(), depth=depth, stored=lambda _: (grid(), finder.vectors(grid())))


@pytest.mark.parametrize("noise", [0.0, 0.04])
@pytest.mark.parametrize("where", OBJECTS)
def test_a_hidden_object_is_found_more_closely(where: Box, noise: float) -> None:
    finder, hit = Finder(where, noise=noise), first_look(where)
    (found,) = look(finder).rerank(QUERY, [hit])
    assert box_iou(found.box, where) > max(box_iou(hit.box, where) + 0.1, 0.6)
    assert (found.level, found.cell) == (-1, (-1, -1)) and found.score > hit.score
    assert len(hit.regions) == 10  # the box found pushes the last of them out
    assert found.regions[0].box == found.box and found.regions[1:] == hit.regions[:9]
    assert found.regions[0].score == pytest.approx(finder.seen(found.box), abs=1e-6 + 3 * noise)
    assert 0 < finder.calls <= calls(1)
    x0, y0, x1, y1 = found.box
    assert 0 <= x0 < x1 <= SIZE[0] and 0 <= y0 < y1 <= SIZE[1]


@pytest.mark.parametrize("where", OBJECTS)
def test_the_ten_best_regions_alone_will_do(where: Box) -> None:
    hit = first_look(where)
    (found,) = Refine(Finder(where), lambda _: coordinates()).rerank(QUERY, [hit])
    assert box_iou(found.box, where) > box_iou(hit.box, where) + 0.05


def test_a_box_is_better_concluded_than_picked() -> None:
    """Over many noisy looks; what was looked at is the same for both."""
    concluded, picked = [], []
    for seed, where in enumerate(OBJECTS * 4):
        finder = Finder(where, noise=0.15)
        finder._generator = np.random.default_rng(seed)
        pursuit = refining._Pursuit(first_look(where), grid().astype(float), finder.vectors(grid())[:, 0].astype(float))
        for step in refining._ROUNDS:
            boxes = pursuit.proposals(step, 1)
            pursuit.add(boxes, finder.vectors(boxes)[:, 0].astype(float))
        best = pursuit._boxes[pursuit._scores.argmax()] * np.array([*SIZE, *SIZE])
        concluded.append(box_iou(tuple(pursuit.conclusions()[0].tolist()), where))
        picked.append(box_iou(tuple(best.tolist()), where))
    assert np.mean(concluded) > np.mean(picked) + 0.05


def test_small_objects_are_zoomed_in_on() -> None:
    """0.8 % of the image, an eighth of the cell that shows it."""
    before, after = [], []
    for x, y in ((30, 40), (155, 110), (290, 60), (340, 240), (70, 215), (215, 190)):
        where = (float(x), float(y), x + 36.0, y + 27.0)
        assert area_xyxy(where) / area_xyxy((0, 0, *SIZE)) < 0.009
        hit = first_look(where)
        (found,) = look(Finder(where)).rerank(QUERY, [hit])
        before.append(box_iou(hit.box, where))
        after.append(box_iou(found.box, where))
    assert np.mean(after) > 4 * np.mean(before) and np.mean(after) > 0.5


def test_two_objects_give_two_boxes_and_one_gives_one() -> None:
    left, right = (20.0, 40.0, 120.0, 150.0), (270.0, 130.0, 380.0, 260.0)
    finder = Finder(left, right)
    (found,) = look(finder).rerank(QUERY, [first_look(left, right)])
    assert len(found.instances) == 1 and finder.calls <= calls(1)
    boxes = sorted([found.box, found.instances[0].box])
    assert box_iou(boxes[0], left) > 0.6 and box_iou(boxes[1], right) > 0.6
    assert found.instances[0].score == pytest.approx(finder.seen(found.instances[0].box), abs=1e-6)
    for where in OBJECTS:
        (found,) = look(Finder(where)).rerank(QUERY, [first_look(where)])
        assert found.instances == ()


def test_the_shape_of_what_is_asked_for_helps_to_place_it() -> None:
    """In pixels: the image is 4 by 3, and its regions as well."""
    where, without, told = (150.0, 20.0, 210.0, 280.0), [], []
    for seed in range(8):
        for opened, found in ((None, without), (lambda: Image.new("RGB", (60, 260)), told)):
            finder = Finder(where, noise=0.06)
            finder._generator = np.random.default_rng(seed)
            (hit,) = look(finder).rerank(replace(QUERY, opened=opened), [first_look(where)])
            found.append(box_iou(hit.box, where))
    assert np.mean(told) > np.mean(without) + 0.02


def test_the_score_is_less_of_chance_than_the_best() -> None:
    where, noise = OBJECTS[2], 0.1
    scores, best = [], []
    for seed in range(20):
        finder = Finder(where, noise=noise)
        finder._generator = np.random.default_rng(seed)
        pursuit = refining._Pursuit(first_look(where), grid().astype(float), finder.vectors(grid())[:, 0].astype(float))
        for step in refining._ROUNDS:
            boxes = pursuit.proposals(step, 1)
            pursuit.add(boxes, finder.vectors(boxes)[:, 0].astype(float))
        true = Finder(where).vectors(pursuit._boxes * np.array([*SIZE, *SIZE]))[:, 0].max()
        scores.append(pursuit.score - true)
        best.append(pursuit._scores.max() - true)
    assert np.mean(best) > 0.04 and abs(np.mean(scores)) < np.mean(best) / 2
    assert np.std(scores) < np.std(best)


def test_places_that_touch_are_one() -> None:
    boxes = [(0, 0, 10, 10), (1, 1, 9, 9), (20, 0, 30, 10), (28, 0, 38, 10), (24, 0, 34, 10)]
    regions = [RegionScore(tuple(map(float, box)), -1, (-1, -1), 0.5) for box in boxes]
    assert refining._apart(regions[0], regions[1:]) == (regions[2], regions[3])


def test_only_the_first_hits_are_looked_at_and_ordered_by_their_new_scores() -> None:
    where = OBJECTS[0]
    hits = [first_look(where, path=f"/{number}.jpg") for number in range(12)]
    finder = Finder(where)
    shown = {hit.path: coordinates() for hit in hits}
    shown["/0.jpg"] = Picture(Image.new("RGB", SIZE, (255, 255, 0)), SIZE)  # whose regions all look alike
    found = Refine(finder, lambda hit: shown[hit.path], depth=10).rerank(QUERY, hits)
    assert found[10:] == hits[10:] and found[9].path == "/0.jpg"
    assert {hit.path for hit in found[:10]} == {hit.path for hit in hits[:10]}
    assert [hit.score for hit in found[:10]] == sorted((hit.score for hit in found[:10]), reverse=True)
    assert finder.calls <= calls(10)


def test_calls_go_where_they_pay() -> None:
    """All hits get the first round, the better half the second, the best fifth all."""
    assert calls(100) == 100 * 16 + 50 * 16 + 20 * 24 + 100 + 20 * 3
    assert calls(1) == 16 + 16 + 24 + 1 + 3
    where, seen = OBJECTS[2], {}
    finder = Finder(where)
    hits = [first_look(where, path=f"/{number}.jpg") for number in range(10)]
    blank = Picture(Image.new("RGB", SIZE, (255, 255, 0)), SIZE)

    def read(hit: Hit) -> Picture:
        return coordinates() if int(hit.path[1]) < 2 else blank

    class Counting(refining._Pursuit):
        def add(self, boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> None:
            seen[self.hit.path] = seen.get(self.hit.path, 0) + len(boxes)
            super().add(boxes, scores)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refining, "_Pursuit", Counting)
        found = Refine(finder, read).rerank(QUERY, hits)
    assert {hit.path for hit in found[:2]} == {"/0.jpg", "/1.jpg"}
    most = [sum(step.regions for step in refining._ROUNDS if math.ceil(step.share * 10) > rank) for rank in range(10)]
    assert sorted(seen.values(), reverse=True) == pytest.approx(most, abs=3) and max(seen.values()) == max(
        seen["/0.jpg"], seen["/1.jpg"]
    )


def test_the_same_again_is_the_same() -> None:
    hits = [first_look(where, path=f"/{number}.jpg") for number, where in enumerate(OBJECTS)]
    looker = look(Finder(OBJECTS[0]))
    assert looker.rerank(QUERY, hits) == looker.rerank(QUERY, hits)


def test_pictures_are_read_once_while_they_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = [first_look(OBJECTS[0], path=f"/{number}.jpg") for number in range(10)]
    read: list[str] = []

    def reading(hit: Hit) -> Picture:
        read.append(hit.path)
        return coordinates()

    looker = Refine(Finder(OBJECTS[0]), reading)
    kept = looker.rerank(QUERY, hits)
    assert sorted(read) == sorted(hit.path for hit in hits)
    monkeypatch.setattr(refining, "_ALBUM_BYTES", 4 * SIZE[0] * SIZE[1] * 3)
    read.clear()
    assert looker.rerank(QUERY, hits) == kept
    assert len(read) > len(hits) and sum(read.count(hit.path) == 1 for hit in hits) == 4


def test_one_pass_per_picture_where_the_encoder_sees_it_whole() -> None:
    where = OBJECTS[2]
    finder = DenseFinder(where)
    assert isinstance(finder, DenseEncoder)
    hits = [first_look(where, path=f"/{number}.jpg") for number in range(5)]
    found = look(finder).rerank(QUERY, hits)
    assert finder.calls == 0
    # rounds of all, of half and twice of a fifth of the hits, and one for the boxes concluded
    assert finder.passes == 5 + 3 + 1 + 1 + 5
    assert all(box_iou(hit.box, where) > max(box_iou(hits[0].box, where), 0.6) for hit in found)


def test_each_part_of_a_query_is_compared_with_the_box() -> None:
    where = OBJECTS[0]
    hit = replace(first_look(where), part_scores=(0.5, 0.5))
    parts = np.array([[1, 0], [0, 1]], dtype=np.float32)
    (found,) = look(Finder(where)).rerank(Question(QUERY.vector, parts), [hit])
    cosine = found.regions[0].score
    assert found.part_scores == pytest.approx((cosine, math.sqrt(1 - cosine**2)), abs=1e-6)


def test_a_picture_that_is_gone_or_another_keeps_its_hit() -> None:
    hit, finder = first_look(OBJECTS[0]), Finder(OBJECTS[0])

    def gone(_: Hit) -> Picture:
        raise ImageUnreadable("/a.jpg", "no such file")

    assert Refine(finder, gone).rerank(QUERY, [hit]) == [hit]
    assert Refine(finder, lambda _: coordinates((40, 30))).rerank(QUERY, [hit]) == [hit]
    assert Refine(finder, lambda _: coordinates()).rerank(QUERY, []) == []
    assert finder.calls == 0

    def forgotten(_: Hit) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        raise ImageUnreadable("/a.jpg", "it is no longer in the gallery")

    ten = Refine(finder, lambda _: coordinates()).rerank(QUERY, [hit])
    assert Refine(finder, lambda _: coordinates(), stored=forgotten).rerank(QUERY, [hit]) == ten


@pytest.mark.parametrize("size", [(3, 2), (9, 400), (1, 1)])
def test_small_and_thin_pictures(size: tuple[int, int]) -> None:
    whole = RegionScore((0, 0, *map(float, size)), 0, (0, 0), 0.1)
    hit = Hit(1, "/a.jpg", 0.1, whole.box, 0, (0, 0), size, (whole,))
    (found,) = Refine(Finder(OBJECTS[0]), lambda _: Picture(Image.new("RGB", size), size)).rerank(QUERY, [hit])
    assert 0 <= found.box[0] < found.box[2] <= size[0] and 0 <= found.box[1] < found.box[3] <= size[1]
    assert found.regions[1:] == (whole,)


def test_the_real_encoder_places_a_cat_in_a_cup_of_coffee() -> None:
    """On average over five places and sizes: what fits best need not be all of the cat."""
    data = pytest.importorskip("skimage.data")
    encoder = load_encoder("builtin")
    cat = Image.fromarray(data.chelsea())

    def encoded(picture: Picture, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        return encoder.encode(cut_regions(picture, boxes, encoder.input_size, encoder.resampling, encoder.fit))

    (query,) = encoded(Picture(cat, cat.size), np.array([[0, 0, *cat.size]]))
    regions = parse_regions("pyramid:3").regions(View((600, 400)))
    before, after = [], []
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
        vectors = encoded(picture, regions.boxes)
        scores = vectors @ query
        looked = tuple(
            RegionScore(tuple(regions.boxes[at].tolist()), int(regions.table["level"][at]), (0, 0), float(scores[at]))
            for at in np.argsort(-scores)[:10]
        )
        hit = Hit(1, "/a.jpg", looked[0].score, looked[0].box, looked[0].level, (0, 0), scene.size, looked)
        looker = Refine(encoder, lambda _, shown=picture: shown, stored=lambda _, found=vectors: (regions.boxes, found))
        (found,) = looker.rerank(Question(query), [hit])
        before.append(box_iou(hit.box, where))
        after.append(box_iou(found.box, where))
        assert not found.instances
    assert np.mean(after) > np.mean(before) + 0.2 and np.mean(after) > 0.65, (before, after)


@pytest.mark.parametrize("where", OBJECTS)
def test_what_the_finder_sees_is_where_it_looks(where: Box) -> None:
    """So that what the tests above say of cosines is said of boxes: to within some pixels of the picture."""
    assert Finder(where).seen(where) == pytest.approx(0.8, abs=0.08)
