"""Descriptors on disk as AMES publishes them: HDF5 `features`, (images, most, 5 + D) float32.

Of each descriptor the five numbers in front are the place of its patch's centre, its scale, whether it is padding, and
its weight. The place is what `extract` of the public code writes as x and y: down first, then across. Later files of
the public code hold records (images, most) of `metadata`, these five, and `descriptor`. Which image a row belongs to is
said by `index` in the file, as ILIAS has it, or by the list of images that the public code reads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from patchwise.errors import EncoderError, MissingExtra, StorageFull
from patchwise.rerank.ames.descriptors import DescriptorSet
from patchwise.whole_files import whole_file

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["DescriptorFile", "read_descriptors", "write_descriptors"]

_DATASET, _INDEX = "features", "index"
_METADATA, _DESCRIPTOR = "metadata", "descriptor"
_DOWN, _ACROSS, _SCALE, _PADDING, _WEIGHT, _FEATURES = range(6)


class DescriptorFile:
    """Descriptors of images by their paths.

    Args:
        path: the HDF5 file.
        images: text file with a line for each of its images, of which what is behind a comma is left out; None where
            the file says it itself, in `index`.
        root: folder that names begin in.

    Raises:
        EncoderError: a file is missing or cannot be read, or the two have not as many images.
        MissingExtra: h5py is not installed.
    """

    def __init__(self, path: Path, images: Path | None, root: Path) -> None:
        self.path = path
        self._images, self._root = images, root
        self._h5py = _h5py(path)
        self._rows = {os.path.abspath(root / name): row for row, name in enumerate(self._names)}

    def __contains__(self, path: str) -> bool:
        return path in self._rows

    @property
    def example(self) -> str:
        """The path of its first image."""
        return next(iter(self._rows), "")

    @cached_property
    def dimension(self) -> int:
        """Length of a descriptor."""
        return read_descriptors(self.path, [0], 1)[0].features.shape[1] if self._rows else 0

    def read(self, path: str, count: int) -> DescriptorSet:
        """The `count` strongest descriptors of one of its images.

        Raises:
            EncoderError: the file cannot be read any more.
        """
        return read_descriptors(self.path, [self._rows[path]], count)[0]

    @property
    def _names(self) -> list[str]:
        try:
            with self._h5py.File(self.path, "r") as file:
                rows = len(file[_DATASET])
                named = [_text(name) for name in file[_INDEX][:]] if _INDEX in file else None
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise EncoderError(f"{self.path}: cannot be read as descriptors of AMES ({error})") from error
        if self._images is not None:
            try:
                lines = self._images.read_text(encoding="utf-8").splitlines()
            except (OSError, ValueError) as error:
                raise EncoderError(f"{self._images}: cannot be read as a list of images ({error})") from error
            named = [line.split(",")[0] for line in lines if line.strip()]
        if named is None:
            raise EncoderError(
                f"{self.path}: has no {_INDEX} that says which images these are; a text file with a line for "
                'each, such as test_gallery.txt of the public code, is named by "images" in the settings'
            )
        if len(named) != rows:
            raise EncoderError(f"{self.path}: holds {rows:,} images, and {self._images or _INDEX} names {len(named):,}")
        return named


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
            if not _is_known(dataset):
                raise ValueError(f"{_DATASET} has the shape {dataset.shape} of {dataset.dtype}")
            if len(images) and not 0 <= min(images) <= max(images) < len(dataset):
                raise ValueError(f"it holds {len(dataset):,} images, and image {max(images)} was asked for")
            return [_read(dataset[image, :count]) for image in images]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise EncoderError(f"{path}: cannot be read as descriptors of AMES ({error})") from error


def write_descriptors(
    path: Path, sets: Sequence[DescriptorSet], most: int, images: Sequence[str] | None = None
) -> None:
    """Write descriptors of images in this order, at most `most` of each; sets with fewer are padded.

    `images` are their names, such as paths below a folder, written as `index`.

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
            if images is not None:
                file.create_dataset(_INDEX, data=list(images), dtype=h5py.string_dtype())
    except OSError as error:
        raise StorageFull(f"{path}: cannot be written ({error})") from error


def _is_known(dataset: Any) -> bool:
    if dataset.dtype.names is not None:
        return dataset.ndim == 2 and {_METADATA, _DESCRIPTOR} <= set(dataset.dtype.names)
    return bool(dataset.ndim == 3 and dataset.shape[2] > _FEATURES)


def _read(rows: npt.NDArray[Any]) -> DescriptorSet:
    if rows.dtype.names is not None:
        metadata, features = rows[_METADATA], rows[_DESCRIPTOR]
    else:
        metadata, features = rows[:, :_FEATURES], rows[:, _FEATURES:]
    metadata, features = (np.asarray(part, dtype=np.float32) for part in (metadata, features))
    real = metadata[:, _PADDING] == 0
    return DescriptorSet(features[real], metadata[real][:, [_ACROSS, _DOWN]], metadata[real][:, _WEIGHT])


def _written(described: DescriptorSet, most: int, dimension: int) -> npt.NDArray[np.float32]:
    rows = np.zeros((most, _FEATURES + dimension), dtype=np.float32)
    rows[:, _PADDING] = 1
    count = min(len(described.features), most)
    rows[:count, _PADDING] = 0
    rows[:count, [_ACROSS, _DOWN]] = described.places[:count]
    rows[:count, _WEIGHT], rows[:count, _FEATURES:] = described.weights[:count], described.features[:count]
    return rows


def _text(name: bytes | str) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


def _h5py(path: Path) -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra(f"reading or writing {path}", "rerank") from error
    module: ModuleType = h5py
    return module
