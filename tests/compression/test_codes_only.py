"""Vectors are encoded once: the codes beside them become the gallery's own, where they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from patchwise import Gallery
from patchwise.codecs import Codec
from patchwise.store import Store
from patchwise.store import shards as shards_module

BLOCK = 25  # rows at least that a block or a shard of these galleries has


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many vectors each call encoded."""
    counts: list[int] = []
    encode = Codec.encode

    def counting(codec: Codec, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        counts.append(len(vectors))
        return encode(codec, vectors)

    monkeypatch.setattr(Codec, "encode", counting)
    return counts


def stages(gallery: Gallery, encoded: list[int]) -> dict[str, int]:
    """Vectors encoded in blocks while codes were written, and while vectors went."""
    began: dict[str, int] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what == "measuring" and done == total:
            began["vectors go"] = len(encoded)

    gallery.compress("fastscan:4", codes_only=True, progress=progress)
    first, rest = encoded[: began["vectors go"]], encoded[began["vectors go"] :]
    return {name: sum(count for count in part if count >= BLOCK) for name, part in (("before", first), ("after", rest))}


def test_codes_beside_vectors_are_taken_over(gallery: Gallery, encoded: list[int]) -> None:
    assert stages(gallery, encoded)["after"] == 0
    assert gallery.verify().problems == []


def test_damaged_ones_are_not(gallery: Gallery, encoded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    path = gallery.path / "compressed" / "0001" / "000001.codes"

    def damage() -> None:
        path.write_bytes(bytes([path.read_bytes()[0] ^ 255]) + path.read_bytes()[1:])

    convert = Store.keep_only_codes

    def damage_first(store: Store, *arguments: Any) -> None:
        damage()
        convert(store, *arguments)

    monkeypatch.setattr(Store, "keep_only_codes", damage_first)
    assert stages(gallery, encoded)["after"] == 30
    assert gallery.verify().problems == []


def test_they_are_the_codes_of_the_vectors(gallery: Gallery, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 2 * 48 * 12)
    gallery.remove(pictures / "02.png")  # its rows are dead, but may come back
    gallery.add(pictures)
    with Store(gallery.path) as store:
        snapshot = store.snapshot()
        vectors = snapshot.gather(np.arange(snapshot.rows)).astype(np.float32)
    gallery.compress("fastscan:4", codes_only=True)
    with Store(gallery.path) as store:
        codec, snapshot = store.kept_codec(), store.snapshot()
        assert codec is not None and store.verify().problems == []
        expected = codec.vectors(codec.encode(vectors)).astype("<f2")
        assert snapshot.gather(np.arange(snapshot.rows)).tobytes() == expected.tobytes()
