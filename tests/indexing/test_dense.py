"""Galleries of an encoder that looks at every image once: they behave as any other, down to the last vector."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.encoders import registry
from patchwise.encoders.dense import covered_shares
from patchwise.encoders.whitening import normalised
from patchwise.errors import EncoderError
from patchwise.images import DEFAULT_MAX_PIXELS, cut_regions, read_picture
from patchwise.indexing import run
from patchwise.indexing.encode import BatchEncoder, encode_prepared
from patchwise.indexing.passes import Inputs, passes_of
from patchwise.indexing.prepare import Prepared, cut_picture
from patchwise.regions import FixedBoxes, Pyramid, Regions, View, parse_regions
from patchwise.regions.base import REGION_DTYPE

Picture = Callable[..., Image.Image]
Vectors = npt.NDArray[np.float32]


class DenseFake(FakeEncoder):
    """Tokens are the mean colours of 8 x 8 patches of 4 pixels; a query is one such mean.

    Opposite colours are opposite vectors, so that the constant 1 keeps grey from becoming the zero vector.
    """

    id = "dense"
    dimension = 4
    picture_size = 32
    picture_batch_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Vectors:
        assert pixels.shape[1:] == (16, 16, 3)
        return self._vectors(pixels.mean(axis=(1, 2)))

    def encode_regions(self, pictures: npt.NDArray[np.uint8], boxes_rel: Sequence[Vectors]) -> list[Vectors]:
        assert pictures.shape[1:] == (32, 32, 3)
        self.batches.append(len(pictures))
        self.encoded_regions += sum(map(len, boxes_rel))
        tokens = pictures.reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4))
        return [
            self._vectors(np.einsum("rhw,hwd->rd", covered_shares(boxes, 8, 8, 32), each))
            for boxes, each in zip(boxes_rel, tokens, strict=True)
        ]

    def _vectors(self, colours: npt.NDArray[np.floating]) -> Vectors:
        return normalised(np.column_stack([colours / 127.5 - 1, np.ones(len(colours))]).astype(np.float32))


@pytest.fixture
def dense() -> DenseFake:
    return DenseFake()


def create(path: Path, encoder: DenseFake, regions: Any = "pyramid:1") -> Gallery:
    return Gallery.create(path, encoder=encoder, regions=regions)


def stored(gallery: Gallery) -> dict[str, Vectors]:
    snapshot = gallery._store.snapshot()
    return {Path(path).name: snapshot.vectors(index) for path, index in snapshot.paths(range(len(snapshot)))}


def by_itself(encoder: DenseFake, path: Path, boxes: npt.NDArray[np.float32]) -> Vectors:
    """The vectors of one image without any of the machinery in between."""
    picture = read_picture(path)
    width, height = picture.size
    pixels = cut_regions(picture, np.array([[0, 0, width, height]]), 32)
    return encoder.encode_regions(pixels, [boxes / np.array([width, height, width, height], dtype=np.float32)])[0]


def test_vectors_are_those_of_each_image_by_itself(tmp_path: Path, picture_folder: Path, dense: DenseFake) -> None:
    """Six images make a batch of four and one of two; regions are laid over the original, not over its square."""
    with create(tmp_path / "g", dense, "pyramid:2") as gallery:
        report = gallery.add(picture_folder)
        assert (report.added, report.encoded_regions) == (6, 6 * 14)
        assert dense.batches == [4, 2]
        found = stored(gallery)
    boxes = Pyramid(2).regions(View((96, 64))).boxes
    for path in picture_folder.iterdir():
        np.testing.assert_allclose(found[path.name], by_itself(dense, path, boxes), atol=1e-3)  # stored as fp16


def test_search_and_explain_point_at_the_region(tmp_path: Path, dense: DenseFake) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, colour in enumerate(["red", "green", "blue"]):
        image = Image.new("RGB", (80, 40), "grey")
        image.paste(Image.new("RGB", (40, 20), colour), (40, 0))
        image.save(folder / f"{number}.png")
    with create(tmp_path / "g", dense) as gallery:
        gallery.add(folder)
        query = Image.new("RGB", (50, 50), "blue")
        hits = gallery.search(query)
        assert Path(hits[0].path).name == "2.png"
        assert hits[0].box == (40, 0, 80, 20) and hits[0].score == pytest.approx(1, abs=1e-3)
        scores = [region.score for region in gallery.explain(query, hits[0]).regions]
        assert len(scores) == 5 and int(np.argmax(scores)) == 2
        assert max(scores) == pytest.approx(hits[0].score, abs=1e-6)

        half = Image.new("RGB", (100, 50), "red")
        half.paste(Image.new("RGB", (50, 50), "green"), (50, 0))
        assert Path(gallery.search(half, box=(50, 0, 100, 50))[0].path).name == "1.png"


def test_changes_end_where_a_fresh_build_does(tmp_path: Path, picture_folder: Path, dense: DenseFake) -> None:
    with create(tmp_path / "g", dense) as gallery:
        gallery.add(picture_folder)
        make_picture(50, (90, 70)).save(picture_folder / "01.png")
        make_picture(51, (64, 64)).save(picture_folder / "new.png")
        (picture_folder / "02.png").rename(picture_folder / "renamed.png")
        (picture_folder / "03.png").unlink()
        shutil.copy(picture_folder / "04.png", picture_folder / "copy.png")
        before = dense.encoded_regions
        report = gallery.add(picture_folder)
        assert (report.changed, report.added, report.renamed, report.copied, report.removed) == (1, 1, 1, 1, 1)
        assert dense.encoded_regions - before == 2 * 5
        gallery.compact()
        with create(tmp_path / "fresh", dense) as fresh:
            fresh.add(picture_folder)
            one, other = stored(gallery), stored(fresh)
            assert sorted(one) == sorted(other)
            for name, vectors in one.items():
                np.testing.assert_allclose(vectors, other[name], atol=1e-3)
            for seed in (0, 50, 51):
                query = make_picture(seed)
                assert [hit.path for hit in gallery.search(query)] == [hit.path for hit in fresh.search(query)]
        assert gallery.verify().problems == []


def test_an_interrupted_run_is_continued(
    tmp_path: Path, picture_folder: Path, dense: DenseFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_COMMIT_PICTURES", 1)
    really = dense.encode_regions

    def stop(*arguments: Any) -> list[Vectors]:
        if dense.batches:
            raise KeyboardInterrupt
        return really(*arguments)

    with create(tmp_path / "g", dense) as gallery:
        monkeypatch.setattr(dense, "encode_regions", stop)
        with pytest.raises(KeyboardInterrupt):
            gallery.add(picture_folder)
        monkeypatch.setattr(dense, "encode_regions", really)
        assert len(gallery) == 4
        report = gallery.add(picture_folder)
        assert (report.unchanged, report.added) == (4, 2)
        assert gallery.verify().problems == []


def test_boxes_of_any_kind(tmp_path: Path, picture_folder: Path, dense: DenseFake) -> None:
    """A number of boxes of its own for each image, smaller than a patch among them."""
    boxes = {
        str(picture_folder / f"{number:02d}.png"): [(4.0 * i, 3.0, 4.0 * i + 1, 5.0) for i in range(number)]
        for number in range(6)
    }
    strategy = FixedBoxes("truth", boxes)
    with create(tmp_path / "g", dense, strategy) as gallery:
        gallery.add(picture_folder)
        for name, vectors in stored(gallery).items():
            path = picture_folder / name
            laid = np.array([(0, 0, 96, 64), *boxes[str(path)]], dtype=np.float32)
            assert len(vectors) == len(laid)
            np.testing.assert_allclose(vectors, by_itself(dense, path, laid), atol=1e-3)


def test_proposals_see_the_picture(tmp_path: Path, dense: DenseFake) -> None:
    pytest.importorskip("cv2")
    folder = tmp_path / "pictures"
    folder.mkdir()
    image = make_picture(1, (300, 200))
    image.paste(Image.new("RGB", (90, 80), "red"), (180, 20))
    image.save(folder / "a.jpg", quality=95)
    strategy = parse_regions("proposals:selective:20")
    with create(tmp_path / "g", dense, strategy) as gallery:
        gallery.add(folder)
        (hit,) = gallery.search(Image.new("RGB", (40, 40), "red"))
        x0, y0, x1, y1 = hit.box
        assert 170 < (x0 + x1) / 2 < 280 and 10 < (y0 + y1) / 2 < 110


def test_a_whitening_of_the_gallerys_own(
    tmp_path: Path, picture_folder: Path, dense: DenseFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_plugged_in", lambda: {"dense": SimpleNamespace(load=lambda: lambda _: dense)})
    monkeypatch.setattr("patchwise.gallery_settings._WHITENED_DIMENSION", 3)
    with Gallery.create(tmp_path / "g", encoder="dense", regions="pyramid:1", whitening="gallery") as gallery:
        gallery.add(picture_folder)
        # Six images to learn from, one by one, and then for the gallery.
        assert dense.batches == [1] * 6 + [4, 2] and dense.encoded_regions == 60
        assert gallery.encoder.dimension == 3
        examples = np.concatenate(list(stored(gallery).values()))
        assert examples.shape == (30, 3)
        backbone = by_itself(dense, picture_folder / "03.png", Pyramid(1).regions(View((96, 64))).boxes)
        whitening = gallery.encoder.projection  # type: ignore[attr-defined]
        np.testing.assert_allclose(stored(gallery)["03.png"], whitening.apply(backbone), atol=1e-3)
        assert Path(gallery.search(picture_folder / "03.png", k=1)[0].path).name == "03.png"


# --------------------------------------------------------------------------- the parts
@pytest.mark.parametrize(
    ("size", "scale"), [((640, 480), 8), ((640, 280), 4), ((640, 141), 4), ((640, 140), 2), ((60, 640), 1)]
)
@pytest.mark.parametrize("level", [0, 7])
def test_a_photograph_is_decoded_as_large_as_its_square_whatever_the_regions(
    tmp_path: Path, dense: DenseFake, size: tuple[int, int], scale: int, level: int
) -> None:
    """1.1 times the 32 pixels of the square are enough."""
    make_picture(1, size).save(tmp_path / "a.jpg")
    laid: list[View] = []

    class Spy(Pyramid):
        def regions(self, view: View) -> Regions:
            laid.append(view)
            return super().regions(view)

    prepared = cut_picture(tmp_path / "a.jpg", "a.jpg", passes_of(dense), Spy(level), DEFAULT_MAX_PIXELS)
    assert laid[0].pixels is not None
    assert laid[0].pixels.size == (-(-size[0] // scale), -(-size[1] // scale))
    assert prepared.inputs.pixels.shape == (1, 32, 32, 3)
    (boxes,) = prepared.inputs.boxes_rel
    np.testing.assert_allclose(boxes * [*size, *size], prepared.regions.boxes, rtol=1e-6)
    assert boxes.dtype == np.float32 and boxes.min() == 0 and boxes.max() == 1


def test_waiting_pictures_are_counted_by_their_squares(dense: DenseFake) -> None:
    dense.picture_size = 2048
    for levels in (0, 3, 7):
        assert passes_of(dense).input_bytes(Pyramid(levels)) == 2048 * 2048 * 3


def prepared(regions: int, seed: int) -> Prepared:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    boxes = np.sort(generator.random((regions, 2, 2), dtype=np.float32), axis=1).reshape(-1, 4)
    return Prepared((32, 32), Regions(np.zeros(regions, dtype=REGION_DTYPE)), Inputs(pixels, [boxes]))


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 9), max_size=12), batch_size=st.integers(0, 5))
def test_batches_of_pictures_are_full_and_vectors_the_same_as_one_by_one(counts: list[int], batch_size: int) -> None:
    dense = DenseFake()
    dense.picture_batch_size = batch_size
    batches: BatchEncoder[int] = BatchEncoder(dense)
    pictures = [prepared(count, seed) for seed, count in enumerate(counts)]
    done = [found for number, picture in enumerate(pictures) for found in batches.push(number, picture)]
    assert len(done) == len(counts) - len(counts) % max(batch_size, 1)
    done += list(batches.finish())
    assert [number for number, _, _ in done] == list(range(len(counts)))
    assert set(dense.batches[:-1]) <= {max(batch_size, 1)}
    for number, same, vectors in done:
        assert same is pictures[number]
        np.testing.assert_array_equal(vectors, encode_prepared(DenseFake(), same))


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        ([np.ones((2, 4), np.float32)], r"returned shape \(2, 4\) for 3 regions instead of \(3, 4\)"),
        ([np.ones((3, 5), np.float32)], r"returned shape \(3, 5\) for 3 regions instead of \(3, 4\)"),
        ([np.full((3, 4), np.nan, np.float32)], "not finite"),
        ([], "returned vectors of 0 images for 1"),
        ([np.ones((3, 4), np.float32)] * 2, "returned vectors of 2 images for 1"),
    ],
)
def test_nonsense_is_refused(dense: DenseFake, returned: list[Vectors], complaint: str) -> None:
    dense.encode_regions = lambda *_: returned  # type: ignore[method-assign]
    for attempt in (
        lambda: encode_prepared(dense, prepared(3, 0)),
        lambda: list(BatchEncoder[str](dense).push("a", prepared(3, 0))) + list(BatchEncoder[str](dense).finish()),
    ):
        dense.picture_batch_size = 1
        with pytest.raises(EncoderError, match=complaint) as raised:
            attempt()
        assert "'dense'" in str(raised.value)
