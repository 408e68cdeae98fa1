"""Keypoints: where they lie, what is kept of them, and what is asked for where OpenCV is not installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from patchwise.errors import MissingExtra
from patchwise.rerank.geometric.local_features import Sift, working_size
from rerank.geometric.scenes import textured


@pytest.mark.parametrize(
    ("size", "expected"),
    [((4096, 2048), (1024, 512)), ((500, 1000), (512, 1024)), ((60, 30), (240, 120)), ((3, 1), (12, 4))],
)
def test_pictures_are_looked_at_in_one_size_unless_they_are_tiny(size, expected) -> None:
    assert working_size(size) == expected


def test_places_are_the_middles_of_what_is_seen_in_shares_of_the_sides() -> None:
    picture = Image.new("RGB", (600, 300), (40, 40, 40))
    ImageDraw.Draw(picture).ellipse((445, 55, 474, 84), fill="white")  # pixels 445 to 474: its middle is at 460
    places = Sift().found(picture)["places"]
    nearest = np.abs(places - (460 / 600, 70 / 300)).max(axis=1).min()
    assert nearest < 0.001


def test_descriptors_are_roots_of_shares() -> None:
    sift = Sift()
    found = sift.found(textured(1))
    keypoints = sift.keypoints(found)
    assert np.allclose(np.linalg.norm(keypoints.descriptors, axis=1), 1, atol=1e-5)
    raw = found["descriptors"].astype(float)
    assert np.allclose(keypoints.descriptors**2, raw / raw.sum(axis=1, keepdims=True), atol=1e-5)


def test_no_more_than_asked_for_and_the_strongest_first() -> None:
    picture = textured(1)
    few, many = Sift(50).found(picture)["places"], Sift(400).found(picture)["places"]
    assert len(few) == 50
    assert 50 < len(many) <= 400
    assert {tuple(place) for place in few.tolist()} <= {tuple(place) for place in many.tolist()}


@pytest.mark.parametrize("size", [(1, 1), (300, 1), (64, 48)])
def test_plain_pictures_have_none(size) -> None:
    sift = Sift()
    keypoints = sift.keypoints(sift.found(Image.new("RGB", size, "grey")))
    assert keypoints.places.shape == (0, 2)
    assert keypoints.descriptors.shape == (0, 128)


def test_arrays_of_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="not keypoints"):
        Sift().keypoints({"places": np.zeros((3, 2)), "descriptors": np.zeros((2, 128))})


def test_without_opencv_the_install_command_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"patchwise\[rerank\]"):
        Sift()
