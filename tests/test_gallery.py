"""The one door for callers: the public surface, and hits that are always those of a fresh build."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from PIL import Image

import patchwise
from patchwise import Gallery, Hit
from patchwise.errors import (
    EncoderError,
    GalleryBusy,
    GalleryDamaged,
    GalleryError,
    GalleryExists,
    GalleryMismatch,
    GalleryNotFound,
    RegionsError,
    UsageError,
)
from patchwise.indexing import query_vector
from patchwise.store import Manifest
from patchwise.store import shards as shards_module

Picture = Callable[..., Image.Image]
REGIONS = 5


@pytest.fixture
def gallery(tmp_path: Path, fake_encoder: Any, picture_folder: Path) -> Iterator[Gallery]:
    """The six pictures, indexed."""
    with Gallery.create(tmp_path / "g", encoder=fake_encoder, regions="pyramid:1") as made:
        made.add(picture_folder)
        yield made


def names(hits: list[Hit] | tuple[Hit, ...]) -> list[str]:
    return [os.path.basename(hit.path) for hit in hits]


# The public surface


def test_the_example_of_the_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Picture) -> None:
    """With the built-in encoder, word for word but for the size of the pictures."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for seed in range(3):
        picture(seed, (300, 280)).save(f"photos/{seed}.jpg")
    picture(1, (300, 280)).save("mug.jpg")

    gallery = patchwise.Gallery.create("photos.pw", encoder="builtin", regions="pyramid:3")
    gallery.add("photos/")
    hits = gallery.search("mug.jpg", box=(40, 30, 210, 260), k=20)
    assert hits[0].path == str(tmp_path / "photos" / "1.jpg")
    assert -1 <= hits[0].score <= 1
    assert len(hits) == 3 and [hit.rank for hit in hits] == [1, 2, 3]
    assert all(0 <= hit.box[0] < hit.box[2] <= 300 and 0 <= hit.box[1] < hit.box[3] <= 280 for hit in hits)
    assert hits[0].level in range(4) and hits[0].size == (300, 280)

    explanation = gallery.explain("mug.jpg", hits[0], box=(40, 30, 210, 260))
    assert len(explanation.regions) == 30
    assert max(region.score for region in explanation.regions) == hits[0].score
    assert explanation.heat_map().shape == (60, 64)
    gallery.close()


def test_search_finds_what_was_indexed(gallery: Gallery, picture: Picture, picture_folder: Path) -> None:
    for seed in range(6):
        best = gallery.search(picture(seed))[0]
        assert best.path == str(picture_folder / f"{seed:02d}.png")
        assert best.score == pytest.approx(1, abs=1e-3)
        assert best.box == (0, 0, 96, 64) and best.level == 0 and best.cell == (0, 0)


def test_a_part_finds_its_picture_and_its_place(gallery: Gallery, picture: Picture) -> None:
    best = gallery.search(picture(4).crop((48, 0, 96, 32)))[0]
    assert names([best]) == ["04.png"]
    assert (best.box, best.level, best.cell) == ((48, 0, 96, 32), 1, (0, 1))
    assert gallery.search(picture(4), box=(48, 0, 96, 32))[0].box == best.box


def test_the_winning_region_is_the_arg_max_of_the_explanation(gallery: Gallery, picture: Picture) -> None:
    for hit in gallery.search(picture(3), box=(10, 10, 60, 60)):
        explanation = gallery.explain(picture(3), hit, box=(10, 10, 60, 60))
        scores = [region.score for region in explanation.regions]
        winner = explanation.regions[int(np.argmax(scores))]
        assert (winner.score, winner.box, winner.level, winner.cell) == (hit.score, hit.box, hit.level, hit.cell)
        assert hit.regions == tuple(sorted(explanation.regions, key=lambda region: -region.score))
        assert explanation == gallery.explain(picture(3), hit.path, box=(10, 10, 60, 60))
        assert explanation.size == hit.size


def test_explaining_what_is_not_there(gallery: Gallery, picture: Picture, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not in the gallery"):
        gallery.explain(picture(0), tmp_path / "never.png")


def test_pages_of_hits(gallery: Gallery, picture: Picture) -> None:
    everything = gallery.search(picture(2), k=100)
    assert len(everything) == 6
    assert everything == sorted(everything, key=lambda hit: (-hit.score, hit.path))
    assert [hit.rank for hit in everything] == [1, 2, 3, 4, 5, 6]
    for k, offset in itertools.product((1, 2, 6, 7), (0, 1, 5, 6, 9)):
        assert gallery.search(picture(2), k=k, offset=offset) == everything[offset : offset + k]
    limit = everything[2].score
    assert gallery.search(picture(2), min_score=limit) == everything[:3]
    assert gallery.search(picture(2), min_score=1.1) == []
    for k, offset in ((0, 0), (-1, 0), (1, -1)):
        with pytest.raises(UsageError, match="k must be at least 1"):
            gallery.search(picture(2), k=k, offset=offset)


def test_an_empty_gallery_finds_nothing(tmp_path: Path, fake_encoder: Any, picture: Picture) -> None:
    with Gallery.create(tmp_path / "g", encoder=fake_encoder) as gallery:
        assert len(gallery) == 0
        assert gallery.search(picture(0)) == []
        assert [result.hits for result in gallery.search_many([])] == []
        assert gallery.compact() == 0 and gallery.verify().ok
        assert gallery.info().bytes_per_image > 0


def test_many_queries_are_answered_in_order_each_on_its_own(
    gallery: Gallery, picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patchwise.gallery_search._QUERIES_AT_ONCE", 3)
    (tmp_path / "bad.png").write_bytes(b"no image")
    box = (10.0, 10.0, 60.0, 60.0)
    queries: list[tuple[str, Any]] = [(str(picture_folder / f"{seed:02d}.png"), None) for seed in (5, 1)]
    queries += [(str(tmp_path / "bad.png"), None), (str(tmp_path / "gone.png"), box)]
    queries += [(str(picture_folder / "02.png"), box), (str(picture_folder / "03.png"), (200, 0, 300, 10))]
    queries += [("https://example.invalid/a.png", None), (str(picture_folder / "04.png"), None)]
    results = list(gallery.search_many(iter(queries), k=4))
    assert [result.query for result in results] == [path for path, _ in queries]
    assert [result.box for result in results] == [box and tuple(map(float, box)) for _, box in queries]
    for result, (path, wanted) in zip(results, queries, strict=True):
        if result.error is None:
            assert list(result.hits) == gallery.search(path, box=wanted, k=4)
        else:
            assert result.hits == ()
    errors = {result.query: result.error for result in results if result.error}
    assert set(errors) == {queries[index][0] for index in (2, 3, 5, 6)}
    assert "bad.png" in errors[queries[2][0]] and "outside the image" in errors[queries[5][0]]
    assert "--fetch" in errors["https://example.invalid/a.png"]


def test_many_queries_are_answered_as_they_come(gallery: Gallery, picture_folder: Path) -> None:
    """A stream of queries needs no memory for those still to come."""
    endless = itertools.repeat((str(picture_folder / "00.png"), None))
    assert names(next(gallery.search_many(endless, k=1)).hits) == ["00.png"]


def test_query_vectors_give_the_same_hits(gallery: Gallery, picture: Picture) -> None:
    vectors = np.stack([query_vector(gallery.encoder, picture(seed)) for seed in (2, 0)])
    assert list(gallery.search_vectors(vectors)) == [gallery.search(picture(seed)) for seed in (2, 0)]


def test_files_and_folders_are_removed_whether_they_exist_or_not(
    gallery: Gallery, picture: Picture, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (picture_folder / "05.png").unlink()
    monkeypatch.chdir(picture_folder.parent)
    assert gallery.remove("pictures/05.png", picture_folder / "00.png", picture_folder / "00.png", "never") == 2
    assert len(gallery) == 4 and "00.png" not in names(gallery.search(picture(0)))
    assert gallery.info().dead_regions == 2 * REGIONS
    assert gallery.remove(picture_folder / "0") == 0
    assert gallery.remove(picture_folder) == 4
    assert gallery.search(picture(0)) == [] and (picture_folder / "00.png").exists()


def test_info_counts_what_is_there(gallery: Gallery, picture_folder: Path, tmp_path: Path) -> None:
    shutil.copy(picture_folder / "00.png", picture_folder / "copy.png")
    (picture_folder / "bad.png").write_bytes(b"")
    gallery.add(picture_folder)
    gallery.remove(picture_folder / "01.png")
    info = gallery.info()
    assert (info.images, info.distinct_images, info.regions, info.dead_regions) == (6, 5, 25, 5)
    assert info.path == str(tmp_path / "g") and info.regions_strategy == "pyramid:1" and info.whitening == "shipped"
    assert info.encoder["id"] == "fake" and info.encoder["dimension"] == 48
    assert info.unreadable == [(str(picture_folder / "bad.png"), "the file is empty")]
    assert info.vector_bytes == 30 * (2 * 48 + 22)
    assert info.total_bytes == sum(path.stat().st_size for path in (tmp_path / "g").rglob("*") if path.is_file())
    assert info.bytes_per_image == info.total_bytes / 6
    gallery.compact()
    assert gallery.info().dead_regions == 0
    assert gallery.info().vector_bytes == 25 * (2 * 48 + 22)


def test_info_while_files_come_and_go(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may compact, or close its write-ahead log, between the listing and the look."""
    really = Path.stat
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: [self / "manifest.json", self / "just gone"])
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([self / "just gone too"]))
    assert gallery.info().total_bytes == really(gallery.path / "manifest.json").st_size
    assert gallery.info().vector_bytes == 0


# Making and opening


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, fake_encoder: Any) -> None:
    for error, arguments in (
        (EncoderError, {"encoder": "nonsense"}),
        (RegionsError, {"encoder": fake_encoder, "regions": "pyramid:9"}),
        (UsageError, {"encoder": fake_encoder, "whitening": "none"}),
    ):
        with pytest.raises(error):
            Gallery.create(tmp_path / "g", **arguments)
        assert not (tmp_path / "g").exists()


def test_create_never_replaces(gallery: Gallery, tmp_path: Path, fake_encoder: Any) -> None:
    with pytest.raises(GalleryExists):
        Gallery.create(tmp_path / "g", encoder=fake_encoder)
    assert len(gallery) == 6


@pytest.fixture
def builtin(tmp_path: Path) -> Path:
    """An empty gallery of the built-in encoder."""
    with Gallery.open_or_create(tmp_path / "b", regions="pyramid:1"):
        pass
    return tmp_path / "b"


def test_open_or_create_makes_and_then_opens(builtin: Path) -> None:
    manifest = Manifest.read(builtin)
    assert (manifest.encoder["id"], manifest.regions, manifest.whitening) == ("builtin", "pyramid:1", "shipped")
    for arguments in (
        {},
        {"encoder": "builtin"},
        {"regions": "pyramid:1"},
        {"regions": " pyramid:01 "},
        {"whitening": "shipped", "encoder": "builtin", "regions": "pyramid:1"},
    ):
        Gallery.open_or_create(builtin, **arguments).close()
    assert Manifest.read(builtin) == manifest


@pytest.mark.parametrize(
    ("name", "value"),
    [("encoder", "dinov2-s"), ("regions", "pyramid:3"), ("regions", "whole"), ("whitening", "gallery")],
)
def test_open_or_create_refuses_what_does_not_fit(builtin: Path, picture_folder: Path, name: str, value: str) -> None:
    with Gallery.open(builtin) as gallery:
        gallery.add(picture_folder / "00.png")
    with pytest.raises(GalleryMismatch, match=f"made with {name} .* not '{value}'") as raised:
        Gallery.open_or_create(builtin, **{name: value})
    assert f"Leave --{name} out" in str(raised.value) and "--gallery" in str(raised.value)


def test_open_or_create_does_not_overwrite_other_things(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    with pytest.raises(GalleryExists, match="something that is not a gallery"):
        Gallery.open_or_create(tmp_path / "folder")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["mine.txt"]


def test_open_or_create_when_another_was_quicker(
    tmp_path: Path, fake_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Gallery.open
    attempts = iter([GalleryNotFound("not yet")])

    def late(path: Path, **options: Any) -> Gallery:
        for error in attempts:
            Gallery.create(path, encoder=fake_encoder, regions="whole").close()
            raise error
        return really(path, **options)

    monkeypatch.setattr(Gallery, "open", late)
    with Gallery.open_or_create(tmp_path / "g", regions="whole") as opened:
        assert len(opened) == 0


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GalleryNotFound, match="patchwise index"):
        Gallery.open(tmp_path / "g")
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("weights_sha256", "f" * 64), ("id", "other"), ("input_size", 32), ("resampling", "bicubic"), ("dimension", 24)],
)
def test_vectors_of_another_encoder_never_meet(
    gallery: Gallery, tmp_path: Path, fake_encoder: Any, picture: Picture, picture_folder: Path, name: str, value: Any
) -> None:
    gallery.close()
    other = type(fake_encoder)()
    setattr(other, name, value)
    picture(50).save(picture_folder / "new.png")
    with Gallery.open(tmp_path / "g", encoder=other) as mixed:
        for call in (lambda: mixed.search(picture(0)), lambda: mixed.add(picture_folder)):
            with pytest.raises(GalleryMismatch, match=f"{name} was") as raised:
                call()
            assert str(tmp_path / "g") in str(raised.value) and "--gallery" in str(raised.value)
            assert "Put back its files as they were" in str(raised.value)
        assert len(mixed) == 6 and mixed.info().images == 6  # what needs no encoder still works
        assert mixed.verify().ok
    with Gallery.open(tmp_path / "g", encoder=fake_encoder) as again:
        assert again.add(picture_folder).added == 1


def test_a_gallery_of_an_own_encoder_needs_it_again(gallery: Gallery, tmp_path: Path, picture: Picture) -> None:
    gallery.close()
    with Gallery.open(tmp_path / "g") as opened, pytest.raises(EncoderError, match="'fake': unknown"):
        opened.search(picture(0))


def test_a_strategy_this_version_does_not_know(gallery: Gallery, tmp_path: Path, picture_folder: Path) -> None:
    replace(Manifest.read(tmp_path / "g"), regions="spiral:3").write(tmp_path / "g")
    with Gallery.open(tmp_path / "g") as opened, pytest.raises(RegionsError, match="spiral:3"):
        opened.add(picture_folder)


def test_nothing_to_index_is_a_mistake(gallery: Gallery) -> None:
    with pytest.raises(UsageError, match="nothing to index"):
        gallery.add()


# More than one at a time


def test_a_reader_in_another_process_sees_new_commits(
    gallery: Gallery, picture: Picture, picture_folder: Path, tmp_path: Path
) -> None:
    reader = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from conftest import FakeEncoder; from patchwise import Gallery\n"
        "gallery = Gallery.open(sys.argv[2], encoder=FakeEncoder())\n"
        "for line in sys.stdin:\n"
        "    print(*(hit.path.rpartition('/')[2] for hit in gallery.search(line.strip(), k=3)), flush=True)\n"
    )
    picture(50).save(tmp_path / "query.png")
    with subprocess.Popen(
        [sys.executable, "-c", reader, str(Path(__file__).parent), str(tmp_path / "g")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def ask() -> list[str]:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{tmp_path / 'query.png'}\n")
            process.stdin.flush()
            return process.stdout.readline().split()

        first = ask()
        assert len(first) == 3 and "new.png" not in first
        picture(50).save(picture_folder / "new.png")
        gallery.add(picture_folder)
        assert ask()[0] == "new.png"
        gallery.remove(picture_folder / first[0])
        gallery.compact()
        assert ask() == names(gallery.search(picture(50), k=3))
        (picture_folder / "new.png").rename(picture_folder / "renamed.png")
        gallery.add(picture_folder)
        assert ask()[0] == "renamed.png"
        process.stdin.close()
    assert process.returncode == 0


def test_readers_never_stumble_over_a_compaction(
    gallery: Gallery, picture: Picture, picture_folder: Path, tmp_path: Path
) -> None:
    """Shards come and go while other processes open, search and verify: no lock, no missing file, no false damage."""
    reader = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from conftest import FakeEncoder, make_picture; from patchwise import Gallery\n"
        "query, rounds, end = make_picture(0), 0, time.monotonic() + 2\n"
        "while time.monotonic() < end:\n"
        "    with Gallery.open(sys.argv[2], encoder=FakeEncoder()) as gallery:\n"
        "        for _ in range(1 + rounds % 3):\n"
        "            assert gallery.search(query, k=3)[0].path.endswith('00.png')\n"
        "            assert gallery.verify().problems == []\n"
        "            gallery.info()\n"
        "        rounds += 1\n"
        "print(rounds)\n"
    )
    command = [sys.executable, "-c", reader, str(Path(__file__).parent), str(tmp_path / "g")]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    gallery.close()
    for seed in itertools.count(100):
        with Gallery.open(tmp_path / "g", encoder=gallery.encoder) as writer:
            picture(seed).save(picture_folder / "coming and going.png")
            writer.add(picture_folder)
            writer.compact()
        if all(process.poll() is not None for process in readers):
            break
    for process in readers:
        rounds, errors = process.communicate()
        assert errors == "" and int(rounds) > 5
    assert seed > 110


def test_threads_search_while_another_indexes(
    gallery: Gallery, picture: Picture, picture_folder: Path, tmp_path: Path
) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def search(seed: int) -> None:
        try:
            while not stop.is_set():
                hits = gallery.search(picture(seed), k=3)
                assert names(hits)[0] == f"{seed:02d}.png"
                gallery.explain(picture(seed), hits[0])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for seed in range(100, 112):
        picture(seed).save(picture_folder / f"{seed}.png")
        gallery.add(picture_folder)
        if seed % 3 == 0:
            (picture_folder / f"{seed}.png").unlink()
            gallery.add(picture_folder)
            gallery.compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("run", range(5))
def test_closing_while_threads_search(gallery: Gallery, fake_encoder: Any, picture: Picture, run: int) -> None:
    """Whoever comes too late hears that it is closed, and nothing of damage."""
    failures: list[BaseException] = []
    opened = Gallery.open(gallery.path, encoder=fake_encoder)
    searched = threading.Barrier(7)

    def search() -> None:
        waited = False
        try:
            while True:
                opened.search(picture(1), k=3, where="name like '%1%'")
                opened.images(limit=2)
                if not waited:
                    searched.wait(20)
                    waited = True
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(6)]
    for thread in threads:
        thread.start()
    searched.wait(20)
    opened.close()
    opened.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert [type(failure) for failure in failures] == [GalleryError] * 6
    assert {str(failure) for failure in failures} == {f"{gallery.path}: the gallery is closed; open it again"}
    for late in (len, Gallery.info, Gallery.images, Gallery.folders, Gallery.snapshot, lambda it: it.remove("/x")):
        with pytest.raises(GalleryError, match="the gallery is closed"):
            late(opened)
    assert names(gallery.search(picture(1), k=1)) == ["01.png"]


def test_a_second_writer_is_refused_and_loses_nothing(gallery: Gallery, picture_folder: Path, tmp_path: Path) -> None:
    with gallery._store.writer(), Gallery.open(gallery.path, encoder=gallery.encoder) as other:
        for call in (
            lambda: gallery.add(picture_folder),
            gallery.compact,
            lambda: other.add(picture_folder),
            lambda: other.remove(picture_folder),  # `gallery.remove` joins the writer
        ):
            with pytest.raises(GalleryBusy):
                call()
    assert gallery.add(picture_folder).unchanged == 6


def test_a_damaged_gallery_says_so_on_use(gallery: Gallery, picture: Picture, tmp_path: Path) -> None:
    gallery.close()
    (tmp_path / "g" / "vectors" / "000001.f16").unlink()
    with Gallery.open(tmp_path / "g", encoder=gallery.encoder) as opened:
        with pytest.raises(GalleryDamaged, match="verify --repair"):
            opened.search(picture(0))
        assert not opened.verify().ok
        assert opened.verify(repair=True).ok
        assert opened.search(picture(0)) == []


# Invariant 2: any order of changes gives the hits of a fresh build

NAMES = ["a.png", "b.png", "ü c.png", "sub/a.png", "sub/d.png", "sub2/a.png"]
SEEDS = range(6)
name_of = st.sampled_from(NAMES)
seed_of = st.sampled_from(SEEDS)


class Machine(RuleBasedStateMachine):
    """A folder and its gallery change in any order; after indexing, nothing tells it from a gallery made anew."""

    picture: Picture
    make_encoder: Callable[[], Any]

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="patchwise-machine-"))
        self.root = self.base / "root"
        self.root.mkdir()
        self.clock = itertools.count(1_600_000_000)
        self.fresh = itertools.count()
        self.expected: dict[int, list[tuple[Any, ...]]] = {seed: [] for seed in SEEDS}
        self.gallery = Gallery.create(self.base / "g", encoder=self.make_encoder(), regions="pyramid:1")

    def teardown(self) -> None:
        self.gallery.close()
        shutil.rmtree(self.base)

    @classmethod
    def content(cls, seed: int) -> bytes:
        if seed not in cls.contents:
            import io

            buffer = io.BytesIO()
            cls.picture(seed, (24 + seed, 20)).save(buffer, "PNG")
            cls.contents[seed] = buffer.getvalue()
        return cls.contents[seed]

    contents: ClassVar[dict[int, bytes]] = {}

    def there(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    def put(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        second = next(self.clock)
        os.utime(path, (second, second))

    def hits(self, gallery: Gallery) -> dict[int, list[tuple[Any, ...]]]:
        found = {}
        for seed in SEEDS:
            hits = gallery.search(self.content(seed), k=50)
            found[seed] = [(hit.path, hit.score, hit.box, hit.level, hit.cell, hit.size, hit.regions) for hit in hits]
            assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        return found

    @initialize(seeds=st.lists(seed_of, min_size=2, max_size=4))
    def some_pictures(self, seeds: list[int]) -> None:
        for name, seed in zip(NAMES, seeds, strict=False):
            self.put(name, self.content(seed))

    # The folder changes

    @rule(name=name_of, seed=seed_of)
    def write(self, name: str, seed: int) -> None:
        self.put(name, self.content(seed))

    @rule(name=name_of, seed=seed_of)
    def corrupt(self, name: str, seed: int) -> None:
        self.put(name, self.content(seed)[:60])

    @precondition(lambda self: self.there())
    @rule(data=st.data(), name=name_of)
    def rename(self, data: st.DataObject, name: str) -> None:
        source = data.draw(st.sampled_from(self.there()))
        (self.root / name).parent.mkdir(exist_ok=True)
        source.replace(self.root / name)

    @precondition(lambda self: self.there())
    @rule(data=st.data(), name=name_of, keep_time=st.booleans())
    def copy(self, data: st.DataObject, name: str, keep_time: bool) -> None:
        source = data.draw(st.sampled_from(self.there()))
        if source != self.root / name:
            stamp = source.stat().st_mtime_ns
            self.put(name, source.read_bytes())
            if keep_time:
                os.utime(self.root / name, ns=(stamp, stamp))

    @precondition(lambda self: self.there())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.there())).unlink()

    @precondition(lambda self: (self.root / "sub").is_dir())
    @rule()
    def rename_folder(self) -> None:
        assume(not (self.root / "sub2").exists())
        (self.root / "sub").rename(self.root / "sub2")

    # The gallery follows

    @rule()
    def index(self) -> None:
        try:
            self.gallery.add(self.root)
        except GalleryError as error:
            assert "holds no image any more" in str(error) and not self.there()
            self.gallery.remove(self.root)
        with Gallery.create(
            self.base / f"fresh{next(self.fresh)}", encoder=self.make_encoder(), regions="pyramid:1"
        ) as fresh:
            fresh.add(self.root)
            self.expected = self.hits(fresh)
            assert len(self.gallery) == len(fresh)
            assert sorted(self.gallery.info().unreadable) == sorted(fresh.info().unreadable)
            assert self.gallery.info().distinct_images == fresh.info().distinct_images
            assert self.gallery.info().regions == fresh.info().regions

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

    @rule()
    def reopen(self) -> None:
        self.gallery.close()
        self.gallery = Gallery.open(self.base / "g", encoder=self.make_encoder())

    @invariant()
    def hits_are_those_of_a_fresh_build(self) -> None:
        assert self.hits(self.gallery) == self.expected

    @invariant()
    def every_byte_is_as_it_was_written(self) -> None:
        assert self.gallery.verify().problems == []


@pytest.mark.slow
def test_changes_in_any_order_give_the_hits_of_a_fresh_build(
    picture: Picture, fake_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 2 * 48 * 12)  # a shard is full after two pictures
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    bound = type(
        "Bound", (Machine,), {"picture": staticmethod(picture), "make_encoder": staticmethod(type(fake_encoder))}
    )
    run_state_machine_as_test(
        bound,
        settings=settings(
            max_examples=50,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )
