"""Textured pictures, and scenes in which they stand in perspective."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Corners = npt.NDArray[np.float64]


def textured(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Overlapping boxes of random grey, with as many edges at every scale."""
    generator = np.random.default_rng(seed)
    picture = np.full((size[1], size[0], 3), 128, dtype=np.uint8)
    for side in (120, 60, 30, 16, 10):
        for _ in range(size[0] * size[1] // side**2):
            x, y = generator.integers(0, size[0]), generator.integers(0, size[1])
            width, height = generator.integers(side // 3, side, 2)
            picture[y : y + height, x : x + width] = generator.integers(0, 256, 3)
    return Image.fromarray(picture)


def stand(scene: Image.Image, picture: Image.Image, corners: Corners) -> Image.Image:
    """The picture drawn into a quadrilateral of the scene: (4, 2) corners from its upper left, clockwise."""
    width, height = picture.size
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    # OpenCV's pixels have their middles at whole numbers.
    matrix = cv2.getPerspectiveTransform(frame - 0.5, corners.astype(np.float32) - 0.5)
    seen = cv2.warpPerspective(np.asarray(picture), matrix, scene.size)
    mask = cv2.warpPerspective(np.full((height, width), 255, dtype=np.uint8), matrix, scene.size) > 127
    return Image.fromarray(np.where(mask[..., None], seen, np.asarray(scene)))


def turned(middle: tuple[float, float], width: float, degrees: float, size: tuple[int, int] = (320, 240)) -> Corners:
    """Corners of a picture of `size` that is `width` wide, turned clockwise and seen somewhat from the side."""
    half = np.array(size) / size[0] * width / 2
    flat = np.array([[-1, -0.85], [1, -1], [1, 1], [-1, 0.85]]) * half
    angle = np.radians(degrees)
    corners: Corners = flat @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return corners + middle
