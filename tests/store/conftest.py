"""Shared by the store's tests: a store of small random vectors, and pictures to put in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from patchwise.codecs import Codec, train_codec
from patchwise.regions import Pyramid, View
from patchwise.store import Encoded, Manifest, Store

DIMENSION = 16
MANIFEST = Manifest(
    encoder={
        "id": "fake",
        "weights_sha256": "0" * 64,
        "dimension": DIMENSION,
        "input_size": 8,
        "resampling": "bilinear",
    },
    regions="pyramid:1",
    whitening="shipped",
    created="2026-01-01T00:00:00+00:00",
    patchwise="0.1.0",
)


def make_encoded(path: str, seed: int, level: int = 1) -> Encoded:
    """A picture of random unit vectors: the same seed is the same content."""
    regions = Pyramid(level).regions(View((40, 30)))
    vectors = np.random.default_rng(seed).normal(size=(len(regions), DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Encoded(path, 1_000 + seed, 10, hashlib.blake2b(bytes([seed])).digest()[:16], (40, 30), regions, vectors)


@pytest.fixture
def manifest() -> Manifest:
    return MANIFEST


@pytest.fixture
def encoded() -> Callable[..., Encoded]:
    return make_encoded


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in `tmp_path / "g"`."""
    with Store.create(tmp_path / "g", MANIFEST) as made:
        yield made


@pytest.fixture
def filled(store: Store) -> Store:
    """Pictures /p/0 to /p/5, added two at a time."""
    with store.writer() as writer:
        for seed in range(0, 6, 2):
            writer.add([make_encoded(f"/p/{seed}", seed), make_encoded(f"/p/{seed + 1}", seed + 1)])
    return store


@pytest.fixture
def contents() -> Callable[[Store], dict[str, tuple[bytes, bytes]]]:
    """What a store holds: path to (vectors, regions) as bytes, through a fresh snapshot."""

    def read(store: Store) -> dict[str, tuple[bytes, bytes]]:
        snapshot = store.snapshot()
        return {
            path: (snapshot.vectors(index).tobytes(), snapshot.regions(index).table.tobytes())
            for path, index in snapshot.paths(range(len(snapshot)))
        }

    return read


@pytest.fixture(scope="session")
def codec() -> Codec:
    """8 bits per number: what is decoded differs from what was stored, but little."""
    return train_codec("SQ8", np.concatenate([make_encoded("", seed, 3).vectors for seed in range(8)]))


@pytest.fixture(scope="session")
def coarse_codec() -> Codec:
    """4 bytes for 16 numbers: another codec, which loses a lot."""
    return train_codec("fastscan:4", np.concatenate([make_encoded("", seed, 3).vectors for seed in range(8)]))
