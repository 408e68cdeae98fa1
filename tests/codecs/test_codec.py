"""Codes against the codebooks they stand for, and the files that codecs are kept in."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from safetensors.numpy import save

from patchwise.codecs import Codec, codec, load_codec, train_codec
from patchwise.errors import GalleryDamaged, StorageFull
from search.coded import clustered_pictures, unit

DIMENSION = 24
NAMES = {  # and bytes of a code
    "fastscan:6": 6,
    "fastscan:5": 5,  # 10 parts of 24 numbers
    "pq:6": 6,
    "pq:7": 7,
    "opq:6": 6,
    "opq:5": 5,
    "ivf:6:4": 7,
    "ivf:5:300": 7,
    "SQ8": DIMENSION,
    "SQfp16": 2 * DIMENSION,
    "RQ4x4": 2,
    "PQ6x4fs": 3,
    "IVF4,PQ6x4fs": 4,
    "Flat": 4 * DIMENSION,
}


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.concatenate(clustered_pictures([5] * 200, DIMENSION))


@pytest.fixture(scope="module")
def queries(vectors: np.ndarray) -> np.ndarray:
    return np.concatenate([vectors[::211], unit(np.random.default_rng(9).normal(size=(5, DIMENSION)))])


@pytest.fixture(scope="module")
def trained(vectors: np.ndarray) -> Callable[[str], Codec]:
    return cache(lambda name: train_codec(name, vectors))


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name: str, trained: Callable[[str], Codec], vectors: np.ndarray) -> None:
    made = trained(name)
    assert (made.name, made.dimension, made.code_bytes) == (name, DIMENSION, NAMES[name])
    for count in (0, 1, 333):
        codes = made.encode(vectors[:count])
        assert codes.shape == (count, made.code_bytes) and codes.dtype == np.uint8
        decoded = made.decode(codes)
        assert decoded.shape == (count, DIMENSION) and decoded.dtype == np.float32


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("opq")])
def test_a_code_depends_on_its_vector_alone(
    name: str, trained: Callable[[str], Codec], vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are written at once, and however they lie in memory."""
    made = trained(name)
    codes = made.encode(vectors)
    monkeypatch.setattr(codec, "_ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(made.encode(vectors[:200]), codes[:200])
    np.testing.assert_array_equal(made.encode(np.asfortranarray(vectors[::3])), codes[::3])
    np.testing.assert_array_equal(made.decode(codes[::3]), made.decode(codes)[::3])


@pytest.mark.parametrize("name", ["opq:6", "opq:5"])
def test_a_rotation_rounds_with_what_it_is_multiplied_beside(
    name: str, trained: Callable[[str], Codec], vectors: np.ndarray
) -> None:
    """Sums of a matrix product depend on its shape; a code may be that of a centre as near, which is seldom."""
    made = trained(name)
    alone, together = made.encode(vectors[::3]), made.encode(vectors)[::3]
    assert (alone != together).any(axis=1).mean() < 0.02
    lost = ((made.decode(alone) - vectors[::3]) ** 2).sum(axis=1)
    np.testing.assert_allclose(lost, ((made.decode(together) - vectors[::3]) ** 2).sum(axis=1), atol=1e-5)


def distances(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances of each part to all its centres: (N, parts, centres); `centres` is (parts, centres, length)."""
    parts, _, length = centres.shape
    padded = np.zeros((len(vectors), parts * length))
    padded[:, : vectors.shape[1]] = vectors
    split = padded.reshape(len(vectors), parts, 1, length)
    return ((split - centres[None].astype(np.float64)) ** 2).sum(axis=3)


@pytest.mark.parametrize("name", ["fastscan:6", "fastscan:5", "pq:6", "pq:7"])
def test_codes_of_a_product_quantiser_name_the_nearest_centres(
    name: str, trained: Callable[[str], Codec], vectors: np.ndarray
) -> None:
    """Zeros fill up a dimension that is no multiple of the parts; of two codes of 4 bits the first lies low."""
    made = trained(name)
    segment = made.segment(np.empty((0, made.code_bytes), dtype=np.uint8))  # which owns its quantiser
    quantiser = segment.pq
    centres = faiss.vector_to_array(quantiser.centroids).reshape(quantiser.M, quantiser.ksub, quantiser.dsub)
    assert quantiser.M * quantiser.dsub == -(-DIMENSION // quantiser.M) * quantiser.M
    expected = distances(vectors, centres)
    codes = made.encode(vectors)
    written = codes if quantiser.nbits == 8 else np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)
    chosen = np.take_along_axis(expected, written[:, :, None].astype(np.int64), axis=2)[:, :, 0]
    np.testing.assert_allclose(chosen, expected.min(axis=2), atol=1e-6)  # float32 decides between those nearly as near
    nearest = np.partition(expected, 1, axis=2)
    clear = nearest[:, :, 1] - nearest[:, :, 0] > 1e-6  # not among centres of zeros alone, which are all as near
    assert clear.mean() > 0.7 and (written == expected.argmin(axis=2))[clear].all()
    rebuilt = centres[np.arange(quantiser.M), written].reshape(len(codes), -1)
    np.testing.assert_array_equal(rebuilt[:, DIMENSION:], 0)
    np.testing.assert_allclose(made.decode(codes), rebuilt[:, :DIMENSION], atol=1e-6)


def rounding(segment: Any, queries: np.ndarray) -> float:
    """Half a step of the 8-bit tables of a fast scan, for each table and the sum; 0 where there are no such tables."""
    if not isinstance(segment, faiss.IndexPQFastScan | faiss.IndexIVFPQFastScan):
        return 0.0
    quantiser = segment.pq
    centres = faiss.vector_to_array(quantiser.centroids).reshape(quantiser.M, quantiser.ksub, quantiser.dsub)
    tables = np.einsum("qmd,mkd->qmk", queries.reshape(len(queries), quantiser.M, quantiser.dsub), centres)
    return 0.5 * (quantiser.M + 1) * float(np.ptp(tables, axis=2).max()) / 255


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 31, 500])
def test_a_segment_gives_the_products_with_decoded_vectors(
    name: str, rows: int, trained: Callable[[str], Codec], vectors: np.ndarray, queries: np.ndarray
) -> None:
    made = trained(name)
    codes = made.encode(vectors[100 : 100 + rows])
    segment = made.segment(codes)
    assert segment.ntotal == rows
    transformed = made.transformed(queries)
    options = {"params": faiss.SearchParametersIVF(nprobe=made.lists)} if made.lists else {}
    scores, found = segment.search(transformed, rows, **options)
    expected = queries.astype(np.float64) @ made.decode(codes).astype(np.float64).T
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(rows), (len(queries), 1)))
    tolerance = rounding(segment, transformed) + 5e-6
    np.testing.assert_allclose(scores, np.take_along_axis(expected, found, axis=1), atol=tolerance, rtol=0)
    assert tolerance < 0.1 and (np.diff(scores, axis=1) <= 0).all()


def test_segments_share_nothing(trained: Callable[[str], Codec], vectors: np.ndarray) -> None:
    made = trained("fastscan:6")
    codes = made.encode(vectors)
    first, second = made.segment(codes[:10]), made.segment(codes[10:30])
    assert (first.ntotal, second.ntotal, made.segment(codes[:0]).ntotal) == (10, 20, 0)


@pytest.mark.parametrize("name", ["fastscan:6", "pq:6", "opq:6", "ivf:6:4", "SQ8"])
def test_lists(name: str, trained: Callable[[str], Codec]) -> None:
    assert trained(name).lists == (4 if name.startswith("ivf") else 0)


# Files


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_loaded_byte_for_byte(
    name: str, trained: Callable[[str], Codec], vectors: np.ndarray, tmp_path: Path
) -> None:
    made = trained(name)
    made.save(tmp_path / "a")
    loaded = load_codec(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == made.content
    assert made.digest == loaded.digest == hashlib.sha256(made.content).hexdigest()
    assert (loaded.name, loaded.dimension, loaded.code_bytes, loaded.lists) == (
        name,
        DIMENSION,
        made.code_bytes,
        made.lists,
    )
    codes = made.encode(vectors)
    np.testing.assert_array_equal(loaded.encode(vectors), codes)
    np.testing.assert_array_equal(loaded.decode(codes), made.decode(codes))


def test_saving_replaces_what_was_there_and_leaves_nothing_else(
    trained: Callable[[str], Codec], tmp_path: Path
) -> None:
    path = tmp_path / "codec.safetensors"
    trained("SQ8").save(path)
    trained("pq:6").save(path)
    assert load_codec(path).name == "pq:6"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_leaves_what_was_there(
    trained: Callable[[str], Codec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "codec.safetensors"
    trained("SQ8").save(path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull, match=r"codec\.safetensors: cannot be written \(No space left on device\)"):
        trained("pq:6").save(path)
    assert load_codec(path).name == "SQ8"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(StorageFull):
        trained("SQ8").save(tmp_path / "nowhere" / "codec.safetensors")


def header(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "seven bytes": lambda content: content[:7],
    "half a header": lambda content: content[: header(content) // 2],
    "no tensor": lambda content: content[: header(content)],
    "one byte short": lambda content: content[:-1],
    "one byte long": lambda content: content + b"\0",
    "text": lambda content: b"not a codec at all, but a letter" * 40,
    "another tensor": lambda content: save({"weights": np.zeros(3, dtype=np.float32)}, {"codec": "SQ8"}),
    "no name": lambda content: save({"index": np.zeros(3, dtype=np.uint8)}),
    "no index": lambda content: save({"index": np.zeros(300, dtype=np.uint8)}, {"codec": "SQ8"}),
    "another kind of index": lambda content: content[: header(content)] + b"IxXX" + content[header(content) + 4 :],
    "a hole": lambda content: content[: header(content)] + bytes(len(content) - header(content)),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["fastscan:6", "opq:5", "ivf:6:4", "SQ8"])
def test_a_damaged_file_is_told(name: str, damage: str, trained: Callable[[str], Codec], tmp_path: Path) -> None:
    path = tmp_path / "codec.safetensors"
    path.write_bytes(DAMAGE[damage](trained(name).content))
    with pytest.raises(GalleryDamaged, match=r"codec\.safetensors: not a readable codec .* patchwise compress"):
        load_codec(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "codec.safetensors", tmp_path):
        with pytest.raises(GalleryDamaged, match="not a readable codec"):
            load_codec(path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_codec_may_be_read_by_whoever_may_read_the_gallery(trained: Callable[[str], Codec], tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    trained("SQ8").save(tmp_path / "codec")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "codec")]
    assert modes[0] == modes[1]
