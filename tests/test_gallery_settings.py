"""Opening a gallery with other words than it was made with: the same thing, moved files, or something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from patchwise import Gallery
from patchwise.encoders import LinearAdaptation
from patchwise.errors import EncoderError, GalleryMismatch


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    return written(tmp_path / "layer.safetensors", seed=0)


def written(path: Path, seed: int) -> Path:
    weight = np.random.default_rng(seed).standard_normal((16, 256)).astype(np.float32)
    LinearAdaptation(weight, np.zeros(16, np.float32)).save(path)
    return path


@pytest.fixture
def gallery(tmp_path: Path, layer: Path, picture_folder: Path) -> Path:
    with Gallery.create(tmp_path / "g", encoder=f"builtin,adapt={layer}", regions="whole") as made:
        made.add(picture_folder)
    return tmp_path / "g"


def test_files_that_have_moved_are_taken_from_where_they_are_now(
    gallery: Path, layer: Path, tmp_path: Path, picture_folder: Path
) -> None:
    with Gallery.open(gallery) as opened:
        before = opened.search(picture_folder / "02.png")
    (tmp_path / "elsewhere").mkdir()
    moved = layer.rename(tmp_path / "elsewhere" / "renamed.safetensors")
    with (
        Gallery.open(gallery) as opened,
        pytest.raises(EncoderError, match=r"If its files have moved: .*--encoder NAME"),
    ):
        opened.search(picture_folder / "02.png")
    with Gallery.open_or_create(gallery, encoder=f"builtin,adapt={moved}") as opened:
        assert opened.add(picture_folder).unchanged == 6
    with Gallery.open(gallery) as opened:  # and remembered
        assert opened.search(picture_folder / "02.png") == before
        assert opened.info().encoder["id"] == f"builtin,adapt={moved}"


def test_another_file_at_another_place_is_another_encoder(gallery: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(GalleryMismatch, match="made with encoder"):
        Gallery.open_or_create(gallery, encoder=f"builtin,adapt={other}")
    with pytest.raises(GalleryMismatch, match="made with encoder"):
        Gallery.open_or_create(gallery, encoder="builtin")
    with pytest.raises(GalleryMismatch, match="made with encoder"):
        Gallery.open_or_create(gallery, encoder=f"builtin,adapt={tmp_path / 'nothing.safetensors'}")


def test_a_gallery_that_holds_nothing_yet_is_made_anew(tmp_path: Path, layer: Path, picture_folder: Path) -> None:
    Gallery.create(tmp_path / "g", regions="pyramid:1", whitening="gallery").close()
    wanted = {"encoder": f"builtin,adapt={layer}", "regions": "whole", "whitening": "shipped"}
    with Gallery.open_or_create(tmp_path / "g", **wanted) as opened:
        assert opened.add(picture_folder).encoded_regions == 6
        assert opened.info().encoder["dimension"] == 16 and opened.info().whitening == "shipped"
    with pytest.raises(GalleryMismatch, match="made with regions 'whole', not 'pyramid:1'"):
        Gallery.open_or_create(tmp_path / "g", regions="pyramid:1")


def test_a_whitening_learned_before_anything_was_stored_goes(tmp_path: Path, picture_folder: Path) -> None:
    with Gallery.create(tmp_path / "g", whitening="gallery", regions="whole") as opened:
        opened.add(picture_folder)
        learned = (tmp_path / "g" / "whitening.npz").read_bytes()
    Gallery.create(tmp_path / "h", whitening="gallery", regions="whole").close()
    (tmp_path / "h" / "whitening.npz").write_bytes(learned)
    with Gallery.open_or_create(tmp_path / "h", whitening="shipped") as opened:
        assert not (tmp_path / "h" / "whitening.npz").exists()
        assert opened.add(picture_folder).added == 6
