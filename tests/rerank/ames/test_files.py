"""HDF5 files of descriptors: written, read, and as the public code lays them out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")
pytest.importorskip("torch")

from patchwise.errors import EncoderError, MissingExtra, StorageFull  # noqa: E402
from patchwise.rerank.ames.descriptors import DescriptorSet  # noqa: E402
from patchwise.rerank.ames.files import DescriptorFile, read_descriptors, write_descriptors  # noqa: E402


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


def test_records_of_the_later_public_code_are_read(tmp_path: Path) -> None:
    """`metadata` and `descriptor` beside each other, features in half precision."""
    described = some(4, 3)
    write_descriptors(tmp_path / "flat.hdf5", [described], 5)
    record = np.zeros((1, 5), dtype=[("metadata", "f4", 5), ("descriptor", "f2", 6)])
    with h5py.File(tmp_path / "flat.hdf5") as file:
        record["metadata"], record["descriptor"] = file["features"][..., :5], file["features"][..., 5:]
    with h5py.File(tmp_path / "records.hdf5", "w") as file:
        file["features"] = record
    (read,) = read_descriptors(tmp_path / "records.hdf5", [0], 3)
    assert read.features.dtype == np.float32
    np.testing.assert_allclose(read.features, described.features[:3], rtol=1e-3)
    np.testing.assert_array_equal(read.places, described.places[:3])
    with h5py.File(tmp_path / "others.hdf5", "w") as file:
        file["features"] = np.zeros((1, 5), dtype=[("metadata", "f4", 5), ("vector", "f2", 6)])
    with pytest.raises(EncoderError, match="cannot be read as descriptors of AMES"):
        read_descriptors(tmp_path / "others.hdf5", [0], 3)


def test_images_are_known_by_their_paths(tmp_path: Path) -> None:
    sets = [some(0, 0), some(3, 1), some(3, 2)]
    write_descriptors(tmp_path / "local.hdf5", sets, 3, ["a/1.jpg", "b/1.jpg", "/elsewhere/ü.jpg"])
    file = DescriptorFile(tmp_path / "local.hdf5", None, tmp_path / "pictures")
    assert file.dimension == 6 and file.example == str(tmp_path / "pictures" / "a" / "1.jpg")
    assert same(file.read(str(tmp_path / "pictures" / "b" / "1.jpg"), 9), sets[1])
    assert same(file.read("/elsewhere/ü.jpg", 9), sets[2])
    assert str(tmp_path / "pictures" / "1.jpg") not in file and "b/1.jpg" not in file


def test_lists_of_images_are_those_of_the_public_code(tmp_path: Path) -> None:
    """Path, and more behind commas; a list that is named is taken before the names in the file."""
    write_descriptors(tmp_path / "local.hdf5", [some(1, 0), some(1, 1)], 1, ["x", "y"])
    (tmp_path / "test_gallery.txt").write_text("jpg/a.jpg,1024,768\njpg/b.jpg,768,1024\n")
    file = DescriptorFile(tmp_path / "local.hdf5", tmp_path / "test_gallery.txt", Path("/data"))
    assert same(file.read("/data/jpg/b.jpg", 1), some(1, 1)) and "/data/x" not in file


def test_files_whose_images_are_not_known_are_told(tmp_path: Path) -> None:
    write_descriptors(tmp_path / "local.hdf5", [some(1, 0), some(1, 1)], 1)
    with pytest.raises(EncoderError, match=r'local\.hdf5: has no index that says.*"images" in the settings'):
        DescriptorFile(tmp_path / "local.hdf5", None, tmp_path)
    (tmp_path / "short.txt").write_text("a.jpg\n\n")
    with pytest.raises(EncoderError, match=r"local\.hdf5: holds 2 images, and .*short\.txt names 1"):
        DescriptorFile(tmp_path / "local.hdf5", tmp_path / "short.txt", tmp_path)
    with pytest.raises(EncoderError, match=r"none\.txt: cannot be read as a list of images"):
        DescriptorFile(tmp_path / "local.hdf5", tmp_path / "none.txt", tmp_path)
    (tmp_path / "garbage.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(EncoderError, match=r"garbage\.hdf5: cannot be read as descriptors of AMES"):
        DescriptorFile(tmp_path / "garbage.hdf5", None, tmp_path)


def test_without_h5py_the_command_that_brings_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"local\.hdf5 needs an optional package: pip install 'patchwise\[rerank\]'"):
        DescriptorFile(tmp_path / "local.hdf5", None, tmp_path)
