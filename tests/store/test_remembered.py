"""Arrays kept of pictures: used while the file is the one indexed, made again when damaged, bounded, dropped."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from patchwise.errors import ImageUnreadable
from patchwise.store import Encoded, FileRow, Store
from patchwise.store.remembered import REMEMBERED, RememberedArrays, forget_dropped


class Counted:
    """Computes arrays of all the kinds that re-rankers keep, and counts how often."""

    def __init__(self, length: int = 3) -> None:
        self.calls, self.length = 0, length

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {
            "bytes": np.arange(self.length, dtype=np.uint8),
            "halves": np.full((2, 2), 0.5, dtype=np.float16),
            "none": np.empty((0, 2), dtype=np.float32),
            "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        }


@pytest.fixture
def photo(tmp_path: Path, store: Store, encoded: Callable[..., Encoded]) -> Callable[[int], str]:
    """Makes a file and indexes it: the number is its content."""

    def made(number: int) -> str:
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(bytes([number]) * 10)
        picture = encoded(str(path), number)
        status = path.stat()
        with store.writer() as writer:
            writer.add([Encoded(picture.path, status.st_mtime_ns, status.st_size, *_rest(picture))])
        return str(path)

    return made


def _rest(picture: Encoded) -> tuple[object, ...]:
    return picture.digest, picture.image_size, picture.regions, picture.vectors


def entries(store: Store) -> list[Path]:
    return sorted(path for path in (store.folder / REMEMBERED).rglob("*") if path.is_file())


def test_what_was_computed_is_kept_for_the_next_process_with_its_kinds_and_shapes(store, photo) -> None:
    path, compute = photo(1), Counted()
    first = RememberedArrays(store.folder, store.catalogue)(path, "corners", compute)
    again = RememberedArrays(store.folder, store.catalogue)(path, "corners", compute)
    assert compute.calls == 1
    assert first.keys() == again.keys()
    for name, array in first.items():
        assert again[name].dtype == array.dtype
        assert np.array_equal(again[name], array)


def test_other_names_and_other_pictures_are_kept_apart_and_copies_of_a_picture_are_not(store, photo, tmp_path) -> None:
    remembered, compute = RememberedArrays(store.folder, store.catalogue), Counted()
    path, other = photo(1), photo(2)
    for asked in ((path, "a"), (path, "b"), (other, "a")):
        remembered(*asked, compute)
    assert compute.calls == 3
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(Path(path).read_bytes())
    status = copy.stat()
    content = store.catalogue.content_of(path)
    with store.writer() as writer:
        writer.record(files=[FileRow(str(copy), status.st_mtime_ns, status.st_size, content)])
    remembered(str(copy), "a", compute)
    assert compute.calls == 3


@pytest.mark.parametrize("damage", [b"", b"short", b"\xff" * 400])
def test_damaged_entries_are_made_again(store, photo, damage) -> None:
    remembered, compute, path = RememberedArrays(store.folder, store.catalogue), Counted(), photo(1)
    remembered(path, "a", compute)
    (file,) = entries(store)
    file.write_bytes(damage)
    assert np.array_equal(remembered(path, "a", compute)["bytes"], [0, 1, 2])
    assert compute.calls == 2
    remembered(path, "a", compute)
    assert compute.calls == 2


def test_an_entry_under_anothers_name_is_not_taken_for_it(store, photo) -> None:
    remembered, compute, path = RememberedArrays(store.folder, store.catalogue), Counted(), photo(1)
    remembered(path, "a", compute)
    (file,) = entries(store)
    remembered(photo(2), "a", compute)
    (other,) = set(entries(store)) - {file}
    other.write_bytes(file.read_bytes())
    remembered(str(Path(path).with_name("2.jpg")), "a", compute)
    assert compute.calls == 3


def test_a_file_that_was_changed_is_computed_each_time_until_it_is_indexed_again(store, photo) -> None:
    remembered, compute, path = RememberedArrays(store.folder, store.catalogue), Counted(), photo(1)
    remembered(path, "a", compute)
    os.utime(path, ns=(1, 1))
    remembered(path, "a", compute)
    remembered(path, "a", compute)
    assert compute.calls == 3


def test_a_file_that_changes_while_it_is_looked_at_is_not_kept(store, photo) -> None:
    path = photo(1)

    def compute() -> dict[str, np.ndarray]:
        os.utime(path, ns=(1, 1))
        return Counted()()

    RememberedArrays(store.folder, store.catalogue)(path, "a", compute)
    assert not entries(store)


def test_a_file_that_is_gone_is_an_error_although_its_arrays_are_known(store, photo) -> None:
    remembered, path = RememberedArrays(store.folder, store.catalogue), photo(1)
    remembered(path, "a", Counted())
    os.unlink(path)
    with pytest.raises(ImageUnreadable):
        remembered(path, "a", Counted())


def test_the_oldest_go_when_there_is_too_much(store, photo) -> None:
    compute = Counted(1_000)
    remembered = RememberedArrays(store.folder, store.catalogue, most_bytes=10_000)
    paths = [photo(number) for number in range(12)]
    for age, path in enumerate(paths):
        before = set(entries(store))
        remembered(path, "a", compute)
        for file in set(entries(store)) - before:
            os.utime(file, (age, age))
    kept = entries(store)
    assert sum(file.stat().st_size for file in kept) <= 10_000
    assert 3 <= len(kept) < 12
    remembered(paths[-1], "a", compute)
    assert compute.calls == 12
    remembered(paths[0], "a", compute)
    assert compute.calls == 13


def test_what_takes_more_than_may_be_kept_is_not_kept(store, photo) -> None:
    remembered = RememberedArrays(store.folder, store.catalogue, most_bytes=1_000)
    remembered(photo(1), "a", Counted(5_000))
    assert not entries(store)


def test_where_nothing_can_be_written_all_is_computed(store, photo) -> None:
    (store.folder / REMEMBERED).write_text("in the way")
    remembered, compute, path = RememberedArrays(store.folder, store.catalogue), Counted(), photo(1)
    for _ in range(2):
        assert np.array_equal(remembered(path, "a", compute)["bytes"], [0, 1, 2])
    assert compute.calls == 2


def test_entries_of_pictures_that_were_removed_are_dropped_and_others_stay(store, photo) -> None:
    remembered, paths = RememberedArrays(store.folder, store.catalogue), [photo(1), photo(2)]
    for path in paths:
        remembered(path, "a", Counted())
        remembered(path, "b", Counted())
    assert forget_dropped(store.folder, store.catalogue) == 0
    with store.writer() as writer:
        writer.record(forgotten=[paths[0]])
    forget_dropped(store.folder, store.catalogue)
    (kept,) = {file.name for file in entries(store)}
    assert kept == store.catalogue.stored_file(paths[1])[0].hex()
    assert forget_dropped(store.folder.parent / "nowhere", store.catalogue) == 0


def test_what_a_killed_process_left_is_cleared_away_and_what_is_being_written_is_not(store, photo) -> None:
    remembered = RememberedArrays(store.folder, store.catalogue, most_bytes=10_000)
    remembered(photo(0), "a", Counted(1_500))
    (kept,) = entries(store)
    old, fresh = (kept.with_name(f".{name}-1.new") for name in ("old", "fresh"))
    for file in (old, fresh):
        file.write_bytes(b"half")
    os.utime(old, (1, 1))
    for number in range(1, 8):
        remembered(photo(number), "a", Counted(1_500))
    assert not old.exists()
    assert fresh.exists()
