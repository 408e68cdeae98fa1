"""Uploads on disk: names that stay in their folder, one file for one picture, nothing half kept or half deleted."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from patchwise.errors import ImageUnreadable, StorageFull
from patchwise.images import digest_of
from patchwise.server.presence import Presence
from patchwise.server.unfinished import Unfinished, UnfinishedJob
from patchwise.server.uploads import Uploads, check_picture, safe_name

from .conftest import png

DIGEST = "5f1d7a84db00d2fce00b31a7fc73224f"
Picture = Callable[..., Image.Image]


@given(st.text(max_size=400), st.sampled_from(["JPEG", "PNG", "MPO", "TIFF", "anything"]))
@example("../../etc/passwd", "PNG")
@example("..\\..\\windows\\system32\\a.png", "PNG")
@example("/", "PNG")
@example("....", "PNG")
@example(".htaccess", "PNG")
@example("a\0.png", "PNG")
@example("a\r\nSet-Cookie: b.png", "PNG")
@example("\u202egnp.exe", "PNG")
@example("CON", "PNG")
@example("-rf", "PNG")
@example("e\u0301" * 200, "PNG")
@example("\ud800.png", "PNG")
@example("語" * 300 + ".jpg", "JPEG")
def test_names_never_leave_their_folder(name: str, file_format: str) -> None:
    safe = safe_name(name, DIGEST, file_format)
    assert os.path.basename(safe) == safe and "\\" not in safe
    assert safe not in (".", "..") and safe[0] not in ".-~ "
    assert len(os.fsencode(safe)) <= 120
    assert not any(unicodedata.category(one)[0] == "C" for one in safe)
    assert not set(safe) & set('<>:"|?*/\0')
    assert os.path.splitext(safe)[0].endswith(f"-{DIGEST[:12]}")
    assert os.path.normpath(os.path.join("/folder", safe)) == f"/folder/{safe}"
    assert safe_name(safe, DIGEST, file_format)  # a name that was made can be sent again


@pytest.mark.parametrize(
    ("name", "file_format", "expected"),
    [
        ("Holiday 2024.jpeg", "JPEG", "Holiday 2024-5f1d7a84db00.jpg"),
        ("photo.png", "JPEG", "photo-5f1d7a84db00.jpg"),  # what it is, not what it says
        ("shell.php", "PNG", "shell.php-5f1d7a84db00.png"),
        ("C:\\Users\\me\\cat.webp", "WEBP", "cat-5f1d7a84db00.webp"),
        ("café.tiff", "TIFF", "café-5f1d7a84db00.tif"),
        ("", "GIF", "picture-5f1d7a84db00.gif"),
        (".png", "PNG", "png-5f1d7a84db00.png"),
    ],
)
def test_names_keep_what_can_be_kept(name: str, file_format: str, expected: str) -> None:
    assert safe_name(name, DIGEST, file_format) == expected


def test_pictures_are_checked_to_their_end(picture: Picture) -> None:
    content = png(picture(0))
    assert check_picture("a.png", content, 10_000) == "PNG"
    for broken in (content[: len(content) // 2], b"", b"<svg/>", b"GIF89a"):
        with pytest.raises(ImageUnreadable):
            check_picture("a.png", broken, 10_000)


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    uploads = Uploads(tmp_path / "uploads")
    yield uploads
    uploads.presence.end()


def visible(uploads: Uploads) -> list[str]:
    return sorted(name for name in os.listdir(uploads.folder) if name != ".servers")


def test_the_same_picture_is_one_file_whatever_it_is_called(uploads: Uploads, picture: Picture) -> None:
    one, other = png(picture(0)), png(picture(1))
    names, new = uploads.keep([("a.png", one, "PNG"), ("b.png", one, "PNG"), ("c.png", other, "PNG")])
    assert names[0] == names[1] == f"a-{digest_of(one)[:12]}.png"
    assert new == [names[0], names[2]]
    assert visible(uploads) == sorted(new)
    assert (uploads.folder / names[0]).read_bytes() == one
    assert uploads.keep([("z.png", one, "PNG")]) == ([names[0]], [])
    uploads.presence.end()
    assert Uploads(uploads.folder).keep([("z.png", one, "PNG")]) == ([names[0]], [])  # after a new start


def test_a_name_that_is_taken_by_another_picture_is_made_longer(uploads: Uploads, picture: Picture) -> None:
    one = png(picture(0))
    uploads.folder.mkdir()
    taken = uploads.folder / safe_name("a.png", digest_of(one), "PNG")
    taken.write_bytes(b"another picture whose digest begins the same")
    (kept,), _ = uploads.keep([("a.png", one, "PNG")])
    assert kept == f"a-{digest_of(one)}.png"
    assert taken.read_bytes().startswith(b"another")
    (uploads.folder / kept).write_bytes(b"changed")
    assert uploads.keep([("a.png", one, "PNG")]) == ([kept], [kept])
    assert (uploads.folder / kept).read_bytes() == one


def test_links_in_the_folder_are_never_followed(uploads: Uploads, picture: Picture, tmp_path: Path) -> None:
    one = png(picture(0))
    outside = tmp_path / "outside.png"
    outside.write_bytes(one)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    uploads.folder.mkdir()
    digest = digest_of(one)
    (uploads.folder / f"a-{digest[:12]}.png").symlink_to(outside)  # it even holds the same bytes
    (uploads.folder / f"a-{digest}.png").symlink_to(victim)
    (kept,), new = uploads.keep([("a.png", one, "PNG")])
    assert new == [kept] and not (uploads.folder / kept).is_symlink()
    assert (uploads.folder / kept).read_bytes() == one
    assert victim.read_bytes() == b"precious" and outside.read_bytes() == one


def test_what_is_kept_is_forced_to_disk_before_its_name_is_told(
    uploads: Uploads, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[str] = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        forced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        really(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", fsync)
    uploads.keep([("a.png", png(picture(0)), "PNG")])
    assert [os.path.dirname(place) for place in forced[:-1]] == [str(uploads.folder)]
    assert forced[-1] == str(uploads.folder)


def test_nothing_new_is_kept_where_the_disk_refuses(
    uploads: Uploads, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = png(picture(0))
    uploads.keep([("old.png", old, "PNG")])
    before = visible(uploads)
    really, calls = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:  # the picture that is there, a new one, and then
            raise OSError(28, "No space left on device")
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageFull, match="No space left"):
        uploads.keep([("old.png", old, "PNG"), *((f"{n}.png", png(picture(n)), "PNG") for n in (1, 2, 3))])
    assert visible(uploads) == before


def test_removing_is_done_with_the_block_or_not_at_all(uploads: Uploads, picture: Picture, tmp_path: Path) -> None:
    (name,), _ = uploads.keep([("a.png", png(picture(0)), "PNG")])
    file, elsewhere = uploads.folder / name, tmp_path / "elsewhere.png"
    elsewhere.write_bytes(b"not ours")
    inner = uploads.folder / "inner"
    inner.mkdir()
    (inner / "b.png").write_bytes(b"not put there by us")
    paths = [str(file), str(elsewhere), str(inner / "b.png"), str(uploads.folder / "gone.png")]
    with pytest.raises(RuntimeError), uploads.removing(paths):
        assert not file.exists()
        raise RuntimeError
    assert file.exists()
    with uploads.removing(paths):
        assert not file.exists() and elsewhere.exists()
    assert not file.exists() and elsewhere.exists() and (inner / "b.png").exists()
    assert visible(uploads) == ["inner"]


def test_what_a_killed_server_left_half_done_is_tidied(uploads: Uploads, picture: Picture) -> None:
    (name,), _ = uploads.keep([("a.png", png(picture(0)), "PNG")])
    for left in (".1234.new", ".1234-b.png.removed", ".hidden"):
        (uploads.folder / left).write_bytes(b"")
    uploads.tidy()
    assert sorted(os.listdir(uploads.folder)) == [".hidden", ".servers", name]
    assert not uploads.is_empty()
    uploads.delete([name, "never there", "../outside"])
    assert uploads.is_empty()


def test_servers_that_share_a_folder_keep_files_of_their_own(uploads: Uploads, picture: Picture) -> None:
    one, two = png(picture(0)), png(picture(1))
    (before,), _ = uploads.keep([("a.png", one, "PNG")])
    other = Uploads(uploads.folder)
    other.presence.begin()
    (theirs,), new = other.keep([("a.png", one, "PNG")])
    assert new == [theirs] and theirs != before and theirs.endswith(f"-{digest_of(one)[:12]}.png")
    assert other.keep([("b.png", one, "PNG")]) == ([theirs], [])
    (ours,), _ = uploads.keep([("c.png", two, "PNG")])
    assert other.keep([("c.png", two, "PNG")])[0] != [ours]
    half = uploads.folder / f".{uploads.presence.name}-0123.new"
    half.write_bytes(b"being written")
    other.tidy()
    assert half.exists()
    uploads.presence.end()
    other.tidy()
    assert not half.exists()
    assert other.keep([("d.png", png(picture(2)), "PNG")])[0] == [f"d-{digest_of(png(picture(2)))[:12]}.png"]
    other.presence.end()


JOB = UnfinishedJob(
    "0123456789abcdef",
    "paths",
    (),
    ("/photos/\udcff", "/photos/语"),
    (("b.txt", "no image"),),
    "2026-01-31T12:00:00+00:00",
)


def test_unfinished_jobs_are_read_as_they_were_written_oldest_first(tmp_path: Path) -> None:
    unfinished = Unfinished(tmp_path / "uploads")
    assert unfinished.read() == []
    earlier = UnfinishedJob("f" * 16, "uploads", ("a.png",), (), (), "2026-01-30T12:00:00+00:00")
    unfinished.write(JOB)
    unfinished.write(earlier)
    assert unfinished.read() == [earlier, JOB]
    unfinished.forget(JOB.job)
    unfinished.forget(JOB.job)
    assert unfinished.read() == [earlier]


def test_jobs_of_a_server_that_still_runs_are_its_own(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    first, second = Unfinished(tmp_path, presence), Unfinished(tmp_path)
    first.write(JOB)
    half = tmp_path / ".jobs" / ".half.new"
    half.write_text("")
    second.tidy()
    assert second.read() == [] and first.read() == [JOB] and half.exists()
    presence.end()
    second.tidy()
    assert second.read() == [JOB] and not half.exists()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"job": 1}', '"text"', '{"job": "../../x", "kind": "paths"}'],
)
def test_files_that_are_no_jobs_are_passed_over(tmp_path: Path, content: str) -> None:
    unfinished = Unfinished(tmp_path)
    unfinished.write(JOB)
    (tmp_path / ".jobs" / "aaaaaaaaaaaaaaaa.json").write_text(content)
    (tmp_path / ".jobs" / f".{JOB.job}.json-1.new").write_text("half")
    assert unfinished.read() == [JOB]
    unfinished.tidy()
    assert sorted(os.listdir(tmp_path / ".jobs")) == [f"{JOB.job}.json", "aaaaaaaaaaaaaaaa.json"]
    with pytest.raises(ValueError, match="no id of a job"):
        unfinished.forget("../../x")
