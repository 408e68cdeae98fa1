"""Codes instead of vectors: what is decoded counts from then on, nothing is lost on the way, and all else goes on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchwise.codecs import Codec
from patchwise.errors import GalleryDamaged, GalleryMismatch, StorageFull
from patchwise.regions.base import REGION_DTYPE
from patchwise.search import ExactSearcher, rank
from patchwise.store import Encoded, Store, gallery_info
from patchwise.store import conversion as module
from patchwise.store import shards as shards_module
from patchwise.store.catalogue import Catalogue
from patchwise.store.codec_files import CodecFiles
from patchwise.store.shards import VECTORS, Shards
from store.conftest import DIMENSION, MANIFEST, make_encoded
from store.test_writer import Interruption, Killed

Contents = Callable[[Store], dict[str, tuple[bytes, bytes]]]
ROWS = 5  # of each picture


def decoded(codec: Codec, seed: int, level: int = 1) -> bytes:
    """What is read of a picture that is kept as codes."""
    vectors = make_encoded("", seed, level).vectors.astype("<f2").astype(np.float32)
    return codec.vectors(codec.encode(vectors)).astype("<f2").tobytes()


def names(store: Store) -> list[str]:
    return sorted(path.name for path in (store.folder / VECTORS).iterdir())


def codec_name(codec: Codec) -> str:
    return f"codec-{codec.digest[:16]}.safetensors"


@pytest.fixture
def shelves(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Pictures /p/0 to /p/5, two to a shard; /p/2 is dead."""
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 2 * ROWS * 2 * DIMENSION)
    with store.writer() as writer:
        writer.add([make_encoded(f"/p/{seed}", seed) for seed in range(6)])
        writer.record(forgotten=["/p/2"])
    return store


# What it does


def test_vectors_become_codes_and_regions_stay(filled: Store, codec: Codec, contents: Contents) -> None:
    before = contents(filled)
    sizes = gallery_info(filled)
    assert filled.kept_codec() is None
    filled.keep_only_codes(codec)
    assert names(filled) == ["000001.codes", "000001.regions", codec_name(codec)]
    vectors = np.concatenate([make_encoded("", seed).vectors for seed in range(6)]).astype("<f2").astype(np.float32)
    assert filled.shards.path(1, ".codes").read_bytes() == codec.encode(vectors).tobytes()
    expected = {path: (decoded(codec, int(path[-1])), table) for path, (_, table) in before.items()}
    assert contents(filled) == expected != before
    assert filled.catalogue.codecs() == {1: codec.digest}
    with Store(filled.folder) as opened:
        assert contents(opened) == expected
        assert opened.verify().problems == []
        kept = opened.kept_codec()
        assert kept is not None and (kept.name, kept.digest) == (codec.name, codec.digest)
    after = gallery_info(filled)
    assert (sizes.fp16_bytes, sizes.code_bytes, sizes.codec_bytes) == (6 * ROWS * 2 * DIMENSION, 0, 0)
    assert (after.fp16_bytes, after.code_bytes) == (0, 6 * ROWS * codec.code_bytes)
    assert after.codec_bytes == len(codec.content)
    assert after.region_bytes == sizes.region_bytes == 6 * ROWS * REGION_DTYPE.itemsize
    assert after.vector_bytes == after.code_bytes + after.codec_bytes + after.region_bytes
    assert after.catalogue_bytes >= (filled.folder / "catalogue.sqlite").stat().st_size > 0


def test_a_search_finds_what_the_decoded_vectors_say(filled: Store, codec: Codec) -> None:
    filled.keep_only_codes(codec)
    snapshot = filled.snapshot()
    query = make_encoded("", 3).vectors[2]
    (hits,) = rank(snapshot, ExactSearcher(snapshot), query[None], k=6)
    of_codes = np.frombuffer(decoded(codec, 3), "<f2").reshape(ROWS, DIMENSION).astype(np.float64) @ query
    assert hits[0].path == "/p/3"
    assert hits[0].score == pytest.approx(float(of_codes.max()), abs=1e-7)
    assert hits[0].regions[0].box == tuple(make_encoded("", 3).regions.boxes[of_codes.argmax()])


def test_doing_it_again_changes_nothing(filled: Store, codec: Codec) -> None:
    filled.keep_only_codes(codec)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (filled.folder / VECTORS).iterdir()}
    filled.keep_only_codes(codec)
    assert before == {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (filled.folder / VECTORS).iterdir()
    }


def test_dead_pictures_become_codes_too_and_may_come_back(shelves: Store, codec: Codec, contents: Contents) -> None:
    shelves.keep_only_codes(codec)
    assert shelves.verify().problems == []
    with shelves.writer() as writer:
        writer.add([make_encoded("/back", 2)])
    assert contents(shelves)["/back"][0] == decoded(codec, 2)
    assert shelves.catalogue.counts()["dead_regions"] == 0


@pytest.mark.parametrize("block_rows", [1, 7, 10_000])
def test_it_goes_block_by_block_and_says_how_far_it_is(
    shelves: Store, codec: Codec, contents: Contents, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    monkeypatch.setattr(module, "_BLOCK_ROWS", block_rows)
    seen: list[tuple[int, int]] = []
    shelves.keep_only_codes(codec, lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (6 * ROWS, 6 * ROWS) and {total for _, total in seen} == {6 * ROWS}
    assert {path: held[0] for path, held in contents(shelves).items()} == {
        f"/p/{seed}": decoded(codec, seed) for seed in (0, 1, 3, 4, 5)
    }


def test_rows_that_belong_to_nobody_are_left_out(shelves: Store, codec: Codec, contents: Contents) -> None:
    """What repair leaves: rows in the middle and at the end of a shard which no picture claims, of any content."""
    with shelves.shards.path(1).open("r+b") as file:
        file.write(b"\xff" * 2 * DIMENSION)  # NaN in a row of /p/0
    assert shelves.verify(repair=True).affected_files == ["/p/0"]
    shelves.keep_only_codes(codec)
    codes = np.frombuffer(shelves.shards.path(1, ".codes").read_bytes(), np.uint8).reshape(-1, codec.code_bytes)
    assert len(codes) == 2 * ROWS and not codes[:ROWS].any() and codes[ROWS:].any()
    assert contents(shelves)["/p/1"][0] == decoded(codec, 1)
    assert shelves.verify().problems == []


def test_a_gallery_that_holds_nothing_stays_as_it_is(store: Store, codec: Codec) -> None:
    store.keep_only_codes(codec)
    assert names(store) == []
    with store.writer() as writer:
        writer.add([make_encoded("/a", 1)])
    assert names(store) == ["000001.f16", "000001.regions"]


def test_readers_at_work_keep_the_vectors(filled: Store, codec: Codec) -> None:
    snapshot = filled.snapshot()
    before = [snapshot.vectors(index).tobytes() for index in range(6)]
    filled.keep_only_codes(codec)
    assert [snapshot.vectors(index).tobytes() for index in range(6)] == before
    assert snapshot.codec_digest(1) is None
    assert filled.snapshot().version != snapshot.version


def test_a_conversion_while_a_snapshot_is_taken_is_no_damage(
    filled: Store, codec: Codec, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, calls = filled.shards.check, 0

    def late(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            with Store(filled.folder) as other:
                other.keep_only_codes(codec)
        really(*arguments)

    monkeypatch.setattr(filled.shards, "check", late)
    assert {path: held[0] for path, held in contents(filled).items()} == {
        f"/p/{seed}": decoded(codec, seed) for seed in range(6)
    }
    assert calls == 2


def test_a_conversion_while_a_gallery_is_verified_is_no_damage(shelves: Store, codec: Codec) -> None:
    def convert_elsewhere(done: int, total: int) -> None:
        if done == 1:
            with Store(shelves.folder) as other:
                other.keep_only_codes(codec)

    assert shelves.verify(progress=convert_elsewhere).problems == []


# What is refused


def test_codes_do_not_become_codes_of_another_codec(
    shelves: Store, codec: Codec, coarse_codec: Codec, contents: Contents
) -> None:
    shelves.keep_only_codes(codec)
    held, files = contents(shelves), names(shelves)
    with pytest.raises(GalleryMismatch, match=rf"only codes of SQ8 \({codec_name(codec)}\)") as raised:
        shelves.keep_only_codes(coarse_codec)
    assert "fastscan:4" in str(raised.value) and "into a new gallery" in str(raised.value)
    assert (contents(shelves), names(shelves)) == (held, files)


def test_a_codec_for_other_vectors_is_refused(filled: Store, codec: Codec) -> None:
    from patchwise.codecs import train_codec

    other = train_codec("SQ8", np.eye(DIMENSION + 1, dtype=np.float32))
    files = names(filled)
    with pytest.raises(GalleryMismatch, match="vectors are 16-d, but the codec SQ8 is for 17-d"):
        filled.keep_only_codes(other)
    assert names(filled) == files


@pytest.mark.parametrize("suffix", [".f16", ".regions"])
def test_altered_vectors_are_not_given_a_checksum_that_hides_it(
    shelves: Store, codec: Codec, contents: Contents, suffix: str
) -> None:
    with shelves.shards.path(2, suffix).open("r+b") as file:
        file.write(b"\x01")
    with pytest.raises(GalleryDamaged, match=r"000002\.f16: .*not as they were written.*verify --repair"):
        shelves.keep_only_codes(codec)
    assert shelves.catalogue.codecs() == {1: codec.digest}  # the sound ones before it are done
    assert "000002.codes" not in names(shelves) and "000002.f16" in names(shelves)
    lost = shelves.verify(repair=True)
    assert lost.affected_files == []  # /p/2, which is dead
    shelves.keep_only_codes(codec)
    assert shelves.catalogue.codecs() == dict.fromkeys((1, 2, 3), codec.digest)
    assert shelves.verify().problems == []


# Killed, and on a full disk

STEPS: list[tuple[type, str]] = [
    (Shards, "stored"),
    (Shards, "remove"),
    (CodecFiles, "keep"),
    (CodecFiles, "load"),
    (CodecFiles, "remove_except"),
    (Catalogue, "put_shard"),
    (Catalogue, "put_checksums"),
]


def test_killed_at_any_step_nothing_is_lost_and_the_next_call_goes_on(
    shelves: Store, codec: Codec, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = {path: held[0] for path, held in contents(shelves).items()}
    codes = {path: decoded(codec, int(path[-1])) for path in vectors}
    monkeypatch.setattr("store.test_writer.STEPS", [*STEPS, (os, "fsync")])
    interruption = Interruption(monkeypatch, Killed())
    stages = set()
    for _ in interruption.at_every_step():
        try:
            with Store(shelves.folder) as fresh:
                fresh.keep_only_codes(codec)
        except Killed:
            armed, interruption.at = interruption.at, -1
            moment = interruption.fired[-1]
            with Store(shelves.folder) as opened:
                assert opened.verify().problems == [], moment
                held = {path: pair[0] for path, pair in contents(opened).items()}
                done = opened.catalogue.codecs()
                stages.add(len(done))
            shard_of = {f"/p/{seed}": 1 + seed // 2 for seed in range(6)}
            assert held == {path: (codes if shard_of[path] in done else vectors)[path] for path in vectors}, moment
            interruption.at = armed
    assert stages == {0, 1, 2, 3} and len(interruption.fired) > 20
    assert {path: held[0] for path, held in contents(shelves).items()} == codes
    assert names(shelves) == sorted(
        [codec_name(codec), *(f"00000{shard}.{kind}" for shard in (1, 2, 3) for kind in ("codes", "regions"))]
    )


def test_what_a_kill_left_is_removed_by_the_next_call(shelves: Store, codec: Codec, coarse_codec: Codec) -> None:
    shelves.shards.codecs.keep(coarse_codec)  # of an attempt that did not come to its first shard
    shelves.shards.path(1, ".codes").write_bytes(b"half written")
    shelves.keep_only_codes(codec)
    shelves.shards.path(3).write_bytes(b"committed as codes, but not deleted yet")
    assert codec_name(coarse_codec) not in names(shelves)
    shelves.keep_only_codes(codec)
    assert not any(name.endswith(".f16") for name in names(shelves))
    assert shelves.verify().problems == []


def test_compaction_removes_it_too(shelves: Store, codec: Codec, coarse_codec: Codec) -> None:
    shelves.shards.codecs.keep(coarse_codec)
    shelves.shards.path(1, ".codes").write_bytes(b"half written")
    with shelves.writer() as writer:
        writer.compact()
    assert names(shelves) == sorted(f"00000{shard}.{kind}" for shard in (1, 3, 4) for kind in ("f16", "regions"))


@pytest.mark.parametrize("refused", range(1, 8))
def test_a_full_disk_loses_nothing(
    shelves: Store, codec: Codec, contents: Contents, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    really, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == refused:
            raise OSError(28, "No space left on device")
        really(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull, match="No space left on device"):
            shelves.keep_only_codes(codec)
    done = shelves.catalogue.codecs()
    assert set(contents(shelves)) == {f"/p/{seed}" for seed in (0, 1, 3, 4, 5)}
    assert shelves.verify().problems == []
    # Nor is the space kept that the attempt took.
    assert {int(path.stem) for path in shelves.shards.folder.glob("*.codes")} == set(done)
    shelves.keep_only_codes(codec)
    assert {path: held[0] for path, held in contents(shelves).items()} == {
        f"/p/{seed}": decoded(codec, seed) for seed in (0, 1, 3, 4, 5)
    }


def test_a_shard_that_cannot_be_deleted_yet_goes_later(
    shelves: Store, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows a mapped file cannot be deleted."""
    really = Path.unlink

    def in_use(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".f16":
            raise PermissionError(13, "in use")
        really(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", in_use)
        shelves.keep_only_codes(codec)
    assert "000001.f16" in names(shelves)
    assert shelves.verify().problems == []
    shelves.keep_only_codes(codec)
    assert not any(name.endswith(".f16") for name in names(shelves))


KILLED = """
import sys, time
from pathlib import Path
from patchwise.codecs import load_codec
from patchwise.store import Store
from patchwise.store import conversion, shards
conversion._BLOCK_ROWS = 5
shards.SHARD_BYTES = 2 * 5 * 2 * 16
codec = load_codec(Path(sys.argv[2]))
codec.encode(codec.decode(codec.encode(__import__("numpy").zeros((1, 16), "f4"))))
print("ready", flush=True)
with Store(Path(sys.argv[1])) as store:
    store.keep_only_codes(codec, lambda done, total: time.sleep(0.01))  # some disks are too fast to be interrupted
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signal on Windows")
def test_a_killed_process_loses_nothing_and_the_next_goes_on(
    store: Store, codec: Codec, contents: Contents, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 2 * ROWS * 2 * DIMENSION)
    pictures = 60
    with store.writer() as writer:
        writer.add([make_encoded(f"/p/{seed}", seed) for seed in range(pictures)])
    vectors = {path: held[0] for path, held in contents(store).items()}
    codes = {f"/p/{seed}": decoded(codec, seed) for seed in range(pictures)}
    shard_of = {f"/p/{seed}": 1 + seed // 2 for seed in range(pictures)}
    codec.save(tmp_path / "codec")
    generator = random.Random(1)
    stages = [0]
    for _ in range(60):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(store.folder), str(tmp_path / "codec")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(generator.uniform(0, 0.3))
        process.kill()
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), errors
        with Store(store.folder) as opened:
            done = opened.catalogue.codecs()
            assert opened.verify().problems == []
            held = {path: pair[0] for path, pair in contents(opened).items()}
        assert held == {path: (codes if shard_of[path] in done else vectors)[path] for path in vectors}
        assert len(done) >= stages[-1]
        stages.append(len(done))
        if process.returncode == 0:
            break
    assert stages[-1] == pictures // 2
    assert len(set(stages)) > 3  # it really was killed half-way
    assert not list(store.shards.folder.glob("*.f16"))


# Life goes on


def test_what_is_added_later_is_kept_as_codes(shelves: Store, codec: Codec, contents: Contents) -> None:
    shelves.keep_only_codes(codec)
    with shelves.writer() as writer:
        writer.add([make_encoded(f"/n/{seed}", seed) for seed in range(7, 10)])
        writer.add([make_encoded("/n/10", 10)])
        writer.add([])
        writer.add([make_encoded("/n/copy of 0", 0)])
    assert shelves.catalogue.codecs() == dict.fromkeys(range(1, 6), codec.digest)
    assert not any(name.endswith(".f16") for name in names(shelves))
    held = contents(shelves)
    assert {path: pair[0] for path, pair in held.items()} == {
        **{f"/p/{seed}": decoded(codec, seed) for seed in (0, 1, 3, 4, 5)},
        **{f"/n/{seed}": decoded(codec, seed) for seed in (7, 8, 9, 10)},
        "/n/copy of 0": decoded(codec, 0),
    }
    assert shelves.verify().problems == []


def test_compaction_moves_codes_as_they_are(shelves: Store, codec: Codec, contents: Contents) -> None:
    shelves.keep_only_codes(codec)
    with shelves.writer() as writer:
        writer.record(forgotten=["/p/5"])
    before = contents(shelves)
    with shelves.writer() as writer:
        assert writer.compact() == 2 * ROWS
    assert shelves.catalogue.shards() == {1: 10, 4: 10}
    assert shelves.catalogue.codecs() == dict.fromkeys((1, 4), codec.digest)
    assert contents(shelves) == before
    assert shelves.verify().problems == []
    assert names(shelves) == sorted(
        [codec_name(codec), "000001.codes", "000001.regions", "000004.codes", "000004.regions"]
    )


def test_an_emptied_gallery_starts_anew(filled: Store, codec: Codec, coarse_codec: Codec, contents: Contents) -> None:
    filled.keep_only_codes(codec)
    with filled.writer() as writer:
        writer.record(forgotten=list(filled.catalogue.known()))
        writer.compact()
    assert names(filled) == [] and filled.kept_codec() is None
    with filled.writer() as writer:
        writer.add([make_encoded("/a", 1)])
    assert contents(filled)["/a"][0] == make_encoded("", 1).vectors.astype("<f2").tobytes()
    filled.keep_only_codes(coarse_codec)
    assert contents(filled)["/a"][0] == decoded(coarse_codec, 1)


class Stopped(Exception):
    """Raised in the middle of a conversion."""


@pytest.mark.parametrize("shards_done", [0, 1, 2])
def test_vectors_and_codes_live_side_by_side(
    shelves: Store, codec: Codec, contents: Contents, shards_done: int
) -> None:
    """A gallery left half-way is read, added to, checked and compacted like any other."""

    def stop(done: int, total: int) -> None:
        if done > shards_done * 2 * ROWS:
            raise Stopped

    with pytest.raises(Stopped):
        shelves.keep_only_codes(codec, stop)
    assert len(shelves.catalogue.codecs()) == shards_done
    with shelves.writer() as writer:
        writer.record(forgotten=["/p/1", "/p/4"])  # now every shard has a dead picture
        writer.add([make_encoded("/n/8", 8)])
    assert shelves.verify().problems == []
    before = contents(shelves)
    halves = {path: make_encoded("", int(path[-1])).vectors.astype("<f2").tobytes() for path in before}
    assert sum(held[0] != halves[path] for path, held in before.items()) == shards_done
    with shelves.writer() as writer:
        assert writer.compact() == 3 * ROWS
    assert contents(shelves) == before
    assert shelves.verify().problems == []
    shelves.keep_only_codes(codec)
    assert {path: held[0] for path, held in contents(shelves).items()} == {
        path: decoded(codec, int(path[-1])) for path in before
    }
    assert shelves.verify().problems == []


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 12), min_size=1, max_size=4)),
        st.tuples(st.just("forget"), st.lists(st.integers(0, 12), min_size=1, max_size=4)),
        st.tuples(st.just("compact"), st.none()),
        st.tuples(st.just("convert"), st.integers(0, 40)),
    ),
    max_size=10,
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_any_order_gives_what_a_fresh_build_gives(
    tmp_path_factory: pytest.TempPathFactory, codec: Codec, contents: Contents, operations: list[Any]
) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        Store.create(tmp_path_factory.mktemp("order") / "g", MANIFEST) as store,
    ):
        patch.setattr(shards_module, "SHARD_BYTES", 2 * ROWS * 2 * DIMENSION)
        known: set[int] = set()
        for what, numbers in operations:
            if what == "convert":

                def stop(done: int, total: int, rows: int = numbers) -> None:
                    if done > rows:
                        raise Stopped

                with contextlib.suppress(Stopped):
                    store.keep_only_codes(codec, stop)
                continue
            with store.writer() as writer:
                if what == "add":
                    writer.add([make_encoded(f"/{seed}", seed) for seed in numbers])
                    known |= set(numbers)
                elif what == "forget":
                    writer.record(forgotten=[f"/{seed}" for seed in numbers])
                    known -= set(numbers)
                else:
                    writer.compact()
        assert store.verify().problems == []
        held = {path: pair[0] for path, pair in contents(store).items()}
        assert held.keys() == {f"/{seed}" for seed in known}
        for path, vectors in held.items():
            seed = int(path[1:])
            assert vectors in (decoded(codec, seed), make_encoded("", seed).vectors.astype("<f2").tobytes())
        store.keep_only_codes(codec)
        assert {path: pair[0] for path, pair in contents(store).items()} == {
            f"/{seed}": decoded(codec, seed) for seed in known
        }
        assert store.verify().problems == []


# Verify


def test_every_byte_of_codes_counts(filled: Store, codec: Codec) -> None:
    filled.keep_only_codes(codec)
    path = filled.shards.path(1, ".codes")
    content = path.read_bytes()
    for position in random.Random(0).sample(range(len(content)), 12):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        picture = position // (ROWS * codec.code_bytes)
        assert filled.verify().problems == [f"/p/{picture}: its vectors are not as they were written"]
    path.write_bytes(content)
    assert filled.verify().problems == []


def test_codes_cut_short_lose_only_what_was_cut_off(shelves: Store, codec: Codec, contents: Contents) -> None:
    shelves.keep_only_codes(codec)
    before = contents(shelves)
    os.truncate(shelves.shards.path(3, ".codes"), ROWS * codec.code_bytes + 7)
    with pytest.raises(GalleryDamaged, match=r"000003\.codes: vector shard is cut short: 87 bytes instead of 160"):
        shelves.snapshot()
    assert shelves.verify(repair=True).affected_files == ["/p/5"]
    assert contents(shelves) == {path: held for path, held in before.items() if path != "/p/5"}
    with shelves.writer() as writer:
        writer.add([make_encoded("/p/5", 5)])
    assert contents(shelves) == before
    assert shelves.verify().problems == []


@pytest.mark.parametrize("how", ["missing", "altered"])
@pytest.mark.parametrize("opened_before", [True, False])
def test_without_its_codec_nothing_can_be_read(
    shelves: Store, codec: Codec, contents: Contents, how: str, opened_before: bool
) -> None:
    shelves.keep_only_codes(codec)
    before = contents(shelves)
    path = shelves.shards.codecs.path(codec.digest)
    path.unlink() if how == "missing" else path.write_bytes(codec.content[:-1] + b"\x07")
    with Store(shelves.folder) as other:
        store = shelves if opened_before else other
        report = store.verify()
        assert report.problems[0].startswith(f"{path}: the codec is {'missing' if how == 'missing' else 'not as'}")
        assert sum(str(path) in problem for problem in report.problems) == 1
        assert sorted(report.affected_files) == sorted(before)
        with pytest.raises(GalleryDamaged, match=r"codec-\w+\.safetensors: .*Restore the file from a backup"):
            store.snapshot()
        with pytest.raises(GalleryDamaged, match="codec"), store.writer():
            pass
        codec.save(path)  # the backup
        assert contents(store) == before
        assert store.verify().problems == []
        path.unlink() if how == "missing" else path.write_bytes(b"\x07")
        assert store.verify(repair=True).ok
        assert contents(store) == {}
        with store.writer() as writer:
            writer.add([make_encoded(path, int(path[-1])) for path in before])
            writer.compact()
        assert store.verify().problems == []
        assert {path: held[0] for path, held in contents(store).items()} == {
            path: make_encoded("", int(path[-1])).vectors.astype("<f2").tobytes() for path in before
        }


# Derived codes


def test_derived_codes_of_rows_that_change_are_dropped(shelves: Store, encoded: Callable[..., Encoded]) -> None:
    """A later shard may get the number of a dropped one, and must not be searched by its codes."""
    derived = shelves.folder / "compressed" / "0001"
    derived.mkdir(parents=True)
    for shard in (1, 2, 3, 4):
        (derived / f"{shard:06d}.codes").write_bytes(b"codes")
    with shelves.writer() as writer:
        writer.compact()  # shard 2 becomes shard 4
    assert sorted(path.name for path in derived.iterdir()) == ["000001.codes", "000003.codes"]
    os.truncate(shelves.shards.path(3), 7)
    shelves.verify(repair=True)
    assert sorted(path.name for path in derived.iterdir()) == ["000001.codes"]
