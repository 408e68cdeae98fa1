"""Local features: corners and blobs of a picture with what they look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.errors import MissingExtra

__all__ = ["WORKING_SIDE", "Keypoints", "LocalFeatures", "Sift", "import_opencv", "working_size"]

WORKING_SIDE = 1_024  # pixels of the longer side
_MOST_ENLARGED = 4.0  # beyond that there is nothing but interpolation


class Keypoints(NamedTuple):
    """Keypoints of a picture: (N, 2) float32 places in [0, 1] of its sides, and (N, D) float32 unit descriptors."""

    places: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float32]


class LocalFeatures(Protocol):
    """Finds keypoints."""

    @property
    def id(self) -> str:
        """Everything that decides what is found."""
        ...

    def found(self, picture: Image.Image) -> Mapping[str, npt.NDArray[np.generic]]:
        """Keypoints of an RGB picture, as small arrays that can be kept."""
        ...

    def keypoints(self, found: Mapping[str, npt.NDArray[np.generic]]) -> Keypoints:
        """The keypoints in such arrays.

        Raises:
            KeyError, ValueError: the arrays are not those of `found`.
        """
        ...


class Sift:
    """SIFT of OpenCV as RootSIFT.

    Lowe, IJCV 2004; Arandjelovic and Zisserman, "Three things everyone should know to improve object retrieval", CVPR
    2012: descriptors scaled to a sum of 1, and the root of each number, so that products are Hellinger's kernel.

    Args:
        most: keypoints of a picture, the strongest.

    Raises:
        MissingExtra: OpenCV is not installed.
    """

    def __init__(self, most: int = 2_048) -> None:
        self._cv2 = import_opencv()
        self._most = most
        # Half of Lowe's threshold: what is weak but stable counts, and the ratio test throws out what is not.
        self._sift = self._cv2.SIFT_create(nfeatures=most, contrastThreshold=0.02, enable_precise_upscale=True)
        self.id = f"sift:{most}:{WORKING_SIDE}:1"

    def found(self, picture: Image.Image) -> dict[str, npt.NDArray[np.generic]]:
        """`places` (N, 2) float32 in [0, 1], and `descriptors` (N, 128) uint8."""
        grey = picture.convert("L")
        grey = grey.resize(working_size(grey.size), Image.Resampling.BICUBIC, reducing_gap=3.0)
        points, descriptors = self._sift.detectAndCompute(np.asarray(grey), None)
        if not points:
            return {"places": np.empty((0, 2), dtype=np.float32), "descriptors": np.empty((0, 128), dtype=np.uint8)}
        middles = np.array([point.pt for point in points]) + 0.5  # OpenCV's pixels have their middles at whole numbers
        # Equally strong keypoints all stay, which may be many more.
        order = np.argsort([-point.response for point in points], kind="stable")[: self._most]
        return {
            "places": (middles[order] / grey.size).astype(np.float32),
            "descriptors": descriptors[order].astype(np.uint8),  # OpenCV gives whole numbers up to 255
        }

    def keypoints(self, found: Mapping[str, npt.NDArray[np.generic]]) -> Keypoints:
        places, descriptors = found["places"], found["descriptors"]
        if places.shape != (len(descriptors), 2) or descriptors.shape[1:] != (128,):
            raise ValueError(f"not keypoints of SIFT: shapes {places.shape} and {descriptors.shape}")
        shares = descriptors.astype(np.float32)
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
        return Keypoints(places.astype(np.float32), np.sqrt(shares))


def working_size(size: tuple[int, int], side: int = WORKING_SIDE) -> tuple[int, int]:
    """The (width, height) at which a picture is looked at: its longer side is `side`, unless it is much smaller."""
    scale = min(side / max(size), _MOST_ENLARGED)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def import_opencv() -> Any:
    """OpenCV's Python module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("geometric verification", "rerank") from error
    return cv2
