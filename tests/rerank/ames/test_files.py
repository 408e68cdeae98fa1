"""HDF5 files of descriptors: written, read, and as the public code lays them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
pytest.importorskip("torch")

from patchwise.errors import EncoderError, StorageFull  # noqa: E402
from patchwise.rerank.ames.descriptors import DescriptorSet  # noqa: E402
from patchwise.rerank.ames.files import read_descriptors, write_descriptors  # noqa: E402


def some(count: int, seed: int) -> DescriptorSet:
    generator = np.random.default_rng(seed)
    return DescriptorSet(
        generator.normal(size=(count, 6)).astype("f4"),
        generator.random((count, 2)).astype("f4"),
        np.sort(generator.random(count).astype("f4"))[::-1],
    )


def same(one: DescriptorSet, other: DescriptorSet) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    sets = [some(count, seed) for seed, count in enumerate([4, 0, 7, 12])]
    write_descriptors(tmp_path / "local.hdf5", sets, 7)
    read = read_descriptors(tmp_path / "local.hdf5", [3, 0, 1, 2], 7)
    assert same(read[0], DescriptorSet(*(part[:7] for part in sets[3])))
    assert all(same(one, sets[number]) for number, one in enumerate(read[1:]))
    (few,) = read_descriptors(tmp_path / "local.hdf5", [2], 3)
    assert same(few, DescriptorSet(*(part[:3] for part in sets[2])))
    assert list(tmp_path.iterdir()) == [tmp_path / "local.hdf5"]


def test_the_layout_is_the_published_one(tmp_path: Path) -> None:
    """Numbers of a row: down, across, scale, padding, weight, features."""
    described = DescriptorSet(np.array([[7, 8, 9]], "f4"), np.array([[0.25, 0.75]], "f4"), np.array([0.5], "f4"))
    write_descriptors(tmp_path / "local.hdf5", [described], 2)
    with h5py.File(tmp_path / "local.hdf5") as file:
        assert file["features"].dtype == np.float32
        assert file["features"][0].tolist() == [[0.75, 0.25, 0, 0, 0.5, 7, 8, 9], [0, 0, 0, 1, 0, 0, 0, 0]]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "garbage.hdf5").write_bytes(b"no HDF5")
    with h5py.File(tmp_path / "flat.hdf5", "w") as file:
        file["features"] = np.zeros((3, 9))
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["index"] = np.zeros(3)
    write_descriptors(tmp_path / "short.hdf5", [some(2, 0)], 2)
    for name in ("garbage", "flat", "other", "missing", "short"):
        with pytest.raises(EncoderError, match=rf"{name}\.hdf5: cannot be read as descriptors of AMES"):
            read_descriptors(tmp_path / f"{name}.hdf5", [1], 5)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="cannot be written"):
        write_descriptors(tmp_path / "nowhere" / "local.hdf5", [some(1, 0)], 1)
