"""Derived codes on disk: what was written is read back, and what was damaged is as good as not there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchwise.codecs import Codec
from patchwise.errors import StorageFull
from patchwise.store import Codes, codes_version, drop_unused, forget_codes
from patchwise.store import codes as codes_module
from store.conftest import DIMENSION


def some_codes(codec: Codec, rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, codec.code_bytes), dtype=np.uint8)


def blocks_of(codes: np.ndarray, rows: int = 3) -> Iterator[np.ndarray]:
    return (codes[first : first + rows] for first in range(0, len(codes), rows))


@pytest.fixture
def made(tmp_path: Path, coarse_codec: Codec) -> Codes:
    """A generation in use: 10 codes of shard 1 and 4 of shard 2."""
    codes = Codes.begin(tmp_path, coarse_codec, {"set": "random", "vectors": 7})
    codes.append(1, 0, blocks_of(some_codes(coarse_codec, 10, 1)))
    codes.append(2, 0, blocks_of(some_codes(coarse_codec, 4, 2)))
    codes.record_as(replace(codes.record, calibration={"margins": [0.5]}))
    codes.publish()
    return codes


def opened(folder: Path) -> Codes:
    codes = Codes.open(folder, DIMENSION)
    assert codes is not None
    return codes


def assert_reads(codes: Codes, shard: int, expected: np.ndarray) -> None:
    found = codes.read(shard)
    assert found is not None
    np.testing.assert_array_equal(found, expected)


def test_what_was_written_is_read_back(made: Codes, tmp_path: Path, coarse_codec: Codec) -> None:
    codes = opened(tmp_path)
    assert codes.codec.content == coarse_codec.content
    assert (codes.record.codec, codes.record.dimension) == (coarse_codec.name, DIMENSION)
    assert codes.record == made.record
    assert (codes.record.training, codes.record.calibration) == ({"set": "random", "vectors": 7}, {"margins": [0.5]})
    assert [codes.rows(shard) for shard in (1, 2, 3)] == [10, 4, 0]
    assert_reads(codes, 1, some_codes(coarse_codec, 10, 1))
    assert_reads(codes, 2, some_codes(coarse_codec, 4, 2))
    assert_reads(codes, 3, some_codes(coarse_codec, 0))
    assert codes.path(1).read_bytes() == some_codes(coarse_codec, 10, 1).tobytes()  # row-major, and nothing else
    assert len([path for path in codes.folder.rglob("*") if path.is_file()]) == 4


def test_nothing_is_in_use_before_it_is_published(tmp_path: Path, codec: Codec) -> None:
    assert Codes.open(tmp_path, DIMENSION) is None
    assert codes_version(tmp_path) == 0
    codes = Codes.begin(tmp_path, codec, {})
    codes.append(1, 0, blocks_of(some_codes(codec, 2)))
    assert Codes.open(tmp_path, DIMENSION) is None and codes_version(tmp_path) == 0
    codes.publish()
    assert codes_version(tmp_path) > 0
    assert_reads(opened(tmp_path), 1, some_codes(codec, 2))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4)), max_size=8))
def test_additions_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, coarse_codec: Codec, additions: list[tuple[int, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("codes")
    codes = Codes.begin(folder, coarse_codec, {})
    codes.publish()
    expected = {shard: some_codes(coarse_codec, 0) for shard in (1, 2, 3)}
    for number, (shard, rows, block) in enumerate(additions):
        more = some_codes(coarse_codec, rows, number)
        codes.append(shard, len(expected[shard]), blocks_of(more, block))
        expected[shard] = np.concatenate([expected[shard], more])
        if number % 2:
            codes = opened(folder)
    for shard, rows in expected.items():
        assert_reads(opened(folder), shard, rows)


def test_rows_are_written_again_from_where_the_caller_says(made: Codes, tmp_path: Path, coarse_codec: Codec) -> None:
    """From the first on: what was known of the shard does not matter."""
    new = some_codes(coarse_codec, 3, 9)
    made.append(1, 0, blocks_of(new))
    assert_reads(opened(tmp_path), 1, new)
    assert made.path(1).stat().st_size == 3 * coarse_codec.code_bytes


def test_an_addition_that_breaks_off_leaves_what_was_there(made: Codes, tmp_path: Path, coarse_codec: Codec) -> None:
    def breaking_off() -> Iterator[np.ndarray]:
        yield some_codes(coarse_codec, 5, 8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.append(1, 10, breaking_off())
    assert made.path(1).stat().st_size > 10 * coarse_codec.code_bytes
    for codes in (made, opened(tmp_path)):
        assert codes.rows(1) == 10
        assert_reads(codes, 1, some_codes(coarse_codec, 10, 1))
    more = some_codes(coarse_codec, 2, 4)  # fewer than were left
    opened(tmp_path).append(1, 10, blocks_of(more))
    assert_reads(opened(tmp_path), 1, np.concatenate([some_codes(coarse_codec, 10, 1), more]))
    assert made.path(1).stat().st_size == 12 * coarse_codec.code_bytes


def test_a_record_that_could_not_be_written_leaves_the_old_one(
    made: Codes, tmp_path: Path, coarse_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(codes_module.os, "fsync", full)
    before = made.record
    with pytest.raises(StorageFull):
        made.append(1, 10, blocks_of(some_codes(coarse_codec, 4)))
    with pytest.raises(StorageFull):
        made.record_as(replace(before, training={"set": "other"}))
    with pytest.raises(StorageFull):
        Codes.begin(tmp_path, coarse_codec, {})
    monkeypatch.undo()
    assert made.record == before == opened(tmp_path).record
    assert_reads(opened(tmp_path), 1, some_codes(coarse_codec, 10, 1))
    assert not list((tmp_path / "compressed").rglob("*.new"))
    assert [entry.name for entry in (tmp_path / "compressed").iterdir() if entry.is_dir()] == [made.folder.name]


# Damage


@pytest.mark.parametrize("place", [0, 17, -1])
def test_a_flipped_bit_is_noticed(made: Codes, tmp_path: Path, coarse_codec: Codec, place: int) -> None:
    content = bytearray(made.path(1).read_bytes())
    content[place] ^= 1
    made.path(1).write_bytes(content)
    codes = opened(tmp_path)
    assert codes.read(1) is None
    assert_reads(codes, 2, some_codes(coarse_codec, 4, 2))  # the others are none the worse for it


def test_a_file_cut_short_or_gone_is_noticed(made: Codes, tmp_path: Path) -> None:
    content = made.path(1).read_bytes()
    for left in (content[:-1], b""):
        made.path(1).write_bytes(left)
        assert opened(tmp_path).rows(1) == 0
        assert opened(tmp_path).read(1) is None
    made.path(1).unlink()
    assert opened(tmp_path).rows(1) == 0
    assert opened(tmp_path).read(1) is None


def test_large_files_are_read_piece_by_piece(
    made: Codes, tmp_path: Path, coarse_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (1, coarse_codec.code_bytes, 3 * coarse_codec.code_bytes + 1):
        monkeypatch.setattr(codes_module, "_READ_BYTES", size)
        assert_reads(opened(tmp_path), 1, some_codes(coarse_codec, 10, 1))


GARBAGE = [
    "",
    "{",
    "null",
    "[]",
    "7",
    "{}",
    '"text"',
    "[[1, 2]]",
    "\0\0",
    '{"format": "patchwise-codes", "version": 2}',
]


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("which", ["current.json", "index.json"])
def test_garbage_is_no_codes(made: Codes, tmp_path: Path, which: str, garbage: str) -> None:
    path = (made.folder.parent if which == "current.json" else made.folder) / which
    path.write_text(garbage)
    assert Codes.open(tmp_path, DIMENSION) is None
    path.write_bytes(b"\xff\xfe\xff")
    assert Codes.open(tmp_path, DIMENSION) is None
    path.unlink()
    assert Codes.open(tmp_path, DIMENSION) is None
    path.mkdir()
    assert Codes.open(tmp_path, DIMENSION) is None


@pytest.mark.parametrize("version", [codes_module._VERSION - 1, codes_module._VERSION + 1])
@pytest.mark.parametrize("which", ["record", "current"])
def test_another_version_is_no_codes(
    made: Codes, tmp_path: Path, which: str, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written whole and with its checksum, by another patchwise."""
    with monkeypatch.context() as other:
        other.setattr(codes_module, "_VERSION", version)
        made.record_as(made.record) if which == "record" else made.publish()
    assert Codes.open(tmp_path, DIMENSION) is None


def test_codes_of_other_vectors_are_none(made: Codes, tmp_path: Path) -> None:
    assert Codes.open(tmp_path, DIMENSION + 1) is None
    made.record_as(replace(made.record, dimension=DIMENSION + 1))
    assert Codes.open(tmp_path, DIMENSION) is Codes.open(tmp_path, DIMENSION + 1) is None


def test_another_codec_in_its_place_is_noticed(made: Codes, tmp_path: Path, codec: Codec) -> None:
    path = made.folder / "codec.safetensors"
    codec.save(path)
    assert Codes.open(tmp_path, DIMENSION) is None
    path.write_bytes(b"")
    assert Codes.open(tmp_path, DIMENSION) is None
    path.unlink()
    assert Codes.open(tmp_path, DIMENSION) is None


def test_a_generation_is_looked_for_in_its_folder_only(made: Codes, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    made.folder.rename(outside)
    codes_module._write(tmp_path / "compressed" / "current.json", {"generation": "../outside"})
    assert Codes.open(tmp_path, DIMENSION) is None


# Keeping, forgetting, replacing


def test_keep_only_what_still_is_as_long(made: Codes, tmp_path: Path, coarse_codec: Codec) -> None:
    made.keep_only({1: 10, 2: 5, 3: 8})
    assert opened(tmp_path).record.shards.keys() == {1, 2}
    made.keep_only({1: 9, 2: 4})  # shard 1 has become shorter: its rows are others
    assert opened(tmp_path).record.shards.keys() == {2}
    assert not made.path(1).exists()
    assert_reads(opened(tmp_path), 2, some_codes(coarse_codec, 4, 2))
    made.keep_only({})
    assert opened(tmp_path).record.shards == {}
    assert not list(made.folder.glob("*.codes"))


def test_forgotten_codes_are_gone_until_they_are_written_again(
    made: Codes, tmp_path: Path, coarse_codec: Codec
) -> None:
    forget_codes(tmp_path, [1, 7])
    codes = opened(tmp_path)
    assert codes.record.shards.keys() == {2} and not codes.path(1).exists()
    assert codes.rows(1) == 0 and len(codes.read(1)) == 0
    assert_reads(codes, 2, some_codes(coarse_codec, 4, 2))
    again = some_codes(coarse_codec, 6, 3)
    codes.append(1, 0, blocks_of(again))
    assert_reads(opened(tmp_path), 1, again)
    forget_codes(tmp_path / "none", [1])


def test_forgotten_codes_are_not_known_where_their_file_cannot_be_deleted(
    made: Codes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where somebody has it mapped."""
    monkeypatch.setattr(codes_module, "_remove", lambda path: None)
    forget_codes(tmp_path, [1])
    assert made.path(1).exists() and opened(tmp_path).rows(1) == 0


@pytest.mark.skipif(os.name == "nt", reason="what is mapped cannot be deleted")
def test_readers_keep_what_they_have_mapped(made: Codes, tmp_path: Path, codec: Codec, coarse_codec: Codec) -> None:
    reader = opened(tmp_path)
    mapped = reader.read(1), reader.read(2)
    later = Codes.begin(tmp_path, codec, {})
    later.append(1, 0, blocks_of(some_codes(codec, 10, 5)))
    later.publish()
    forget_codes(tmp_path, [1])
    assert not reader.folder.exists()
    for found, (rows, seed) in zip(mapped, ((10, 1), (4, 2)), strict=True):
        assert found is not None
        np.testing.assert_array_equal(found, some_codes(coarse_codec, rows, seed))
    assert reader.read(1) is None  # asked again, it has nothing; it does not mix generations
    assert opened(tmp_path).codec.name == codec.name


def test_generations_follow_each_other(made: Codes, tmp_path: Path, codec: Codec) -> None:
    before = codes_version(tmp_path)
    os.utime(tmp_path / "compressed" / "current.json", ns=(1, 1))
    names = {made.folder.name}
    for _ in range(3):
        following = Codes.begin(tmp_path, codec, {})
        assert following.folder.name not in names
        names.add(following.folder.name)
        following.publish()
        assert [entry.name for entry in following.folder.parent.iterdir() if entry.is_dir()] == [following.folder.name]
    assert codes_version(tmp_path) not in (1, 0) and before > 0


def test_an_unfinished_generation_is_dropped(made: Codes, tmp_path: Path, codec: Codec) -> None:
    left = Codes.begin(tmp_path, codec, {})
    assert left.folder.is_dir() and opened(tmp_path).record == made.record
    drop_unused(tmp_path)
    assert not left.folder.exists() and opened(tmp_path).record == made.record
    other = Codes.begin(tmp_path, codec, {})
    other.discard()
    assert not other.folder.exists()
    drop_unused(tmp_path / "none")


def test_the_record_is_plain_json(made: Codes, coarse_codec: Codec) -> None:
    """Others may look at it: what it says is what is there."""
    content = json.loads((made.folder / "index.json").read_text())
    assert content["codec"] == coarse_codec.name and content["codec_digest"] == coarse_codec.digest
    assert {shard: rows for shard, (rows, _) in content["shards"].items()} == {"1": 10, "2": 4}
