"""What a gallery is searched by: codes where it has them, whatever happened to these; exactly where it must."""

from __future__ import annotations

import gc
import itertools
import json
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.errors import UsageError
from patchwise.search import CompressedSearcher, ExactSearcher, code_index, resident
from patchwise.store import Snapshot, Store


def reopened(gallery: Gallery) -> Gallery:
    return Gallery.open(gallery.path, encoder=FakeEncoder())


def searched_by(gallery: Gallery, recall: float = 0.99) -> type:
    return type(gallery.current(recall)[1])


def test_codes_are_searched_once_they_are_there_and_only_below_a_recall_of_1(gallery: Gallery) -> None:
    assert searched_by(gallery) is ExactSearcher
    gallery.compress("fastscan:8")
    assert searched_by(gallery) is CompressedSearcher
    assert searched_by(gallery, 0.5) is CompressedSearcher
    assert searched_by(gallery, 1.0) is ExactSearcher
    for recall in (0, -1, 1.01):
        with pytest.raises(UsageError, match="recall must be above 0"):
            gallery.current(recall)


@pytest.mark.parametrize("codes_only", [False, True])
@pytest.mark.parametrize("codec", ["fastscan:8", "ivf:8", "ivf:8:2", "SQ8"])
def test_lost_codes_are_made_again(gallery: Gallery, codec: str, codes_only: bool) -> None:
    report = gallery.compress(codec, codes_only=codes_only)
    shutil.rmtree(gallery.path / "compressed")
    with reopened(gallery) as again:
        assert searched_by(again) is CompressedSearcher
        info = again.compression()
        assert info is not None and (info.codec, info.codes_only) == (report.info.codec, codes_only)


def test_lost_codes_are_made_again_from_a_training_set_that_needs_the_encoder(
    gallery: Gallery, pictures: Path, tmp_path: Path
) -> None:
    queries = tmp_path / "queries.csv"
    queries.write_text("path\n" + "".join(f"{path}\n" for path in sorted(pictures.iterdir())))
    gallery.compress("fastscan:8", train=f"queries:{queries}")
    shutil.rmtree(gallery.path / "compressed")
    with reopened(gallery) as again:
        assert searched_by(again) is CompressedSearcher
    shutil.rmtree(gallery.path / "compressed")
    queries.unlink()
    with reopened(gallery) as again:
        assert searched_by(again) is CompressedSearcher
        info = again.compression()
        assert info is not None and info.trained_on == "random"


BAD_CALIBRATION: list[Any] = [{}, {"regions": 1}, {"regions": 10**6}, {"margins": {}}, {"margins": 7}, [], 5, None]


@pytest.mark.parametrize("content", BAD_CALIBRATION, ids=str)
def test_a_calibration_that_cannot_be_read_is_measured_again(gallery: Gallery, pictures: Path, content: object) -> None:
    gallery.compress("fastscan:8")
    record = gallery.path / "compressed" / "0001" / "index.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "calibration": content}))
    with reopened(gallery) as again:
        assert searched_by(again) is CompressedSearcher
        again.add(pictures)
        info = again.compression()
        assert info is not None and info.recall == {3: 1.0}


@pytest.mark.parametrize("images", [7, 9, 20, 30])
def test_a_small_gallery_that_grows(gallery: Gallery, pictures: Path, images: int) -> None:
    """It is measured at other numbers of hits than before, once there are enough for them."""
    gallery.compress("fastscan:8")
    for seed in range(6, images):
        make_picture(seed, (32, 24)).save(pictures / f"{seed:02d}.png")
    gallery.add(pictures)
    info = gallery.compression()
    assert info is not None and min(info.recall_now.values()) >= 0.99
    assert len(gallery.search(pictures / "06.png", k=images)) == images


def test_a_busy_writer_leaves_exact_search(gallery: Gallery) -> None:
    gallery.compress("fastscan:8")
    shutil.rmtree(gallery.path / "compressed")
    with Store(gallery.path) as other, other.writer(), reopened(gallery) as again:
        assert searched_by(again) is ExactSearcher
        assert len(again.search(make_picture(1), k=6)) == 6
    with reopened(gallery) as later:
        assert searched_by(later) is CompressedSearcher


def test_codes_made_by_another_process_are_taken_up(gallery: Gallery) -> None:
    assert searched_by(gallery) is ExactSearcher
    with reopened(gallery) as other:
        other.compress("fastscan:8")
    assert searched_by(gallery) is CompressedSearcher


CHANGES: dict[str, Callable[[Gallery], object]] = {
    "compaction": lambda gallery: gallery.compact(),
    "repair": lambda gallery: gallery.verify(repair=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after(gallery: Gallery, pictures: Path, change: str) -> None:
    gallery.compress("fastscan:8")
    shard = gallery.path / "vectors" / "000001.f16"
    if change == "compaction":
        gallery.remove(pictures / "02.png")
    else:
        shard.write_bytes(shard.read_bytes()[:-1])  # the last picture is lost
    with reopened(gallery) as again:
        CHANGES[change](again)
    with reopened(gallery) as again:
        assert searched_by(again) is CompressedSearcher
        assert len(again) == 5
        for seed in range(6):
            hits, exact = (again.search(make_picture(seed, (32, 24)), k=9, exact=exact) for exact in (False, True))
            assert hits == exact and len(hits) == 5


STEPS = st.one_of(
    st.tuples(st.sampled_from(["write", "remove"]), st.integers(0, 9), st.integers(0, 12)),
    st.tuples(st.sampled_from(["compact", "compress", "uncompress"]), st.just(0), st.just(0)),
    st.tuples(st.just("keep only codes"), st.just(0), st.just(0)),
)


def answers(gallery: Gallery) -> list[object]:
    asked = [make_picture(seed, (32, 24)) for seed in (0, 3, 12)]
    return [
        (gallery.search(picture, k=30, exact=exact), gallery.unrelated_likeness())
        for picture in asked
        for exact in (0, 1)
    ]


@pytest.mark.usefixtures("small")
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=1, max_size=8))
def test_a_gallery_open_for_long_answers_as_one_opened_now(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, seconds = Path(folder) / "root", itertools.count(1_600_000_000)
        root.mkdir()

        def write(gallery: Gallery, name: int, seed: int) -> None:
            path = root / f"{name}.png"
            make_picture(seed, (32, 24)).save(path)
            second = next(seconds)
            os.utime(path, (second, second))
            gallery.add(path)

        with Gallery.create(Path(folder) / "g", encoder=FakeEncoder(), regions="pyramid:1") as gallery:
            for name in range(6):
                write(gallery, name, name)
            for what, name, seed in steps:
                if what == "write":
                    write(gallery, name, seed)
                elif what == "remove":
                    gallery.remove(root / f"{name}.png")
                elif what == "compact":
                    gallery.compact()
                else:
                    codec, kept = ("none", False) if what == "uncompress" else ("fastscan:8", what != "compress")
                    # Refused where too few are left, or only codes are.
                    with suppress(UsageError):
                        gallery.compress(codec, codes_only=kept)
                with reopened(gallery) as again:
                    assert answers(gallery) == answers(again)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few pictures, in memory and of codes."""
    monkeypatch.setattr(resident, "_SEGMENT_BYTES", 4 * FakeEncoder.dimension * 12)
    monkeypatch.setattr(code_index, "_SEGMENT_ROWS", 12)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_earlier_states_are_let_go_of(gallery: Gallery, pictures: Path) -> None:
    """At once, and not when Python looks for circles some day: they hold files and memory."""
    gc.disable()
    try:
        snapshot, searcher = gallery.current(1.0)
        earlier = [weakref.ref(snapshot), weakref.ref(searcher)]
        del snapshot, searcher
        for name in ("01.png", "02.png"):
            gallery.remove(pictures / name)
            assert len(gallery.search(make_picture(0), k=9, collapse=True)) == len(gallery)
        assert [each() for each in earlier] == [None, None]
    finally:
        gc.enable()


def test_vectors_are_kept_in_memory_over_states_in_which_nobody_searched(
    gallery: Gallery, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.search(make_picture(0))
    read: list[int] = []
    runs = Snapshot.runs
    monkeypatch.setattr(Snapshot, "runs", lambda *how: (read.append(run[1] - run[0]) or run for run in runs(*how)))
    for name in ("01.png", "02.png"):
        gallery.remove(pictures / name)
        gallery.snapshot()
    make_picture(7, (32, 24)).save(pictures / "07.png")
    gallery.add(pictures / "07.png")
    assert len(gallery.search(make_picture(0))) == 5
    assert read == [1]


@pytest.mark.parametrize("codec", ["none", "fastscan:8"])
@pytest.mark.usefixtures("small")
def test_threads_that_search_while_pictures_come_and_go(gallery: Gallery, pictures: Path, codec: str) -> None:
    """No error, and nothing whose removal was answered before the search began."""
    if codec != "none":
        gallery.compress(codec)
    gone: set[str] = set()
    wrong: list[str] = []
    finished = threading.Event()

    def search(seed: int) -> int:
        asked = make_picture(seed, (32, 24))
        for searches in itertools.count():
            before = set(gone)
            found = {hit.path for hit in gallery.search(asked, k=50, exact=bool(searches % 2))}
            wrong.extend(found & before)
            if finished.is_set():
                return searches
        raise AssertionError

    with ThreadPoolExecutor(6) as threads:
        searching = [threads.submit(search, seed) for seed in range(6)]
        try:
            for seed in range(6, 30):
                path = pictures / f"{seed:02d}.png"
                make_picture(seed, (32, 24)).save(path)
                gallery.add(path)
                assert gallery.search(path, k=1)[0].path == str(path)
                old = pictures / f"{seed - 4:02d}.png"
                gallery.remove(old)
                gone.add(str(old))
                assert str(old) not in {hit.path for hit in gallery.search(make_picture(seed - 4, (32, 24)), k=50)}
                if seed % 5 == 0:
                    gallery.compact()
        finally:
            finished.set()
        assert min(each.result() for each in searching) > 3
    assert wrong == []
