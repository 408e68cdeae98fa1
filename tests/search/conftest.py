"""A gallery full of ties, and what its files say without any of the code under test."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.store import Snapshot, Store

LEVELS = 4
ROW = np.dtype([("box", "<f4", (4,)), ("level", "<i2"), ("row", "<i2"), ("column", "<i2")])
SIZES = [(96, 64), (64, 96), (200, 20), (1, 1), (3, 2), (33, 47), (96, 64), (2, 300), (50, 50), (17, 90)]


@dataclass
class Stored:
    """One file's regions as they lie on disk, in order."""

    size: tuple[int, int]
    vectors: np.ndarray
    regions: np.ndarray

    def scores(self, query: np.ndarray) -> list[float]:
        return [math.fsum(products) for products in self.vectors * query.astype(np.float64)]


def stored_files(gallery: Path) -> dict[str, Stored]:
    found = {}
    columns = "path, width, height, shard, first, content.rows"
    with sqlite3.connect(gallery / "catalogue.sqlite") as database:
        rows = database.execute(f"SELECT {columns} FROM file JOIN content ON content.id = file.content").fetchall()
    database.close()
    for path, width, height, shard, first, count in rows:
        vectors = np.fromfile(gallery / "vectors" / f"{shard:06d}.f16", dtype="<f2").reshape(-1, FakeEncoder.dimension)
        regions = np.fromfile(gallery / "vectors" / f"{shard:06d}.regions", dtype=ROW)
        chosen = slice(first, first + count)
        found[os.fsdecode(path)] = Stored((width, height), vectors[chosen].astype(np.float64), regions[chosen])
    return found


def ranked(stored: dict[str, Stored], query: np.ndarray) -> list[tuple[float, str, int]]:
    """(score, path, best region) of every file, best first."""
    best = []
    for path, file in stored.items():
        scores = file.scores(query)
        best.append((max(scores), path, scores.index(max(scores))))
    return sorted(best, key=lambda entry: (-round(entry[0], 12), entry[1]))


@pytest.fixture(scope="session")
def gallery_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of all shapes, one of them removed again; two copies, three plain ones, one whose regions tie."""
    folder = tmp_path_factory.mktemp("search")
    pictures = folder / "pictures"
    pictures.mkdir()
    for seed, size in enumerate(SIZES):
        make_picture(seed, size).save(pictures / f"{seed:02d}.png")
    for name in ("copy of 05.png", "00 copy of 05.png"):
        shutil.copy(pictures / "05.png", pictures / name)
    for name, grey in (("plain c.png", 10), ("plain a.png", 20), ("plain b.png", 30)):
        Image.new("RGB", (40, 30), (grey, grey, grey)).save(pictures / name)
    halves = Image.new("RGB", (48, 48), (200, 30, 30))
    halves.paste((30, 30, 200), (24, 0, 48, 48))
    halves.save(pictures / "halves.png")
    with Gallery.create(folder / "gallery.pw", encoder=FakeEncoder(), regions=f"pyramid:{LEVELS - 1}") as gallery:
        gallery.add(pictures)
        (pictures / "06.png").unlink()
        gallery.add(pictures)
    return folder / "gallery.pw"


@pytest.fixture(scope="session")
def gallery(gallery_folder: Path) -> Gallery:
    return Gallery.open(gallery_folder, encoder=FakeEncoder())


@pytest.fixture(scope="session")
def snapshot(gallery_folder: Path) -> Snapshot:
    return Store(gallery_folder).snapshot()


@pytest.fixture(scope="session")
def stored(gallery_folder: Path) -> dict[str, Stored]:
    return stored_files(gallery_folder)


@pytest.fixture(scope="session")
def queries(stored: dict[str, Stored]) -> np.ndarray:
    """Stored vectors, which tie with themselves, and random ones: (Q, dimension) float32 of unit length."""
    own = [file.vectors[len(file.vectors) // 2] for _, file in sorted(stored.items())]
    random = np.random.default_rng(0).normal(size=(20, FakeEncoder.dimension))
    vectors = np.concatenate([own, random])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
