"""Projections found in scenes whose geometry is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from patchwise.rerank.geometric import VERIFIED, Keypoints, Projection, Sift, correspondences, projections
from rerank.geometric.scenes import stand, textured, turned

SIFT = Sift()
SCENE = textured(100, (900, 600))
POSTER = textured(1)


def keypoints(picture: Image.Image) -> Keypoints:
    return SIFT.keypoints(SIFT.found(picture))


def look(query: Image.Image, scene: Image.Image, most: int = 1) -> list[Projection]:
    return projections(keypoints(query), keypoints(scene), query.size, scene.size, significant=VERIFIED, most=most)


@pytest.mark.parametrize(
    "corners",
    [
        turned((450, 300), 400, 0),
        turned((300, 250), 250, 35),
        turned((600, 350), 200, 180),
        np.array([[100, 80], [420, 160], [400, 380], [90, 450]]),
    ],
    ids=["frontal", "turned", "upside down", "from the side"],
)
def test_the_outline_is_where_the_picture_stands(corners: np.ndarray) -> None:
    (found,) = look(POSTER, stand(SCENE, POSTER, corners))
    assert found.log_alarms < -20
    assert found.inliers >= 20
    assert np.abs(np.array(found.corners(SCENE.size)) - corners).max() < 3
    expected = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    assert found.box(SCENE.size) == pytest.approx(expected, abs=3)


def test_an_outline_may_leave_the_image_and_its_box_may_not() -> None:
    corners = turned((60, 300), 400, 0)
    (found,) = look(POSTER, stand(SCENE, POSTER, corners))
    assert found.outline[:, 0].min() < -0.1
    x0, _, x1, _ = found.box(SCENE.size)
    assert x0 == 0
    assert x1 == pytest.approx(260, abs=4)


def test_unrelated_and_mirrored_pictures_are_not_found() -> None:
    for query in (textured(2), ImageOps.mirror(POSTER)):
        found = look(query, stand(SCENE, POSTER, turned((450, 300), 400, 0)))
        assert not found or found[0].log_alarms > VERIFIED


def test_every_instance_is_found_once() -> None:
    corners = [turned((200, 200), 280, 10), turned((650, 250), 240, -15), turned((420, 470), 200, 90)]
    scene = SCENE
    for each in corners:
        scene = stand(scene, POSTER, each)
    found = look(POSTER, scene, 6)
    assert len(found) == 3
    middles = np.array([np.mean(each.corners(scene.size), axis=0) for each in found])
    distances = np.linalg.norm(middles[:, None] - np.array([each.mean(axis=0) for each in corners])[None], axis=2)
    assert sorted(distances.argmin(axis=1)) == [0, 1, 2]
    assert distances.min(axis=1).max() < 5
    assert len(look(POSTER, scene, 2)) == 2


def test_the_same_each_time_whatever_else_drew_random_numbers_of_opencv() -> None:
    scene = stand(SCENE, POSTER, turned((300, 250), 150, 35))
    cv2.setRNGSeed(1)
    (first,) = look(POSTER, scene)
    cv2.setRNGSeed(2)
    (second,) = look(POSTER, scene)
    assert np.array_equal(first.outline, second.outline)
    assert first[1:] == second[1:]


def test_correspondences_are_mutual_and_clearer_than_the_next_in_one_picture() -> None:
    """Products: row 0 and column 0 agree clearly; rows 1 and 2 look the same, and column 1 is much like both."""
    query = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0.999, np.sqrt(1 - 0.999**2), 0]], dtype=np.float32)
    image = np.array([[0.99, 0, 0, np.sqrt(1 - 0.99**2)], [0, 0.9995, 0.0316, 0]], dtype=np.float32)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    pairs = correspondences(
        Keypoints(np.zeros((3, 2), np.float32), query), Keypoints(np.zeros((2, 2), np.float32), image)
    )
    # Row 1 or 2, whichever is nearer, is told from the other image keypoint; the other one is nobody's nearest.
    assert sorted(pairs.tolist()) == [[0, 0], [int(np.argmax(query @ image[1])), 1]]
    lonely = Keypoints(np.zeros((1, 2), np.float32), query[:1])
    assert correspondences(lonely, lonely).shape == (0, 2)
