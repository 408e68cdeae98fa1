"""Queries for objects that are small in the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from patchwise import Gallery
from patchwise.errors import UsageError
from patchwise.images import SQUARE
from patchwise.indexing import QueryPart, encode_query
from patchwise.indexing.parts import query_parts


class Pixels:
    """Its vectors are the pixels, and it keeps what it is shown."""

    id, dimension, input_size, resampling, fit, batch_size = "pixels", 20 * 20 * 3, 20, "bilinear", SQUARE, 3
    weights_sha256 = "0" * 64

    def __init__(self) -> None:
        self.shown: list[npt.NDArray[np.uint8]] = []

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.shown += list(pixels)
        flat = pixels.reshape(len(pixels), -1).astype(np.float32)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)


RED = np.full((40, 30, 3), (250, 10, 20), dtype=np.uint8)


def test_the_object_is_also_shown_in_the_middle_of_grey() -> None:
    encoder = Pixels()
    found = encode_query(encoder, query_parts(RED, small=True))
    large, small = encoder.shown
    assert (large == RED[0, 0]).all()
    assert (small[6:13, 6:13] == RED[0, 0]).all()  # 7 of 20 pixels
    around = np.ones((20, 20), dtype=bool)
    around[6:13, 6:13] = False
    assert len(np.unique(small[around], axis=0)) == 1 and np.ptp(small[0, 0].astype(int)) < 30
    mean = sum(encoder.encode(seen[None])[0] for seen in (large, small))
    np.testing.assert_allclose(found.vector, mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(found.part_vectors, found.vector[None], atol=1e-6)


def test_only_the_parts_that_are_small_are_shown_twice() -> None:
    encoder, blue = Pixels(), np.full((8, 8, 3), (10, 20, 240), dtype=np.uint8)
    parts = [QueryPart(RED), QueryPart(blue, small=True), QueryPart(RED, weight=-0.1)]
    found = encode_query(encoder, parts)
    assert len(encoder.shown) == 4
    alone = [encode_query(Pixels(), [part]).vector for part in parts[:2]]
    np.testing.assert_allclose(found.part_vectors[:2], alone, atol=1e-6)


def test_small_is_said_of_pictures() -> None:
    assert [part.small for part in query_parts([RED, QueryPart(text="a mug")], small=True)] == [True, False]
    with pytest.raises(UsageError, match="small is said of pictures"):
        QueryPart(text="a mug", small=True)


def test_a_file_and_its_box(tmp_path: Path) -> None:
    picture = Image.new("RGB", (60, 40), (0, 200, 0))
    picture.paste((250, 10, 20), (30, 0, 60, 40))
    picture.save(tmp_path / "a.png")
    encoder = Pixels()
    found = encode_query(encoder, query_parts(tmp_path / "a.png", box=(30, 0, 60, 40), small=True))
    np.testing.assert_allclose(found.vector, encode_query(Pixels(), query_parts(RED, small=True)).vector, atol=1e-6)


def test_a_search_for_something_small_is_one_with_its_vector(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    with Gallery.create(tmp_path / "g", encoder=Pixels(), regions="pyramid:1") as gallery:
        gallery.add(tmp_path)
        part = QueryPart(RED, small=True)
        hits = gallery.search(RED, small=True)
        assert hits == gallery.search(part) != gallery.search(RED)
        (vector,) = gallery.query_vectors([part])
        (by_vector,) = gallery.search_vectors(np.stack([vector]))
        assert [(hit.path, hit.score) for hit in by_vector] == [(hit.path, hit.score) for hit in hits]
        best = max(gallery.explain(part, hits[0]).regions, key=lambda region: region.score)
        assert (best.box, best.score) == (hits[0].box, pytest.approx(hits[0].score, abs=1e-6))
