"""Changes, compression and damage in any order: exact search equals a fresh build, compressed search keeps its word."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.compression import DEFAULT_RECALL
from patchwise.errors import GalleryError, UsageError
from patchwise.search import CompressedSearcher, Margins, code_index, compressed
from patchwise.store import shards

NAMES = [f"{letter}.png" for letter in "abcdef"] + ["sub/a.png", "sub/b.png"]
SEEDS = range(8)
K = 3
CODECS = ["fastscan:24", "fastscan:8", "pq:16", "ivf:16:2", "SQ8"]
name_of, seed_of = st.sampled_from(NAMES), st.sampled_from(SEEDS)


class Compressed(RuleBasedStateMachine):
    """A folder and its compressed gallery; after each step it is asked for every picture that there ever was."""

    contents: ClassVar[dict[int, bytes]] = {}
    wanted: ClassVar[list[float]] = []  # of each compressed search of the whole run, the share of the true best k found

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="patchwise-compressed-"))
        self.root = self.base / "root"
        self.root.mkdir()
        self.clock, self.fresh = itertools.count(1_600_000_000), itertools.count()
        self.gallery = Gallery.create(self.base / "g", encoder=FakeEncoder(), regions="pyramid:1")
        self.expected: dict[int, list[tuple[Any, ...]]] = {seed: [] for seed in SEEDS}

    def teardown(self) -> None:
        self.gallery.close()
        shutil.rmtree(self.base)

    @classmethod
    def content(cls, seed: int) -> bytes:
        if seed not in cls.contents:
            buffer = io.BytesIO()
            make_picture(seed, (24 + seed, 20)).save(buffer, "PNG")
            cls.contents[seed] = buffer.getvalue()
        return cls.contents[seed]

    def there(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    def put(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        second = next(self.clock)
        os.utime(path, (second, second))

    @staticmethod
    def told(gallery: Gallery, seed: int, **how: Any) -> list[tuple[Any, ...]]:
        hits = gallery.search(Compressed.content(seed), **how)
        return [(hit.path, hit.score, hit.box, hit.level, hit.cell, hit.size, hit.regions) for hit in hits]

    @initialize(seeds=st.lists(seed_of, min_size=4, max_size=6, unique=True))
    def some_pictures(self, seeds: list[int]) -> None:
        for name, seed in zip(NAMES, seeds, strict=False):
            self.put(name, self.content(seed))
        self.index()
        self.gallery.compress("fastscan:24")

    @rule(name=name_of, seed=seed_of)
    def write(self, name: str, seed: int) -> None:
        """A new file, or another picture in its place."""
        self.put(name, self.content(seed))
        self.index()

    @rule(written=st.lists(st.tuples(name_of, seed_of), min_size=2, max_size=5))
    def write_many(self, written: list[tuple[str, int]]) -> None:
        for name, seed in written:
            self.put(name, self.content(seed))
        self.index()

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.there())).unlink()
        self.index()

    @precondition(lambda self: self.there())
    @rule(data=st.data(), name=name_of)
    def rename(self, data: st.DataObject, name: str) -> None:
        (self.root / name).parent.mkdir(exist_ok=True)
        data.draw(st.sampled_from(self.there())).replace(self.root / name)
        self.index()

    def index(self) -> None:
        try:
            self.gallery.add(self.root)
        except GalleryError as error:
            assert "holds no image any more" in str(error) and not self.there()
            self.gallery.remove(self.root)
        self.look_afresh()

    def look_afresh(self) -> None:
        folder = self.base / f"fresh{next(self.fresh)}"
        with Gallery.create(folder, encoder=FakeEncoder(), regions="pyramid:1") as fresh:
            fresh.add(self.root)
            self.expected = {seed: self.told(fresh, seed, k=50) for seed in SEEDS}

    @rule(name=st.sampled_from([*NAMES, "sub"]))
    def remove(self, name: str) -> None:
        gone = str(self.root / name)
        self.gallery.remove(gone)
        for seed, hits in self.expected.items():
            self.expected[seed] = [hit for hit in hits if hit[0] != gone and not hit[0].startswith(gone + "/")]

    @rule()
    def compact(self) -> None:
        self.gallery.compact()
        assert self.gallery.info().dead_regions == 0

    @rule(codec=st.sampled_from(CODECS))
    def compress(self, codec: str) -> None:
        try:
            self.gallery.compress(codec)
        except UsageError as error:
            assert "index some before" in str(error)

    @rule()
    def reopen(self) -> None:
        self.gallery.close()
        self.gallery = Gallery.open(self.base / "g", encoder=FakeEncoder())

    @rule()
    def lose_all_codes(self) -> None:
        shutil.rmtree(self.base / "g" / "compressed", ignore_errors=True)
        self.reopen()

    @rule(data=st.data(), pattern=st.sampled_from(["*/*.codes", "*/codec.safetensors", "*/index.json", "current.json"]))
    def flip_a_byte(self, data: st.DataObject, pattern: str) -> None:
        files = [path for path in sorted((self.base / "g" / "compressed").glob(pattern)) if path.stat().st_size]
        if files:
            path = data.draw(st.sampled_from(files))
            content = bytearray(path.read_bytes())
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
            path.write_bytes(content)
            self.reopen()

    @invariant()
    def exact_search_equals_a_fresh_build(self) -> None:
        for seed in SEEDS:
            assert self.told(self.gallery, seed, k=50, exact=True) == self.expected[seed]

    @invariant()
    def compressed_search_is_right_in_what_it_finds(self) -> None:
        for seed, expected in self.expected.items():
            found = self.told(self.gallery, seed, k=K)
            assert all(hit in expected for hit in found)
            assert len(found) == min(K, len(expected))
            assert [(-hit[1], hit[0]) for hit in found] == sorted((-hit[1], hit[0]) for hit in found)
            if isinstance(self.gallery.current()[1], CompressedSearcher) and expected:
                best = expected[:K]
                self.wanted.append(sum(hit[1] >= best[-1][1] for hit in found) / len(best))


class CodesOnly(RuleBasedStateMachine):
    """Vectors are gone: what their codes say is searched, by codes or exactly, whatever comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="patchwise-codes-only-"))
        self.root = self.base / "root"
        self.root.mkdir()
        self.clock = itertools.count(1_600_000_000)
        self.gallery = Gallery.create(self.base / "g", encoder=FakeEncoder(), regions="pyramid:1")

    teardown = Compressed.teardown
    there, put = Compressed.there, Compressed.put
    told, content = staticmethod(Compressed.told), Compressed.content

    @initialize(seeds=st.lists(seed_of, min_size=4, max_size=6, unique=True), codec=st.sampled_from(CODECS))
    def some_pictures(self, seeds: list[int], codec: str) -> None:
        for name, seed in zip(NAMES, seeds, strict=False):
            self.put(name, self.content(seed))
        self.index()
        self.gallery.compress(codec, codes_only=True)

    @rule(name=name_of, seed=seed_of)
    def write(self, name: str, seed: int) -> None:
        self.put(name, self.content(seed))
        self.index()

    @precondition(lambda self: len(self.there()) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.there())).unlink()
        self.index()

    def index(self) -> None:
        self.gallery.add(self.root)

    @rule()
    def compact(self) -> None:
        self.gallery.compact()

    @rule()
    def reopen(self) -> None:
        self.gallery.close()
        self.gallery = Gallery.open(self.base / "g", encoder=FakeEncoder())

    @rule()
    def lose_what_is_derived(self) -> None:
        shutil.rmtree(self.base / "g" / "compressed", ignore_errors=True)
        self.reopen()

    @invariant()
    def what_is_there_is_found_and_nothing_else(self) -> None:
        files = {str(path) for path in self.there()}
        for seed in SEEDS:
            exact = self.told(self.gallery, seed, k=50, exact=True)
            assert {hit[0] for hit in exact} == files
            found = self.told(self.gallery, seed, k=K)
            assert all(hit in exact for hit in found) and len(found) == min(K, len(files))

    @invariant()
    def every_byte_is_as_it_was_written(self) -> None:
        assert self.gallery.verify().problems == []


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small shards and segments, and codes are scanned even where so few regions could be scored one by one."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 48 * 12)  # full after two pictures
    monkeypatch.setattr(code_index, "_SEGMENT_ROWS", 7)
    monkeypatch.setattr(compressed, "_SCANNED_PER_SCORED", 10**9)
    monkeypatch.setattr(compressed, "_LEAST_REGIONS", 1)
    monkeypatch.setattr(Margins, "expected_regions", lambda self, *asked: 2)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def run(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    how = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(machine, settings=how)


Scan = Callable[..., Any]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("examples", [pytest.param(4, id="few"), pytest.param(10, id="many", marks=pytest.mark.slow)])
def test_any_order_of_changes_compression_and_damage(examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    scan: Scan = code_index.CodeIndex.scan
    monkeypatch.setattr(
        code_index.CodeIndex, "scan", lambda self, *asked: scans.append(len(asked[0])) or scan(self, *asked)
    )
    Compressed.wanted.clear()
    run(Compressed, examples, 12)
    assert scans and len(Compressed.wanted) > 10 * examples  # codes were searched indeed
    # Margins of a handful of pictures are those of a handful of answers; tests of calibration ask for more.
    assert sum(Compressed.wanted) / len(Compressed.wanted) >= DEFAULT_RECALL - 0.04


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("examples", [pytest.param(4, id="few"), pytest.param(10, id="many", marks=pytest.mark.slow)])
def test_any_order_of_changes_where_only_codes_are_kept(examples: int) -> None:
    run(CodesOnly, examples, 12)
