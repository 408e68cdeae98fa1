"""Galleries of given vectors, and codes of them: what the tests of compressed search have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from patchwise.codecs import Codec, train_codec
from patchwise.regions import Regions
from patchwise.regions.base import REGION_DTYPE
from patchwise.search import Candidates, CodeIndex, Margins
from patchwise.store import Codes, Encoded, Manifest, Snapshot, Store

WIDE = Margins(margins=((0.5, 9.0), (0.999, 9.0)), regions=((1, 4),))
"""Margins that leave nothing out: cosines differ by 2 at most."""


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random_pictures(counts: Sequence[int], dimension: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Pictures of independent random unit vectors."""
    generator = np.random.default_rng(seed)
    return [unit(generator.normal(size=(count, dimension))) for count in counts]


def clustered_pictures(
    counts: Sequence[int], dimension: int = 32, seed: int = 0, themes: int = 12, spread: float = 0.5
) -> list[np.ndarray]:
    """Pictures of regions around a few themes, of which each picture shows some: many scores lie close together."""
    generator = np.random.default_rng(seed)
    centres = unit(generator.normal(size=(themes, dimension)))
    made = []
    for count in counts:
        shown = generator.choice(themes, min(3, themes), replace=False)
        noise = generator.normal(size=(count, dimension)) / np.sqrt(dimension)
        made.append(unit(centres[generator.choice(shown, count)] + spread * noise))
    return made


def encoded_picture(name: str, vectors: np.ndarray) -> Encoded:
    table = np.zeros(len(vectors), dtype=REGION_DTYPE)
    table["box"] = (0, 0, 40, 30)
    digest = hashlib.blake2b(name.encode()).digest()[:16]
    return Encoded(f"/p/{name}", 1, 1, digest, (40, 30), Regions(table), vectors)


def make_store(folder: Path, pictures: Sequence[np.ndarray]) -> Store:
    """A gallery of these pictures, /p/0 and so on, in this order."""
    manifest = Manifest(
        encoder={
            "id": "fake",
            "weights_sha256": "0" * 64,
            "dimension": pictures[0].shape[1],
            "input_size": 8,
            "resampling": "bilinear",
        },
        regions="pyramid:1",
        whitening="shipped",
        created="2026-01-01T00:00:00+00:00",
        patchwise="0.1.0",
    )
    store = Store.create(folder, manifest)
    with store.writer() as writer:
        writer.add([encoded_picture(str(number), vectors) for number, vectors in enumerate(pictures)])
    return store


def opened_codes(store: Store) -> Codes:
    """The codes beside the vectors of a gallery, which has some."""
    codes = Codes.open(store.folder, store.manifest.dimension)
    assert codes is not None
    return codes


def live_vectors(snapshot: Snapshot) -> np.ndarray:
    return np.concatenate([snapshot.vectors(index).astype(np.float32) for index in range(len(snapshot))])


def index_of(
    snapshot: Snapshot, codec: Codec | str = "fastscan:8", coded: float = 1.0, before: CodeIndex | None = None
) -> CodeIndex:
    """The codes of a snapshot, of which a share was written before."""
    if isinstance(codec, str):
        codec = train_codec(codec, live_vectors(snapshot)[:4096])

    def codes(shard: int) -> np.ndarray:
        known = int(snapshot.shards[shard] * coded)
        return codec.encode(snapshot.shard_vectors(shard, 0, known).astype(np.float32))

    return CodeIndex(snapshot, codec, codes, before)


def true_scores(snapshot: Snapshot, queries: np.ndarray) -> np.ndarray:
    """Each picture's best cosine in double precision, one by one: (Q, pictures)."""
    doubles = queries.astype(np.float64)
    return np.stack(
        [(snapshot.vectors(index).astype(np.float64) @ doubles.T).max(axis=0) for index in range(len(snapshot))], axis=1
    ).reshape(len(queries), len(snapshot))


def assert_exact(found: Candidates, truth: np.ndarray, k: int, allowed: np.ndarray | None = None) -> None:
    """Candidates are the best k of (pictures,) true scores, with what ties, and hold no higher ones."""
    among = np.arange(len(truth)) if allowed is None else np.flatnonzero(allowed)
    assert len(np.unique(found.pictures)) == len(found.pictures)
    assert set(found.pictures.tolist()) <= set(among.tolist())
    if not len(among):
        return
    assert (found.scores <= truth[found.pictures] + 2e-6).all()
    limit = np.sort(truth[among])[::-1][min(k, len(among)) - 1]
    assert {p for p in among.tolist() if truth[p] >= limit} <= set(found.pictures.tolist())
    assert (truth[found.pictures] >= limit - 3e-5).all()
