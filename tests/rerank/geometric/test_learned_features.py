"""Keypoints that a network finds: real ALIKED weights, a DISK of random ones, and files that are neither."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchwise import Gallery
from patchwise.errors import EncoderError, MissingExtra
from patchwise.rerank.base import Arrays
from patchwise.rerank.geometric import LearnedFeatures, correspondences, load_features
from patchwise.rerank.geometric.learned_features import known_features
from rerank.geometric.scenes import stand, textured, turned

torch = pytest.importorskip("torch")
kornia = pytest.importorskip("kornia.feature")

SCENE = (640, 480)
CORNERS = turned((330, 240), 300, 20)


@pytest.fixture(scope="module")
def weights(shared_data: Path) -> Path:
    return shared_data / "weights" / "aliked-n16.pth"


@pytest.fixture(scope="module")
def aliked(weights: Path) -> LearnedFeatures:
    return load_features(weights)


@pytest.fixture(scope="module")
def photographs(shared_data: Path) -> list[Image.Image]:
    found = sorted((shared_data / "distractors").glob("*.jpg"))[:3]
    return [Image.open(path).convert("RGB").resize((320, 240)) for path in found]


@pytest.fixture(scope="module")
def found(aliked: LearnedFeatures, photographs: list[Image.Image]) -> Arrays:
    return aliked.found(photographs[0])


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("disk") / "depth-save.pth"
    torch.save({"extractor": kornia.DISK().state_dict(), "epoch": 3}, path)
    return path


def test_keypoints_are_found_again_in_a_smaller_picture(aliked, photographs, found) -> None:
    places, again = found["places"], aliked.found(photographs[0].resize((240, 180)))["places"]
    apart = np.linalg.norm((places[:, None] - again[None]) * (320, 240), axis=2).min(axis=1)
    assert (apart < 1.5).mean() > 0.5
    # As many places drawn at random are met far less often.
    drawn = np.random.default_rng(0).random(places.shape)
    assert (np.linalg.norm((drawn[:, None] - again[None]) * (320, 240), axis=2).min(axis=1) < 1.5).mean() < 0.25


def test_they_are_those_of_kornia_as_it_was_published(aliked, weights, photographs, found) -> None:
    """Those that kornia finds with its own defaults are among them; descriptors lose next to nothing in 8 bits."""
    module = kornia.ALIKED("aliked-n16")
    assert module.load_state_dict(torch.load(weights, weights_only=True), strict=False).missing_keys == ["dkd.hw_grid"]
    picture = photographs[0].resize((1024, 768), Image.Resampling.BICUBIC, reducing_gap=3.0)
    with torch.inference_mode():
        expected = module.eval()(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255)[0]
    keypoints = aliked.keypoints(found)
    pixels = keypoints.places * (1024, 768) - 0.5
    apart = np.abs(expected.keypoints.numpy()[:, None] - pixels[None]).max(axis=2)
    assert 100 < len(apart) < len(pixels) <= 3 * 1024
    assert apart.min(axis=1).max() < 1e-3
    products = (expected.descriptors.numpy() * keypoints.descriptors[apart.argmin(axis=1)]).sum(axis=1)
    assert products.min() > 0.999
    assert np.allclose(np.linalg.norm(keypoints.descriptors, axis=1), 1, atol=1e-6)


def test_the_strongest_are_taken(aliked, weights, photographs, found) -> None:
    few = load_features(weights, most=50)
    places = [tuple(place) for place in few.found(photographs[0])["places"].tolist()]
    everywhere = [tuple(place) for place in found["places"].tolist()]
    assert len(places) == 150 < len(everywhere)  # at each of three scales
    # kornia chooses by the score of a pixel, which that between pixels is not quite.
    assert set(places[:50]) <= set(everywhere[:100])
    assert few.id != aliked.id


@pytest.mark.parametrize("size", [(1, 1), (1000, 1), (3, 200), (64, 48)])
def test_plain_pictures_have_none(aliked, size) -> None:
    keypoints = aliked.keypoints(aliked.found(Image.new("RGB", size, "grey")))
    assert keypoints.places.shape == (0, 2)
    assert keypoints.descriptors.shape == (0, 128)
    assert correspondences(keypoints, keypoints).shape == (0, 2)


def test_a_turned_photograph_is_found_where_it_stands_and_the_gallery_keeps_what_was_seen(
    weights, photographs, fake_encoder, tmp_path, monkeypatch
) -> None:
    looked_at = []
    looks = LearnedFeatures.found
    monkeypatch.setattr(
        LearnedFeatures, "found", lambda self, picture: looked_at.append(picture.size) or looks(self, picture)
    )
    folder = tmp_path / "pictures"
    folder.mkdir()
    stand(photographs[1].resize(SCENE), photographs[0], CORNERS).save(folder / "shows.png")
    photographs[2].save(folder / "other.png")
    with Gallery.create(tmp_path / "g", encoder=fake_encoder, regions="pyramid:1") as gallery:
        gallery.add(folder)
        first, again = (gallery.search(photographs[0], rerank=f"geometric:9:{weights}") for _ in range(2))
    assert sorted(looked_at[:3]) == sorted([(320, 240), (320, 240), SCENE])
    assert looked_at[3:] == [(320, 240)]  # the query
    assert first == again
    assert [Path(hit.path).name for hit in first] == ["shows.png", "other.png"]
    assert [hit.geometry.verdict for hit in first if hit.geometry] == ["verified", "not verified"]
    assert np.abs(np.array(first[0].geometry.outline) - CORNERS).max() < 6  # of 300 pixels


def test_descriptors_are_kept_in_bytes(found) -> None:
    assert {name: array.dtype for name, array in found.items()} == {"places": np.float32, "descriptors": np.int8}
    assert (np.abs(found["descriptors"]).max(axis=1) == 127).all()


def test_arrays_of_something_else_are_refused(aliked) -> None:
    with pytest.raises(ValueError, match="not keypoints of aliked-n16"):
        aliked.keypoints({"places": np.zeros((2, 2)), "descriptors": np.zeros((2, 64))})


def test_disk_is_told_by_its_tensors(disk) -> None:
    features = load_features(disk)
    assert features.id.startswith("disk:")
    picture = textured(1, (1024, 640))
    found = features.found(picture)
    assert 8 < len(found["places"]) <= 3 * 1024
    keypoints = features.keypoints(found)
    assert keypoints.descriptors.shape == (len(found["places"]), 128)
    # Pixels have their middles at halves: of the picture, of its half, or of its quarter.
    at_any = [((keypoints.places * picture.size / smaller) % 1 - 0.5) for smaller in (1, 2, 4)]
    assert (np.abs(at_any).max(axis=2).min(axis=0) < 1e-3).all()
    assert len(features.found(Image.new("RGB", (1, 1)))["places"]) == 0


def test_a_file_is_read_once_until_it_changes(disk, tmp_path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(disk.read_bytes())
    first = known_features(str(path))
    assert known_features(str(path)) is first
    torch.manual_seed(1)
    torch.save(kornia.DISK().state_dict(), path)
    os.utime(path, ns=(1, 1))
    assert known_features(str(path)).id != first.id


def test_another_file_has_another_id(disk, tmp_path) -> None:
    torch.manual_seed(1)
    torch.save(kornia.DISK().state_dict(), tmp_path / "flat.pth")
    assert load_features(tmp_path / "flat.pth").id != load_features(disk).id
    assert load_features(disk).id == load_features(disk).id


def without(name: str) -> Any:
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("conv1.weight"), r"does not fit aliked-n16 \(no conv1\.weight\)"),
        (lambda state: {**state, "conv9.weight": torch.zeros(1)}, r"does not fit aliked-n16 \(has conv9\.weight\)"),
        (
            lambda state: {**state, "conv1.weight": state["conv1.weight"] * math.nan},
            r"\(conv1\.weight is not finite\)",
        ),
        (lambda state: {**state, "conv1.weight": torch.zeros(2, 2)}, r"does not fit aliked-n16 \(size mismatch"),
        (lambda state: {**state, "desc_head.agg_weights": torch.zeros(3, 7, 7)}, "an ALIKED of another shape than"),
        (without("desc_head.agg_weights"), "neither ALIKED nor DISK"),
        (lambda state: [1, 2], "neither ALIKED nor DISK"),
        (lambda state: {"extractor": 3}, "neither ALIKED nor DISK"),
        (lambda state: {"unet.path_down.0.x": torch.zeros(1)}, r"does not fit disk \(no unet\..* and \d+ more\)"),
        (lambda state: Path("code"), "no file of weights that torch can read"),
    ],
)
def test_files_that_do_not_fit_are_refused(weights, tmp_path, change, told) -> None:
    path = tmp_path / "w.pth"
    torch.save(change(torch.load(weights, weights_only=True)), path)
    with pytest.raises(EncoderError, match=r"w\.pth: .*" + told):
        load_features(path)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut short"])
def test_files_that_cannot_be_read_are_refused(tmp_path, content) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(EncoderError, match=r"w\.pth: no file of weights that torch can read"):
        load_features(tmp_path / "w.pth")


def test_a_file_cut_short_is_refused(weights, tmp_path) -> None:
    (tmp_path / "w.pth").write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(EncoderError, match=r"w\.pth: no file of weights that torch can read"):
        load_features(tmp_path / "w.pth")


@pytest.mark.parametrize(("name", "told"), [("none.pth", "No such file"), (".", "Is a directory")])
def test_files_that_are_not_there_are_named(tmp_path, name, told) -> None:
    for load in (load_features, known_features):
        with pytest.raises(EncoderError, match=f"rerank geometric: .*: {told}"):
            load(tmp_path / name)


@pytest.mark.parametrize("package", ["torch", "kornia"])
def test_without_kornia_the_install_command_is_named(monkeypatch, weights, package) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kornia"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"aliked-n16\.pth .*patchwise\[rerank\]"):
        load_features(weights)


def test_sift_needs_no_torch() -> None:
    code = (
        "import sys; from patchwise.rerank.geometric import Geometric; Geometric(None); "
        "print(*[name for name in ('torch', 'kornia') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
