"""What a gallery is searched by: codes where it has them, whatever happened to these; exactly where it must."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.errors import UsageError
from patchwise.search import CompressedSearcher, ExactSearcher
from patchwise.store import Store


def reopened(gallery: Gallery) -> Gallery:
    return Gallery.open(gallery.path, encoder=FakeEncoder())


def searched_by(gallery: Gallery, recall: float = 0.99) -> type:
    return type(gallery.current(recall)[1])


def test_codes_are_searched_once_they_are_there_and_only_below_a_recall_of_1(gallery: Gallery) -> None:
    assert searched_by(gallery) is ExactSearcher
    gallery.compress("fastscan:8")
    assert searched_by(gallery) is CompressedSearcher
    assert searched_by(gallery, 0.5) is CompressedSearcher
    assert searched_by(gallery, 1.0) is ExactSearcher
    for recall in (0, -1, 1.01):
        with pytest.raises(UsageError, match="recall must be above 0"):
            gallery.current(recall)


@pytest.mark.parametrize("codes_only", [False, True])
@pytest.mark.parametrize("codec", ["fastscan:8", "ivf:8", "ivf:8:2", "SQ8"])
def test_lost_codes_are_made_again(gallery: Gallery, codec: str, codes_only: bool) -> None:
    report = gallery.compress(codec, codes_only=codes_only)
    shutil.rmtree(gallery.path / "compressed")
    with reopened(gallery) as again:
        assert searched_by(again) is CompressedSearcher
        info = again.compression()
        assert info is not None and (info.codec, info.codes_only) == (report.info.codec, codes_only)


def test_lost_codes_are_made_again_from_a_training_set_that_needs_the_encoder(
    gallery: Gallery, pictures: Path, tmp_path: Path
) -> None:
    queries = tmp_path / "queries.csv"
    queries.write_text("path\n" + "".join(f"{path}\n" for path in sorted(pictures.iterdir())))
    gallery.compress("fastscan:8", train=f"queries:{queries}")
    shutil.rmtree(gallery.path / "compressed")
    with reopened(gallery) as again:
        assert searched_by(again) is CompressedSearcher
    shutil.rmtree(gallery.path / "compressed")
    queries.unlink()
    with reopened(gallery) as again:
        assert searched_by(again) is CompressedSearcher
        info = again.compression()
        assert info is not None and info.trained_on == "random"


BAD_CALIBRATION: list[Any] = [{}, {"regions": 1}, {"regions": 10**6}, {"margins": {}}, {"margins": 7}, [], 5, None]


@pytest.mark.parametrize("content", BAD_CALIBRATION, ids=str)
def test_a_calibration_that_cannot_be_read_is_measured_again(gallery: Gallery, pictures: Path, content: object) -> None:
    gallery.compress("fastscan:8")
    record = gallery.path / "compressed" / "0001" / "index.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "calibration": content}))
    with reopened(gallery) as again:
        assert searched_by(again) is CompressedSearcher
        again.add(pictures)
        info = again.compression()
        assert info is not None and info.recall == {3: 1.0}


@pytest.mark.parametrize("images", [7, 9, 20, 30])
def test_a_small_gallery_that_grows(gallery: Gallery, pictures: Path, images: int) -> None:
    """It is measured at other numbers of hits than before, once there are enough for them."""
    gallery.compress("fastscan:8")
    for seed in range(6, images):
        make_picture(seed, (32, 24)).save(pictures / f"{seed:02d}.png")
    gallery.add(pictures)
    info = gallery.compression()
    assert info is not None and min(info.recall_now.values()) >= 0.99
    assert len(gallery.search(pictures / "06.png", k=images)) == images


def test_a_busy_writer_leaves_exact_search(gallery: Gallery) -> None:
    gallery.compress("fastscan:8")
    shutil.rmtree(gallery.path / "compressed")
    with Store(gallery.path) as other, other.writer(), reopened(gallery) as again:
        assert searched_by(again) is ExactSearcher
        assert len(again.search(make_picture(1), k=6)) == 6
    with reopened(gallery) as later:
        assert searched_by(later) is CompressedSearcher


def test_codes_made_by_another_process_are_taken_up(gallery: Gallery) -> None:
    assert searched_by(gallery) is ExactSearcher
    with reopened(gallery) as other:
        other.compress("fastscan:8")
    assert searched_by(gallery) is CompressedSearcher


CHANGES: dict[str, Callable[[Gallery], object]] = {
    "compaction": lambda gallery: gallery.compact(),
    "repair": lambda gallery: gallery.verify(repair=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after(gallery: Gallery, pictures: Path, change: str) -> None:
    gallery.compress("fastscan:8")
    shard = gallery.path / "vectors" / "000001.f16"
    if change == "compaction":
        gallery.remove(pictures / "02.png")
    else:
        shard.write_bytes(shard.read_bytes()[:-1])  # the last picture is lost
    with reopened(gallery) as again:
        CHANGES[change](again)
    with reopened(gallery) as again:
        assert searched_by(again) is CompressedSearcher
        assert len(again) == 5
        for seed in range(6):
            hits, exact = (again.search(make_picture(seed, (32, 24)), k=9, exact=exact) for exact in (False, True))
            assert hits == exact and len(hits) == 5
