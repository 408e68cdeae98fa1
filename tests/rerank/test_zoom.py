"""Zooming in: with an encoder that sees a small hidden object, with one that sees whole images, and the real one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from patchwise.boxes import Box, box_iou
from patchwise.encoders import DenseEncoder, load_encoder
from patchwise.errors import ImageUnreadable
from patchwise.images import SQUARE, Picture, cut_regions
from patchwise.regions import View, parse_regions
from patchwise.rerank import Question
from patchwise.rerank.zoom import CALLS, Zoom
from patchwise.search import Hit, RegionScore

from .finder import coordinates, seen_box

SIZE = (400, 320)
CELL = (100.0, 80.0, 200.0, 160.0)
QUERY = Question(np.array([1, 0], dtype=np.float32))
WINDOWS = [(100.0 + x, 80.0 + y, 150.0 + x, 120.0 + y) for y in (0, 20, 40) for x in (0, 25, 50)]


class Finder:
    """Knows where it looks, because pixels say so, and how far that is the object: its vectors have 2 numbers."""

    id, dimension, input_size, resampling, fit, batch_size = "finder", 2, 8, "bilinear", SQUARE, 7
    weights_sha256 = "0" * 64

    def __init__(self, where: Box) -> None:
        self.where, self.seen = where, list[Box]()

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        assert len(pixels) <= self.batch_size
        boxes = [seen_box(each, SIZE) for each in pixels]
        self.seen += boxes
        return vectors_of([score_of(box, self.where) for box in boxes])


def score_of(box: Box, where: Box) -> float:
    return 0.2 + 0.6 * box_iou(box, where)


def vectors_of(cosines: Sequence[float]) -> npt.NDArray[np.float32]:
    column = np.array(cosines)
    return np.stack([column, np.sqrt(1 - column**2)], axis=1).astype(np.float32)


def hit_at(box: Box, score: float, path: str = "/a.jpg", size: tuple[int, int] = SIZE) -> Hit:
    region = RegionScore(box, 3, (1, 1), score)
    return Hit(1, path, score, box, 3, (1, 1), size, (region,))


@pytest.mark.parametrize("where", WINDOWS)
def test_a_small_object_is_found_in_each_place_of_the_best_region(where: Box) -> None:
    finder, hit = Finder(where), hit_at(CELL, score_of(CELL, where))
    (found,) = Zoom(finder, lambda _: coordinates(SIZE)).rerank(QUERY, [hit])
    assert found.box == where
    assert found.score == pytest.approx(0.8, abs=0.06) and hit.score == pytest.approx(0.35)
    assert (found.level, found.cell) == (-1, (-1, -1))
    assert found.regions[0] == RegionScore(where, -1, (-1, -1), found.score)
    assert len(finder.seen) == CALLS == len(WINDOWS)
    for seen, window in zip(finder.seen, WINDOWS, strict=True):
        np.testing.assert_allclose(seen, window, atol=4)


def test_regions_are_the_ten_best_of_what_was_known_and_what_was_seen() -> None:
    where = WINDOWS[0]
    known = tuple(RegionScore(CELL, 0, (0, 0), score) for score in (0.5, 0.3, 0.29, 0.28, 0.1))
    hit = Hit(1, "/a.jpg", 0.5, CELL, 0, (0, 0), SIZE, known)
    (found,) = Zoom(Finder(where), lambda _: coordinates(SIZE)).rerank(QUERY, [hit])
    scores = [region.score for region in found.regions]
    assert len(scores) == 10 and scores == sorted(scores, reverse=True)
    assert known[0] in found.regions and known[-1] not in found.regions


@given(
    x=st.floats(0, 300),
    y=st.floats(0, 240),
    width=st.floats(1, 400),
    height=st.floats(1, 320),
    score=st.floats(-1, 1),
)
def test_windows_lie_in_the_region_and_the_score_never_falls(
    x: float, y: float, width: float, height: float, score: float
) -> None:
    box = (x, y, min(x + width, SIZE[0]), min(y + height, SIZE[1]))
    hit, finder = hit_at(box, score), Finder(WINDOWS[4])
    (found,) = Zoom(finder, lambda _: coordinates(SIZE)).rerank(QUERY, [hit])
    assert found.score >= hit.score
    assert (found.score == hit.score) == (found.box == hit.box)
    assert len(finder.seen) in (0, CALLS)
    for region in found.regions:
        assert round(x) <= region.box[0] < region.box[2] <= round(box[2]) or region.box == box
        assert round(y) <= region.box[1] < region.box[3] <= round(box[3]) or region.box == box


def test_a_region_that_fits_better_than_its_windows_stays() -> None:
    finder, hit = Finder(CELL), hit_at(CELL, 0.8)
    (found,) = Zoom(finder, lambda _: coordinates(SIZE)).rerank(QUERY, [hit])
    assert (found.score, found.box, found.level, found.cell) == (hit.score, hit.box, hit.level, hit.cell)
    assert found.regions[0] == hit.regions[0] and len(found.regions) == 10


def test_only_the_first_hits_are_looked_at_and_ordered_by_their_new_scores() -> None:
    where = WINDOWS[3]
    hits = [hit_at(CELL, 0.5 - number / 100, f"/{number:02}.jpg") for number in range(40)]
    finder = Finder(where)
    blank = Picture(Image.new("RGB", SIZE, (255, 255, 0)), SIZE)  # whose windows all look alike
    shown = {hit.path: coordinates(SIZE) if number % 2 else blank for number, hit in enumerate(hits)}
    found = Zoom(finder, lambda hit: shown[hit.path], depth=30).rerank(QUERY, hits)
    assert found[30:] == hits[30:]
    assert [hit.path for hit in found[:30]] == [hit.path for hit in (*hits[1:30:2], *hits[0:30:2])]
    assert len(finder.seen) == 30 * CALLS


def test_together_or_alone_is_the_same() -> None:
    hits = [hit_at(tuple(np.add(CELL, 7 * n).tolist()), 0.3, f"/{n:02}.jpg") for n in range(20)]
    looker = Zoom(Finder(WINDOWS[8]), lambda _: coordinates(SIZE))
    together = looker.rerank(QUERY, hits)
    alone = [looker.rerank(QUERY, [hit])[0] for hit in hits]
    assert sorted(together, key=lambda hit: hit.path) == alone


def test_zooming_again_goes_on_from_the_window() -> None:
    where = (125.0, 100.0, 150.0, 120.0)  # a quarter of the region's side
    hit = hit_at(CELL, score_of(CELL, where))
    looker = Zoom(Finder(where), lambda _: coordinates(SIZE))
    once = looker.rerank(QUERY, [hit])
    (twice,) = looker.rerank(QUERY, once)
    assert box_iou(hit.box, where) < box_iou(once[0].box, where) < box_iou(twice.box, where)
    assert twice.box == where


def test_pictures_that_are_gone_or_others_and_tiny_regions_keep_their_hits() -> None:
    finder = Finder(WINDOWS[0])

    def some(hit: Hit) -> Picture:
        if hit.path == "/gone.jpg":
            raise ImageUnreadable(hit.path, "no such file")
        return coordinates((40, 30)) if hit.path == "/other.jpg" else coordinates(SIZE)

    kept = [hit_at(CELL, 0.9, "/gone.jpg"), hit_at(CELL, 0.85, "/other.jpg"), hit_at((5, 5, 30, 90), 0.82, "/tiny.jpg")]
    looker = Zoom(finder, some)
    assert looker.rerank(QUERY, kept) == kept and not finder.seen
    found = looker.rerank(QUERY, [*kept, hit_at(CELL, 0.1)])
    assert found[:3] == kept and found[3].box == WINDOWS[0]
    assert looker.rerank(QUERY, []) == []


def test_parts_are_scored_at_the_window_that_wins() -> None:
    question = Question(QUERY.vector, np.array([[1, 0], [0, 1]], dtype=np.float32))
    (found,) = Zoom(Finder(WINDOWS[2]), lambda _: coordinates(SIZE)).rerank(question, [hit_at(CELL, 0.1)])
    assert found.part_scores[0] == pytest.approx(found.score)
    assert found.part_scores[1] == pytest.approx(np.sqrt(1 - found.score**2), abs=1e-3)


def test_a_picture_decoded_smaller_is_seen_at_the_same_places() -> None:
    half = Picture(coordinates(SIZE).pixels.resize((200, 160)), SIZE)
    finder = Finder(WINDOWS[5])
    (found,) = Zoom(finder, lambda _: half).rerank(QUERY, [hit_at(CELL, 0.1)])
    assert found.box == WINDOWS[5]
    for seen, window in zip(finder.seen, WINDOWS, strict=True):
        np.testing.assert_allclose(seen, window, atol=6)


class WholeImages(Finder):
    """Sees a picture once, and pools its regions from that."""

    picture_size, picture_batch_size = 16, 3

    def __init__(self, where: Box) -> None:
        super().__init__(where)
        self.pictures = 0

    def encode_regions(
        self, pictures: npt.NDArray[np.uint8], boxes_rel: Sequence[npt.NDArray[np.float32]]
    ) -> list[npt.NDArray[np.float32]]:
        assert len(pictures) <= self.picture_batch_size
        self.pictures += len(pictures)
        found = []
        for pixels, boxes in zip(pictures, boxes_rel, strict=True):
            x0, y0, x1, y1 = seen_box(pixels, SIZE)
            scale, shift = np.array([x1 - x0, y1 - y0] * 2), np.array([x0, y0] * 2)
            found.append(vectors_of([score_of(tuple(box), self.where) for box in (boxes * scale + shift).tolist()]))
        return found


def test_an_encoder_of_whole_images_is_shown_the_region_once() -> None:
    encoder = WholeImages(WINDOWS[6])
    assert isinstance(encoder, DenseEncoder)
    hits = [hit_at(CELL, 0.1, f"/{number}.jpg") for number in range(5)]
    found = Zoom(encoder, lambda _: coordinates(SIZE)).rerank(QUERY, hits)
    assert [hit.box for hit in found] == [WINDOWS[6]] * 5
    assert encoder.pictures == 5 and not encoder.seen


def test_the_real_encoder_finds_a_cat_in_two_hundredths_of_a_cup_of_coffee() -> None:
    """On average over three places; the score rises where the cat is, and less where there is none."""
    data = pytest.importorskip("skimage.data")
    encoder = load_encoder("builtin")
    cat = Image.fromarray(data.chelsea()).crop((90, 10, 390, 290))

    def encoded(picture: Picture, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        return encoder.encode(cut_regions(picture, boxes, encoder.input_size, encoder.resampling, encoder.fit))

    (query,) = encoded(Picture(cat, cat.size), np.array([[0, 0, *cat.size]]))
    regions = parse_regions("pyramid:3").regions(View((600, 400)))
    rises, before, after = [], [], []
    for where in ((170, 115, 238, 183), (330, 30, 398, 98), (500, 320, 568, 388), None):
        scene = Image.fromarray(data.coffee())
        if where is not None:
            scene.paste(cat.resize((68, 68), Image.Resampling.LANCZOS), where[:2])
        picture = Picture(scene, scene.size)
        scores = encoded(picture, regions.boxes) @ query
        best = int(scores.argmax())
        hit = hit_at(tuple(regions.boxes[best].tolist()), float(scores[best]), size=scene.size)
        (found,) = Zoom(encoder, lambda _, shown=picture: shown).rerank(Question(query), [hit])
        rises.append(found.score - hit.score)
        if where is not None:
            before.append(box_iou(hit.box, where))
            after.append(box_iou(found.box, where))
    assert min(rises[:3]) > rises[3] and np.mean(rises[:3]) > rises[3] + 0.1, rises
    assert np.mean(after) > np.mean(before) + 0.15, (before, after)
