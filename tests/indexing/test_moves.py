"""Metadata follow pictures that are renamed, swapped or moved over others, whatever ends a run before its time."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from patchwise import Gallery
from patchwise.indexing import run as module
from patchwise.indexing.moves import moved_files, worth_comparing
from patchwise.indexing.walk import FoundFile
from patchwise.store import FileRow

Picture = Callable[..., Image.Image]


class Killed(BaseException):
    """Nothing more is written after it."""


@pytest.fixture
def gallery(tmp_path: Path, fake_encoder: Any) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "g", encoder=fake_encoder, regions="whole") as made:
        yield made


class Folder:
    """Pictures that are moved about, and what a gallery ought to say of each file after the next run."""

    def __init__(self, root: Path, gallery: Gallery, picture: Picture, ending: str) -> None:
        self.root, self._gallery, self._picture, self._ending = root, gallery, picture, ending
        self.holds: dict[str, int] = {}  # picture by name of its file
        self._held: dict[str, int] = {}  # when it was indexed last
        self.says: dict[str, str | None] = {}
        self._pictures, self._times = itertools.count(), itertools.count(1_700_000_000)
        (root / "deep").mkdir(parents=True)

    def _touch(self, name: str) -> None:
        second = next(self._times)
        os.utime(self.root / name, (second, second))

    def draw(self, name: str) -> None:
        """A new picture under a name."""
        self.holds[name] = next(self._pictures)
        self._picture(self.holds[name], (24, 24)).save(self.root / name)
        self._touch(name)

    def move(self, old: str, new: str) -> None:
        os.replace(self.root / old, self.root / new)
        self.holds[new] = self.holds.pop(old)

    def copy(self, old: str, new: str) -> None:
        shutil.copy(self.root / old, self.root / new)
        self.holds[new] = self.holds[old]
        self._touch(new)

    def delete(self, name: str) -> None:
        (self.root / name).unlink()
        del self.holds[name]

    def at_random(self, choose: random.Random) -> None:
        """Change something."""
        names = sorted(self.holds)
        free = [
            name
            for name in (f"{folder}{n}{self._ending}" for folder in ("", "deep/") for n in range(9))
            if name not in names
        ]
        if len(names) < 4:
            self.draw(choose.choice(free))
            return
        one, other = choose.sample(names, 2)
        match choose.choice(["edit", "new", "delete", "rename", "over", "swap", "chain", "copy", "copy over"]):
            case "edit":
                self.draw(one)
            case "new" if free:
                self.draw(choose.choice(free))
            case "delete":
                self.delete(one)
            case "rename" if free:
                self.move(one, choose.choice(free))
            case "over":
                self.move(one, other)
            case "swap":
                self.move(one, "aside")
                self.move(other, one)
                self.move("aside", other)
            case "chain" if free:
                to = choose.choice(free)
                for name in choose.sample(names, min(4, len(names))):
                    self.move(name, to)
                    to = name
            case "copy" if free:
                self.copy(one, choose.choice(free))
            case "copy over":
                self.copy(one, other)

    def describe(self, names: list[str], file: Path) -> None:
        """Say of each which picture it holds; of those that hold one picture all or none."""
        file.write_text("path,words\n" + "".join(f"{name},of {self.holds[name]}\n" for name in names))
        self._gallery.add_metadata(file, relative_to=[self.root])
        self.says |= {name: f"of {self.holds[name]}" for name in names}

    def said(self) -> dict[str, str | None]:
        return {name: self._gallery.metadata(self.root / name).get("words") for name in self.holds}

    def check(self) -> None:
        """Compare what the gallery says with what it ought to, by what every file held before and holds now."""
        before, now, said = self._held, self.holds, self.said()
        left = {name: before[name] for name in before if now.get(name) != before[name]}
        came = {name: now[name] for name in now if before.get(name) != now[name]}
        leaving, coming = Counter(left.values()), Counter(came.values())
        for name in now.keys() - came.keys():
            assert said[name] == self.says.get(name), f"{name} was left alone"
        for name, picture in came.items():
            if picture in before.values():
                theirs = {self.says.get(old) for old in left if left[old] == picture}
                assert said[name] in {None, *theirs}, f"{name} says what is said of another picture"
            elif name in before and not coming[before[name]]:
                assert said[name] == self.says.get(name), f"{name} was edited"
            elif name not in before or coming[before[name]] >= leaving[before[name]]:
                assert said[name] is None, f"{name} is new, or what was said of it went with its picture"
        for picture, times in leaving.items():
            told = sorted(str(self.says.get(old)) for old in left if left[old] == picture)
            heard = sorted(str(said[new]) for new in came if came[new] == picture)
            if coming[picture] >= times:
                assert heard == sorted(told + ["None"] * (coming[picture] - times)), f"{picture} was moved"
            elif coming[picture]:
                assert all(words in told for words in heard)
        self._held, self.says = dict(now), said


@pytest.mark.parametrize("ending", [".png", ".bmp"])  # of as many sizes as pictures, and of one
@pytest.mark.parametrize("seed", range(6))
def test_words_go_with_their_pictures_and_with_no_other(
    gallery: Gallery, tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch, seed: int, ending: str
) -> None:
    choose = random.Random(seed)
    monkeypatch.setattr(module, "_COMMIT_PICTURES", choose.choice([1, 3, 64]))
    folder = Folder(tmp_path / "pictures", gallery, picture, ending)
    for number in range(6):
        folder.draw(f"{number}{ending}")
    for _ in range(12):
        for _ in range(choose.randint(1, 5)):
            folder.at_random(choose)
        while choose.random() < 0.4:
            with monkeypatch.context() as patch:
                killed_after(choose.randint(0, 3), patch)
                with suppress(Killed):
                    gallery.add(folder.root)
        gallery.add(folder.root)
        folder.check()
        pictures = {one for one in folder.holds.values() if choose.random() < 0.3}
        folder.describe([name for name, one in folder.holds.items() if one in pictures], tmp_path / "m.csv")


def killed_after(writes: int, patch: pytest.MonkeyPatch) -> None:
    """From then on nothing is committed any more."""
    left = itertools.count(writes, -1)

    def until_killed(really: Any) -> Any:
        def write(*args: Any, **kwargs: Any) -> Any:
            if next(left) <= 0:
                raise Killed
            return really(*args, **kwargs)

        return write

    for name in ("add", "record"):
        patch.setattr(module.Writer, name, until_killed(getattr(module.Writer, name)))


@pytest.fixture
def numbered(gallery: Gallery, tmp_path: Path, picture: Picture) -> Folder:
    """0.png to 5.png, indexed and described."""
    folder = Folder(tmp_path / "pictures", gallery, picture, ".png")
    for number in range(6):
        folder.draw(f"{number}.png")
    gallery.add(folder.root)
    folder.describe(sorted(folder.holds), tmp_path / "m.csv")
    return folder


def test_a_chain_of_renames(gallery: Gallery, numbered: Folder) -> None:
    for number in range(5, -1, -1):
        numbered.move(f"{number}.png", f"{number + 1}.png")
    report = gallery.add(numbered.root)
    assert (report.renamed, report.removed, report.changed, report.copied) == (6, 0, 0, 0)
    assert numbered.said() == {f"{number + 1}.png": f"of {number}" for number in range(6)}


def test_an_interrupt_never_parts_a_picture_from_its_words(
    gallery: Gallery, numbered: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5, -1, -1):
        numbered.move(f"{number}.png", f"{number + 1}.png")
    really = module.Writer.record
    interrupts = iter([KeyboardInterrupt()])

    def record(self: Any, **changes: Any) -> None:
        for interrupt in interrupts:
            raise interrupt
        really(self, **changes)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.Writer, "record", record)
        gallery.add(numbered.root)
    gallery.add(numbered.root)
    assert numbered.said() == {f"{number + 1}.png": f"of {number}" for number in range(6)}


def test_a_new_picture_where_one_was_moved_away(gallery: Gallery, numbered: Folder) -> None:
    numbered.move("0.png", "6.png")
    numbered.draw("0.png")
    report = gallery.add(numbered.root)
    assert (report.renamed, report.changed, report.removed) == (1, 1, 0)
    assert numbered.said() == {"0.png": None, "6.png": "of 0"} | {f"{n}.png": f"of {n}" for n in range(1, 6)}


def test_overwritten_by_a_file_that_moved_and_by_a_copy(gallery: Gallery, numbered: Folder) -> None:
    numbered.move("4.png", "3.png")
    numbered.copy("0.png", "1.png")
    gallery.add(numbered.root)
    assert numbered.said() == {
        "0.png": "of 0",
        "1.png": None,
        "2.png": "of 2",
        "3.png": "of 4",
        "5.png": "of 5",
    }


def test_a_picture_that_nothing_is_said_of_brings_nothing(gallery: Gallery, numbered: Folder) -> None:
    numbered.draw("6.png")
    gallery.add(numbered.root)
    numbered.move("6.png", "0.png")
    gallery.add(numbered.root)
    assert numbered.said()["0.png"] is None


def test_what_a_file_of_the_same_run_says_wins(gallery: Gallery, numbered: Folder, tmp_path: Path) -> None:
    numbered.move("0.png", "6.png")
    numbered.move("1.png", "2.png")
    (tmp_path / "new.csv").write_text("path,words\n6.png,told\n2.png,told too\n")
    gallery.add(numbered.root, metadata=tmp_path / "new.csv")
    assert numbered.said()["6.png"] == "told" and numbered.said()["2.png"] == "told too"


def test_a_copy_of_a_picture_in_another_folder(
    gallery: Gallery, numbered: Folder, tmp_path: Path, picture: Picture
) -> None:
    (tmp_path / "elsewhere").mkdir()
    picture(99).save(tmp_path / "elsewhere" / "x.png")
    gallery.add(tmp_path / "elsewhere")
    shutil.copy(tmp_path / "elsewhere" / "x.png", numbered.root / "0.png")
    gallery.add(numbered.root)
    assert numbered.said()["0.png"] is None


def test_what_is_said_of_a_file_outlasts_that_it_cannot_be_read(gallery: Gallery, numbered: Folder) -> None:
    kept = (numbered.root / "0.png").read_bytes()
    (numbered.root / "0.png").write_bytes(b"no image")
    assert gallery.add(numbered.root).failed
    (numbered.root / "0.png").write_bytes(kept)
    gallery.add(numbered.root)
    assert numbered.said()["0.png"] == "of 0"


def test_folders_of_duplicates_keep_their_order(gallery: Gallery, numbered: Folder, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (numbered.root / folder).mkdir()
        shutil.copy(numbered.root / "0.png", numbered.root / folder / "same.png")
    gallery.add(numbered.root)
    (tmp_path / "m.csv").write_text("path,words\na/same.png,in a\nb/same.png,in b\n")
    gallery.add_metadata(tmp_path / "m.csv", relative_to=[numbered.root])
    (numbered.root / "new").mkdir()
    for folder in ("b", "a"):
        (numbered.root / folder).rename(numbered.root / "new" / folder)
    assert gallery.add(numbered.root).renamed == 2
    for folder in ("a", "b"):
        path = numbered.root / "new" / folder / "same.png"
        assert gallery.metadata(path) == {"words": f"in {folder}"}


def test_only_files_of_a_size_that_left_are_compared() -> None:
    known = {path: FileRow(path, 0, size, 1) for path, size in {"/a": 10, "/b": 20, "/c": 30}.items()}
    todo = [FoundFile("/b", 1, 20), FoundFile("/c", 1, 31), FoundFile("/d", 1, 10), FoundFile("/e", 1, 5)]
    assert worth_comparing(todo, known, ["/a"]) == {"/d"}
    assert worth_comparing([*todo, FoundFile("/f", 1, 30)], known, ["/a"]) == {"/c", "/d", "/f"}
    assert worth_comparing(todo, {}, []) == set()
    assert worth_comparing(todo[1:2], {"/c": FileRow("/c", 0, 31, None)}, []) == set()


def test_of_several_the_described_one_is_taken() -> None:
    known = {path: FileRow(path, 0, 1, 7) for path in ("/a", "/b", "/c")}
    for described in known:
        assert moved_files({"/new": 7}, known, list(known), described.__eq__) == {"/new": described}
