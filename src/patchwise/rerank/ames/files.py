"""Descriptors on disk as AMES publishes them: HDF5 `features`, (images, most, 5 + D) float32.

Of each descriptor the five numbers in front are the place of its patch's centre, its scale, whether it is padding, and
its weight. The place is what `extract` of the public code writes as x and y: down first, then across.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from patchwise.errors import EncoderError, MissingExtra, StorageFull
from patchwise.rerank.ames.descriptors import DescriptorSet
from patchwise.whole_files import whole_file

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["read_descriptors", "write_descriptors"]

_DATASET = "features"
_DOWN, _ACROSS, _SCALE, _PADDING, _WEIGHT, _FEATURES = range(6)


def read_descriptors(path: Path, images: Sequence[int], count: int) -> list[DescriptorSet]:
    """The `count` strongest descriptors of some images of a file, by their places in it; padding is left out.

    Raises:
        EncoderError: the file is missing, or holds no descriptors of AMES, or not of as many images.
        MissingExtra: h5py is not installed.
    """
    h5py = _h5py(path)
    try:
        with h5py.File(path, "r") as file:
            dataset = file[_DATASET]
            if dataset.ndim != 3 or dataset.shape[2] <= _FEATURES:
                raise ValueError(f"{_DATASET} has the shape {dataset.shape}")
            if len(images) and not 0 <= min(images) <= max(images) < len(dataset):
                raise ValueError(f"it holds {len(dataset):,} images, and image {max(images)} was asked for")
            return [_read(np.asarray(dataset[image, :count], dtype=np.float32)) for image in images]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise EncoderError(f"{path}: cannot be read as descriptors of AMES ({error})") from error


def write_descriptors(path: Path, sets: Sequence[DescriptorSet], most: int) -> None:
    """Write descriptors of images in this order, at most `most` of each; sets with fewer are padded.

    Raises:
        StorageFull: the disk refused.
        MissingExtra: h5py is not installed.
    """
    h5py = _h5py(path)
    dimension = sets[0].features.shape[1] if sets else 0
    try:
        with whole_file(path) as place, h5py.File(place, "w") as file:
            dataset = file.create_dataset(_DATASET, (len(sets), most, _FEATURES + dimension), dtype=np.float32)
            for image, described in enumerate(sets):
                dataset[image] = _written(described, most, dimension)
    except OSError as error:
        raise StorageFull(f"{path}: cannot be written ({error})") from error


def _read(rows: npt.NDArray[np.float32]) -> DescriptorSet:
    rows = rows[rows[:, _PADDING] == 0]
    return DescriptorSet(rows[:, _FEATURES:], rows[:, [_ACROSS, _DOWN]], rows[:, _WEIGHT])


def _written(described: DescriptorSet, most: int, dimension: int) -> npt.NDArray[np.float32]:
    rows = np.zeros((most, _FEATURES + dimension), dtype=np.float32)
    rows[:, _PADDING] = 1
    count = min(len(described.features), most)
    rows[:count, _PADDING] = 0
    rows[:count, [_ACROSS, _DOWN]] = described.places[:count]
    rows[:count, _WEIGHT], rows[:count, _FEATURES:] = described.weights[:count], described.features[:count]
    return rows


def _h5py(path: Path) -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra(f"reading or writing {path}", "rerank") from error
    module: ModuleType = h5py
    return module
