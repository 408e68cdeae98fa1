"""Query pictures on disk and in memory."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from patchwise.errors import ImageUnreadable
from patchwise.images import digest_of
from patchwise.server.pictures import DecodedPictures, KeptPictures


def read(kept: KeptPictures, digest: str) -> bytes | None:
    file = kept.open(digest)
    if file is None:
        return None
    with file:
        return file.read()


def test_kept_pictures_outlive_the_server(tmp_path: Path) -> None:
    digest = KeptPictures(tmp_path / "q", 1000).keep(b"one")
    assert read(KeptPictures(tmp_path / "q", 1000), digest) == b"one"
    assert read(KeptPictures(tmp_path / "q", 1000), digest_of(b"two")) is None


def test_those_unused_longest_go_first(tmp_path: Path) -> None:
    kept = KeptPictures(tmp_path, 100)
    digests = [kept.keep(bytes([number]) * 40) for number in range(2)]
    for age, digest in zip((20, 10), digests, strict=True):
        os.utime(tmp_path / digest, (time.time() - age, time.time() - age))
    assert read(kept, digests[0])  # now used last
    latest = kept.keep(b"x" * 40)
    assert [read(kept, digest) is not None for digest in (*digests, latest)] == [True, False, True]


def test_a_picture_larger_than_all_room_is_still_kept(tmp_path: Path) -> None:
    kept = KeptPictures(tmp_path, 10)
    assert read(kept, kept.keep(b"x" * 40)) == b"x" * 40


def test_what_is_damaged_is_not_given_out_and_is_kept_anew(tmp_path: Path) -> None:
    kept = KeptPictures(tmp_path, 1000)
    digest = kept.keep(b"whole")
    (tmp_path / digest).write_bytes(b"cut")
    assert read(kept, digest) is None
    assert read(kept, kept.keep(b"whole")) == b"whole"


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"z" * 500)
    kept = KeptPictures(tmp_path, 100)
    for number in range(5):
        kept.keep(bytes([number]) * 60)
    assert (tmp_path / "mine.txt").read_bytes() == b"z" * 500
    assert sum(file.stat().st_size for file in tmp_path.iterdir() if len(file.name) == 32) <= 100


def test_a_picture_that_many_ask_for_is_decoded_once() -> None:
    decoded, calls, gate = DecodedPictures(10**6), [], threading.Event()

    def decode() -> np.ndarray:
        calls.append(1)
        assert gate.wait(10)
        return np.ones((4, 4, 3), np.uint8)

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(decoded.get, "a", decode) for _ in range(4)]
        time.sleep(0.05)
        gate.set()
        found = [each.result() for each in asked]
    assert len(calls) == 1
    assert all(each is found[0] for each in found)


def test_the_memory_has_an_end_and_the_last_used_stay() -> None:
    decoded = DecodedPictures(2 * 300)
    pixels = np.zeros((10, 10, 3), np.uint8)
    calls: list[str] = []

    def get(name: str) -> None:
        def decode() -> np.ndarray:
            calls.append(name)
            return pixels.copy()

        decoded.get(name, decode)

    for name in ("a", "b", "a", "c", "a", "b"):
        get(name)
    assert calls == ["a", "b", "c", "b"]
    assert decoded.bytes_held == 600
    decoded.get("huge", lambda: np.zeros((100, 100, 3), np.uint8))
    assert decoded.bytes_held == 600


def test_a_failure_is_told_to_all_and_tried_again() -> None:
    decoded = DecodedPictures(1000)

    def broken() -> np.ndarray:
        raise ImageUnreadable("a", "corrupt")

    for _ in range(2):
        with pytest.raises(ImageUnreadable):
            decoded.get("a", broken)
    assert decoded.get("a", lambda: np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)
