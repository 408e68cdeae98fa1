"""Indexing runs: what is counted, what is encoded, what is kept when a run ends before its time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from patchwise import Gallery
from patchwise.errors import EncoderError, GalleryError, StorageFull, UsageError
from patchwise.indexing import IndexProgress, IndexReport
from patchwise.indexing import run as module

REGIONS = 5  # of each picture
Picture = Callable[..., Image.Image]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

_clock = iter(range(1_700_000_000, 1_800_000_000))


@pytest.fixture
def gallery(tmp_path: Path, fake_encoder: Any) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "g", encoder=fake_encoder, regions="pyramid:1") as made:
        yield made


def touch(path: Path) -> None:
    """Give a file a time of change that it never had before."""
    second = next(_clock)
    os.utime(path, (second, second))


def write(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    touch(path)


def counts(report: IndexReport) -> dict[str, int]:
    """Every count that is not zero."""
    found = {
        name: getattr(report, name)
        for name in ("added", "changed", "renamed", "copied", "unchanged", "removed", "still_failing")
    }
    found |= {"failed": len(report.failed), "encoded": report.encoded_regions}
    return {name: count for name, count in found.items() if count}


def paths(gallery: Gallery, picture: Image.Image, k: int = 100) -> list[str]:
    """Names of all hits, best first."""
    return [os.path.basename(hit.path) for hit in gallery.search(picture, k=k)]


# What is counted


def test_new_pictures_are_added_once(gallery: Gallery, picture_folder: Path, fake_encoder: Any) -> None:
    assert counts(gallery.add(picture_folder)) == {"added": 6, "encoded": 6 * REGIONS}
    assert len(gallery) == 6 and fake_encoder.encoded_regions == 6 * REGIONS
    report = gallery.add(picture_folder)
    assert counts(report) == {"unchanged": 6}
    assert fake_encoder.encoded_regions == 6 * REGIONS
    assert report.seconds > 0


def test_a_file_that_was_only_touched_is_not_encoded(gallery: Gallery, picture_folder: Path) -> None:
    gallery.add(picture_folder)
    touch(picture_folder / "00.png")
    assert counts(gallery.add(picture_folder)) == {"unchanged": 6}
    assert counts(gallery.add(picture_folder)) == {"unchanged": 6}


def test_a_changed_file_is_encoded_alone(gallery: Gallery, picture_folder: Path, picture: Picture) -> None:
    gallery.add(picture_folder)
    write(picture_folder / "03.png", picture(33))
    assert counts(gallery.add(picture_folder)) == {"changed": 1, "unchanged": 5, "encoded": REGIONS}
    assert paths(gallery, picture(33))[0] == "03.png"
    assert gallery.search(picture(3), k=1)[0].score < 0.99


def test_a_file_of_the_same_length_and_another_time_is_looked_at(
    gallery: Gallery, tmp_path: Path, picture: Picture
) -> None:
    folder = tmp_path / "bmp"
    write(folder / "a.bmp", picture(1))
    gallery.add(folder)
    size = (folder / "a.bmp").stat().st_size
    write(folder / "a.bmp", picture(2))
    assert (folder / "a.bmp").stat().st_size == size
    assert counts(gallery.add(folder)) == {"changed": 1, "encoded": REGIONS}


def test_renamed_and_moved_files_are_not_encoded(gallery: Gallery, picture_folder: Path, picture: Picture) -> None:
    gallery.add(picture_folder)
    (picture_folder / "00.png").rename(picture_folder / "new.png")
    (picture_folder / "deep").mkdir()
    (picture_folder / "01.png").rename(picture_folder / "deep" / "01.png")
    assert counts(gallery.add(picture_folder)) == {"renamed": 2, "unchanged": 4}
    assert paths(gallery, picture(0))[0] == "new.png"
    assert len(gallery) == 6


def test_a_renamed_folder_keeps_its_duplicates(gallery: Gallery, picture_folder: Path, picture: Picture) -> None:
    for name in ("a.png", "b.png"):
        write(picture_folder / "old" / name, picture(9))
    gallery.add(picture_folder)
    (picture_folder / "old").rename(picture_folder / "new")
    assert counts(gallery.add(picture_folder)) == {"renamed": 2, "unchanged": 6}


def test_a_file_moved_over_another(gallery: Gallery, picture_folder: Path, picture: Picture) -> None:
    gallery.add(picture_folder)
    (picture_folder / "00.png").replace(picture_folder / "01.png")
    touch(picture_folder / "01.png")
    assert counts(gallery.add(picture_folder)) == {"renamed": 1, "unchanged": 4}
    assert sorted(paths(gallery, picture(0))) == [f"{number:02d}.png" for number in range(1, 6)]
    assert paths(gallery, picture(0))[0] == "01.png"


def test_two_files_that_swap_names(gallery: Gallery, picture_folder: Path, picture: Picture) -> None:
    gallery.add(picture_folder)
    for number, seed in ((0, 1), (1, 0)):
        write(picture_folder / f"{number:02d}.png", picture(seed))
    assert counts(gallery.add(picture_folder)) == {"renamed": 2, "unchanged": 4}
    assert paths(gallery, picture(0))[0] == "01.png" and paths(gallery, picture(1))[0] == "00.png"


def test_copies_are_not_encoded_and_all_found(gallery: Gallery, picture_folder: Path, picture: Picture) -> None:
    gallery.add(picture_folder)
    shutil.copy(picture_folder / "00.png", picture_folder / "copy.png")
    assert counts(gallery.add(picture_folder)) == {"copied": 1, "unchanged": 6}
    hits = gallery.search(picture(0), k=2)
    assert [os.path.basename(hit.path) for hit in hits] == ["00.png", "copy.png"]
    assert hits[0].score == hits[1].score
    assert gallery.info().distinct_images == 6 and len(gallery) == 7


@pytest.mark.parametrize("commit", [1, 2, 64])
def test_duplicates_that_come_together_are_encoded_once(
    gallery: Gallery,
    tmp_path: Path,
    picture: Picture,
    fake_encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
    commit: int,
) -> None:
    """Whether the copy is looked at before, while or after its twin is encoded and stored."""
    monkeypatch.setattr(module, "_COMMIT_PICTURES", commit)
    folder = tmp_path / "many"
    for number in range(12):
        write(folder / f"{number:02d}.png", picture(number % 3))
    report = gallery.add(folder)
    assert counts(report) == {"added": 3, "copied": 9, "encoded": 3 * REGIONS}
    assert fake_encoder.encoded_regions == 3 * REGIONS
    assert len(gallery) == 12 and gallery.info().distinct_images == 3
    assert gallery.verify().problems == []
    assert paths(gallery, picture(1), k=4) == ["01.png", "04.png", "07.png", "10.png"]
    assert counts(gallery.add(folder)) == {"unchanged": 12}


def test_known_files_that_become_copies_of_one_new_picture(
    gallery: Gallery, picture_folder: Path, picture: Picture
) -> None:
    gallery.add(picture_folder)
    for name in ("00.png", "01.png"):
        write(picture_folder / name, picture(50))
    assert counts(gallery.add(picture_folder)) == {"changed": 2, "unchanged": 4, "encoded": REGIONS}
    assert paths(gallery, picture(50), k=2) == ["00.png", "01.png"]


def test_vanished_files_are_dropped(gallery: Gallery, picture_folder: Path, picture: Picture) -> None:
    gallery.add(picture_folder)
    (picture_folder / "00.png").unlink()
    assert counts(gallery.add(picture_folder)) == {"removed": 1, "unchanged": 5}
    assert "00.png" not in paths(gallery, picture(0))


def test_a_picture_that_comes_back_is_not_encoded(gallery: Gallery, picture_folder: Path, picture: Picture) -> None:
    gallery.add(picture_folder)
    (picture_folder / "00.png").rename(picture_folder.parent / "away.png")
    gallery.add(picture_folder)
    (picture_folder.parent / "away.png").rename(picture_folder / "00.png")
    report = gallery.add(picture_folder)
    assert report.encoded_regions == 0 and len(gallery) == 6
    assert paths(gallery, picture(0))[0] == "00.png"


def test_everything_at_once(gallery: Gallery, picture_folder: Path, picture: Picture) -> None:
    gallery.add(picture_folder)
    write(picture_folder / "new.png", picture(20))
    write(picture_folder / "00.png", picture(21))
    (picture_folder / "01.png").rename(picture_folder / "renamed.png")
    shutil.copy(picture_folder / "02.png", picture_folder / "copied.png")
    (picture_folder / "03.png").unlink()
    touch(picture_folder / "04.png")
    (picture_folder / "bad.png").write_bytes(b"no image")
    assert counts(gallery.add(picture_folder)) == {
        "added": 1,
        "changed": 1,
        "renamed": 1,
        "copied": 1,
        "removed": 1,
        "unchanged": 3,
        "failed": 1,
        "encoded": 2 * REGIONS,
    }


def test_progress_counts_every_file_that_needs_a_look(gallery: Gallery, picture_folder: Path) -> None:
    gallery.add(picture_folder / "00.png")
    (picture_folder / "bad.png").write_bytes(b"no image")
    shutil.copy(picture_folder / "00.png", picture_folder / "copy.png")
    shutil.copy(picture_folder / "01.png", picture_folder / "twin.png")
    seen: list[IndexProgress] = []
    gallery.add(picture_folder, progress=seen.append)
    assert [(event.done, event.total) for event in seen] == [(number, 8) for number in range(1, 9)]
    (failed,) = [event.failed for event in seen if event.failed]
    assert failed[0] == str(picture_folder / "bad.png")


def test_the_encoder_is_loaded_only_when_needed(
    gallery: Gallery, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.add(picture_folder)

    def forbidden(self: Gallery) -> None:
        raise AssertionError("loaded without need")

    monkeypatch.setattr(Gallery, "encoder", property(forbidden))
    assert counts(gallery.add(picture_folder)) == {"unchanged": 6}
    (picture_folder / "00.png").unlink()
    assert counts(gallery.add(picture_folder)) == {"unchanged": 5, "removed": 1}


# What is not touched


def test_one_folder_never_drops_another(gallery: Gallery, tmp_path: Path, picture: Picture) -> None:
    for name in ("a", "ab", "a/below", "b"):
        write(tmp_path / name / "1.png", picture(len(name)))
    gallery.add(tmp_path / "a", tmp_path / "ab", tmp_path / "b")
    for name in ("a/1.png", "ab/1.png", "b/1.png"):
        (tmp_path / name).unlink()
    assert counts(gallery.add(tmp_path / "a")) == {"removed": 1, "unchanged": 1}
    assert len(gallery) == 3
    assert counts(gallery.add(tmp_path / "a" / "below")) == {"unchanged": 1}
    assert len(gallery) == 3


def test_one_file_never_drops_its_neighbours(gallery: Gallery, picture_folder: Path) -> None:
    gallery.add(picture_folder)
    for path in picture_folder.iterdir():
        if path.name != "00.png":
            path.unlink()
    assert counts(gallery.add(picture_folder / "00.png")) == {"unchanged": 1}
    assert len(gallery) == 6


@pytest.mark.parametrize("left", ["nothing", "other files", "a broken image"])
def test_an_emptied_folder_is_refused(
    gallery: Gallery, picture_folder: Path, tmp_path: Path, picture: Picture, left: str
) -> None:
    """As when the drive is not mounted: the images must not be forgotten."""
    gallery.add(picture_folder)
    shutil.rmtree(picture_folder)
    picture_folder.mkdir()
    if left == "other files":
        (picture_folder / "README.txt").write_text("mount here")
    if left == "a broken image":
        (picture_folder / "bad.png").write_bytes(b"")
        assert counts(gallery.add(picture_folder)) == {"removed": 6, "failed": 1}
        return
    write(tmp_path / "other" / "a.png", picture(9))
    for roots in ([picture_folder], [tmp_path / "other", picture_folder]):
        with pytest.raises(GalleryError, match="gallery knows 6 from there") as raised:
            gallery.add(*roots)
        assert f"patchwise remove {picture_folder}" in str(raised.value)
        assert len(gallery) == 6
    assert gallery.remove(picture_folder) == 6
    assert counts(gallery.add(picture_folder)) == {}


def test_an_unreadable_folder_elsewhere_does_not_excuse_an_emptied_one(
    gallery: Gallery, picture_folder: Path, tmp_path: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.add(picture_folder)
    shutil.rmtree(picture_folder)
    picture_folder.mkdir()
    write(tmp_path / "other" / "a.png", picture(9))
    (tmp_path / "other" / "closed").mkdir()
    really = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(GalleryError, match="gallery knows 6 from there"):
        gallery.add(tmp_path / "other", picture_folder)
    assert len(gallery) == 6


def test_an_emptied_folder_that_held_only_unreadable_files_is_fine(gallery: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "bad.png").write_bytes(b"no image")
    gallery.add(folder)
    (folder / "bad.png").unlink()
    assert counts(gallery.add(folder)) == {}
    assert gallery.info().unreadable == []


def test_a_file_named_itself_that_is_gone(gallery: Gallery, picture_folder: Path) -> None:
    gallery.add(picture_folder / "00.png")
    (picture_folder / "00.png").unlink()
    with pytest.raises(UsageError, match=r"no such file.*patchwise remove"):
        gallery.add(picture_folder / "00.png")
    assert len(gallery) == 1


def test_a_folder_that_became_a_file(gallery: Gallery, tmp_path: Path, picture: Picture) -> None:
    write(tmp_path / "x.png" / "1.png", picture(1))
    gallery.add(tmp_path / "x.png")
    shutil.rmtree(tmp_path / "x.png")
    write(tmp_path / "x.png", picture(2))
    assert counts(gallery.add(tmp_path / "x.png")) == {"added": 1, "removed": 1, "encoded": REGIONS}


def test_below_a_folder_that_cannot_be_read_nothing_is_forgotten(
    picture_folder: Path, tmp_path: Path, unprivileged: Run
) -> None:
    shutil.copytree(picture_folder, picture_folder / "closed" / "deep")
    code = (
        "import sys; from patchwise import Gallery\n"
        "with Gallery.open_or_create(sys.argv[1], regions='whole') as gallery:\n"
        "    report = gallery.add(sys.argv[2])\n"
        "    print(len(gallery), report.removed, [folder for folder, _ in report.unreadable_folders])"
    )
    first = unprivileged("-c", code, tmp_path / "g", picture_folder)
    assert (first.stdout, first.stderr) == ("12 0 []\n", "")
    for closed in (picture_folder / "closed", picture_folder):
        (picture_folder / "00.png").unlink(missing_ok=True)
        closed.chmod(0)
        again = unprivileged("-c", code, tmp_path / "g", picture_folder)
        closed.chmod(0o755)
        removed = 1 if closed != picture_folder else 0
        assert (again.stdout, again.stderr) == (f"11 {removed} {[str(closed)]}\n", "")


# Images that cannot be read


def test_an_unreadable_image_is_reported_counted_and_retried_when_it_changes(
    gallery: Gallery, picture_folder: Path, picture: Picture, fake_encoder: Any
) -> None:
    bad = picture_folder / "bad.png"
    bad.write_bytes(b"no image")
    report = gallery.add(picture_folder)
    assert counts(report) == {"added": 6, "failed": 1, "encoded": 6 * REGIONS}
    assert report.failed[0][0] == str(bad) and "not an image" in report.failed[0][1]
    assert gallery.info().unreadable == report.failed
    assert len(gallery) == 6

    assert counts(gallery.add(picture_folder)) == {"unchanged": 6, "still_failing": 1}
    touch(bad)
    assert counts(gallery.add(picture_folder)) == {"unchanged": 6, "failed": 1}
    write(bad, picture(30))
    assert counts(gallery.add(picture_folder)) == {"unchanged": 6, "added": 1, "encoded": REGIONS}
    assert gallery.info().unreadable == [] and len(gallery) == 7


def test_an_image_that_becomes_corrupt_leaves_the_hits_and_comes_back_without_encoding(
    gallery: Gallery, picture_folder: Path, picture: Picture, fake_encoder: Any
) -> None:
    gallery.add(picture_folder)
    target = picture_folder / "00.png"
    good = target.read_bytes()
    target.write_bytes(good[: len(good) // 2])
    touch(target)
    assert counts(gallery.add(picture_folder)) == {"failed": 1, "unchanged": 5}
    assert "00.png" not in paths(gallery, picture(0)) and len(gallery) == 5
    target.write_bytes(good)
    touch(target)
    encoded = fake_encoder.encoded_regions
    assert gallery.add(picture_folder).encoded_regions == 0
    assert fake_encoder.encoded_regions == encoded
    assert paths(gallery, picture(0))[0] == "00.png" and len(gallery) == 6


def test_a_file_that_vanishes_before_it_is_read(
    gallery: Gallery, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = module.read_and_hash

    def too_late(file: Any) -> Any:
        if file.path.endswith("00.png"):
            os.unlink(file.path)
        return really(file)

    monkeypatch.setattr(module, "read_and_hash", too_late)
    report = gallery.add(picture_folder)
    assert counts(report) == {"added": 5, "failed": 1, "encoded": 5 * REGIONS}
    monkeypatch.undo()
    assert counts(gallery.add(picture_folder)) == {"unchanged": 5}
    assert gallery.info().unreadable == []


def test_larger_images_than_allowed_are_unreadable(gallery: Gallery, picture_folder: Path) -> None:
    report = gallery.add(picture_folder, max_pixels=96 * 64 - 1)
    assert len(report.failed) == 6 and all("--max-pixels" in reason for _, reason in report.failed)


def test_large_files_are_hashed_without_being_held_in_memory(
    gallery: Gallery, picture_folder: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.add(picture_folder / "00.png")
    monkeypatch.setattr("patchwise.indexing.prepare._READ_WHOLE_BYTES", 10)
    shutil.copy(picture_folder / "00.png", picture_folder / "copy.png")
    assert counts(gallery.add(picture_folder)) == {"copied": 1, "added": 5, "unchanged": 1, "encoded": 5 * REGIONS}
    assert paths(gallery, picture(3))[0] == "03.png"


# Runs that end before their time


class Interrupting:
    """An encoder that fails after so many regions."""

    def __init__(self, encoder: Any, after: int, error: BaseException) -> None:
        self._encoder, self._after, self._error = encoder, after, error
        self.batch_size = 4

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self._encoder.encoded_regions >= self._after:
            raise self._error
        vectors: npt.NDArray[np.float32] = self._encoder.encode(pixels)
        return vectors


ERRORS = [KeyboardInterrupt(), EncoderError("broken"), RuntimeError("a bug"), MemoryError(), StorageFull("full")]


@pytest.mark.parametrize("after", [0, 5, 12, 28])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_interrupted_run_keeps_what_is_committed_and_goes_on(
    gallery: Gallery,
    picture_folder: Path,
    tmp_path: Path,
    fake_encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    after: int,
) -> None:
    monkeypatch.setattr(module, "_COMMIT_PICTURES", 2)
    gallery.close()
    interrupting = Interrupting(fake_encoder, after, error)
    with Gallery.open(tmp_path / "g", encoder=interrupting) as stopped, pytest.raises(type(error)):
        stopped.add(picture_folder)
    encoded = fake_encoder.encoded_regions
    with Gallery.open(tmp_path / "g", encoder=fake_encoder) as opened:
        kept = len(opened)
        complete = encoded // REGIONS
        # At most the batch under way and the pictures of one commit are lost; a person who stops a run loses only
        # pictures that are not encoded to the end.
        assert complete - 2 <= kept <= complete
        if isinstance(error, KeyboardInterrupt):
            assert kept == complete
        assert opened.verify().problems == []
        report = opened.add(picture_folder)
        assert counts(report) == {
            key: count
            for key, count in {
                "added": 6 - kept,
                "unchanged": kept,
                "encoded": (6 - kept) * REGIONS,
            }.items()
            if count
        }
        assert len(opened) == opened.info().distinct_images == 6
        assert opened.info().dead_regions == 0
        assert opened.verify().problems == []


@pytest.mark.parametrize("moment", ["picture", "commit"])
def test_a_keyboard_interrupt_anywhere_else_keeps_what_is_encoded(
    gallery: Gallery, picture_folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    seen = 0

    def stop(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise KeyboardInterrupt

    shutil.copy(picture_folder / "00.png", picture_folder / "00 twin.png")
    if moment == "picture":
        with pytest.raises(KeyboardInterrupt):
            gallery.add(picture_folder, progress=stop)
    else:
        monkeypatch.setattr(module, "_COMMIT_PICTURES", 1)
        really = module.Writer.add

        def add(self: Any, pictures: Any) -> None:
            really(self, pictures)
            stop()

        monkeypatch.setattr(module.Writer, "add", add)
        with pytest.raises(KeyboardInterrupt):
            gallery.add(picture_folder)
    monkeypatch.undo()
    kept = len(gallery)
    assert 1 <= kept < 7
    assert gallery.verify().problems == []
    assert counts(gallery.add(picture_folder))["unchanged"] == kept
    assert len(gallery) == 7 and gallery.info().distinct_images == 6
    assert gallery.info().dead_regions == 0


@pytest.mark.parametrize("stop_at", [1, 3])
def test_whatever_progress_raises_ends_the_run_and_keeps_what_is_encoded(
    gallery: Gallery, picture_folder: Path, fake_encoder: Any, stop_at: int
) -> None:
    class Cancelled(Exception):
        pass

    def stop(event: module.IndexProgress) -> None:
        if event.done == stop_at:
            raise Cancelled

    with pytest.raises(Cancelled):
        gallery.add(picture_folder, progress=stop)
    assert len(gallery) == stop_at
    assert gallery.verify().problems == []
    encoded = fake_encoder.encoded_regions
    assert encoded < 6 * REGIONS  # it did end
    assert gallery.add(picture_folder).added == 6 - stop_at
    assert len(gallery) == gallery.info().distinct_images == 6


def test_an_interrupted_rename_is_finished_by_the_next_run(
    gallery: Gallery, picture_folder: Path, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.add(picture_folder)
    (picture_folder / "00.png").rename(picture_folder / "new.png")
    really = module.Writer.record

    def record(self: Any, **changes: Any) -> None:
        if "forgotten" in changes:
            raise KeyboardInterrupt
        really(self, **changes)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.Writer, "record", record)
        gallery.add(picture_folder)
    report = gallery.add(picture_folder)
    assert report.encoded_regions == 0 and len(gallery) == 6
    assert paths(gallery, picture(0))[0] == "new.png"
