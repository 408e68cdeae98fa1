"""Members of tar files are read like files, from any thread."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from patchwise.errors import ImageUnreadable
from patchwise.images import archive
from patchwise.images.archive import read_bytes, split_tar_path, stat_image, tar_index


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w", **options: object) -> Path:
    with tarfile.open(path, mode, **options) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


MEMBERS = {f"{number:04d}.jpg": bytes([number]) * (number * 37 + 1) for number in range(60)}
ODD = {
    "./dotted.jpg": b"a",
    "folder/sub/naïve ü.jpg": b"bb",
    "x" * 180 + ".jpg": b"ccc",
    "empty.jpg": b"",
}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "shard.tar", {**MEMBERS, **ODD})


def test_members_are_read_as_unpacking_would(shard: Path, tmp_path: Path) -> None:
    with tarfile.open(shard) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    for name in (*MEMBERS, *(name.removeprefix("./") for name in ODD)):
        assert read_bytes(f"{shard}/{name}") == (tmp_path / "out" / name).read_bytes()
        assert stat_image(f"{shard}/{name}") == (shard.stat().st_mtime_ns, (tmp_path / "out" / name).stat().st_size)


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_flavour_of_tar(tmp_path: Path, format_: int) -> None:
    path = write_tar(tmp_path / "s.tar", {"a" * 90 + "/" + "b" * 90: b"deep", "c.jpg": b"flat"}, format=format_)
    assert read_bytes(f"{path}/c.jpg") == b"flat"
    assert read_bytes(f"{path}/{'a' * 90}/{'b' * 90}") == b"deep"


def test_plain_files_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "plain.jpg").write_bytes(b"plain")
    assert read_bytes(str(tmp_path / "plain.jpg")) == b"plain"
    assert stat_image(str(tmp_path / "plain.jpg")) == ((tmp_path / "plain.jpg").stat().st_mtime_ns, 5)


def test_a_folder_named_like_a_tar_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "photos.tar").mkdir()
    (tmp_path / "photos.tar" / "1.jpg").write_bytes(b"in a folder")
    inner = write_tar(tmp_path / "photos.tar" / "inner.tar", {"2.jpg": b"in a tar"})
    assert split_tar_path(str(tmp_path / "photos.tar" / "1.jpg")) is None
    assert read_bytes(str(tmp_path / "photos.tar" / "1.jpg")) == b"in a folder"
    assert split_tar_path(f"{inner}/2.jpg") == (str(inner), "2.jpg")
    assert read_bytes(f"{inner}/2.jpg") == b"in a tar"


def test_the_last_of_two_members_with_one_name_counts(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", {"a.jpg": b"first"})
    write_tar(path, {"a.jpg": b"second"}, mode="a")
    assert read_bytes(f"{path}/a.jpg") == b"second"


def test_a_rewritten_tar_is_read_anew(shard: Path) -> None:
    before = stat_image(f"{shard}/0001.jpg")
    write_tar(shard, {"other.jpg": b"moved everything", "0001.jpg": b"new"})
    os.utime(shard, ns=(before[0] + 1, before[0] + 1))
    assert read_bytes(f"{shard}/0001.jpg") == b"new"
    assert stat_image(f"{shard}/0001.jpg") == (before[0] + 1, 3)


def test_threads_share_one_index(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    build = archive._build
    monkeypatch.setattr(archive, "_build", lambda *arguments: built.append(1) or build(*arguments))
    start = threading.Barrier(8)

    def read(worker: int) -> list[bytes]:
        start.wait()
        return [read_bytes(f"{shard}/{name}") for name in MEMBERS]

    with ThreadPoolExecutor(8) as pool:
        assert all(got == list(MEMBERS.values()) for got in pool.map(read, range(8)))
    assert len(built) == 1


def test_few_indexes_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_KEPT_INDEXES", 2)
    for number in range(5):
        path = write_tar(tmp_path / f"{number}.tar", {"a.jpg": bytes([number])})
        assert read_bytes(f"{path}/a.jpg") == bytes([number])
    assert len(archive._slots) == 2
    assert read_bytes(f"{tmp_path}/0.tar/a.jpg") == b"\0"


def test_the_index_lists_members_sorted_and_folders_not(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", {"b.jpg": b"2", "a.jpg": b"1"})
    with tarfile.open(path, "a") as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert tar_index(str(path)).names.tolist() == [b"a.jpg", b"b.jpg"]
    assert tar_index(str(path)).row("b.jpg") == 1
    assert tar_index(str(path)).row("b.jpg and more") is None
    assert tar_index(str(write_tar(tmp_path / "empty.tar", {}))).row("a.jpg") is None


def test_the_index_of_a_large_tar_is_kept_and_never_believed_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_WORTH_A_FILE", 3)
    monkeypatch.setenv("PATCHWISE_CACHE", str(tmp_path / "cache"))
    built = []
    build = archive._build
    monkeypatch.setattr(archive, "_build", lambda *arguments: built.append(1) or build(*arguments))

    def read_as_a_new_process() -> bytes:
        archive._slots.clear()
        return read_bytes(f"{path}/b.jpg")

    path = write_tar(tmp_path / "s.tar", {"a.jpg": b"1", "b.jpg": b"22", "c.jpg": b"333"})
    assert [read_as_a_new_process() for _ in range(3)] == [b"22"] * 3
    assert len(built) == 1
    (kept,) = (tmp_path / "cache" / "tar").iterdir()
    write_tar(path, {"b.jpg": b"new", "c.jpg": b"", "d.jpg": b""})
    os.utime(path, ns=(1, 1))
    assert read_as_a_new_process() == b"new"
    assert len(built) == 2
    kept.write_bytes(kept.read_bytes()[:50])
    assert read_as_a_new_process() == b"new"
    assert len(built) == 3
    monkeypatch.setenv("PATCHWISE_CACHE", str(path / "not a folder"))
    assert read_as_a_new_process() == b"new"


def test_the_index_of_a_small_tar_leaves_no_file(tmp_path: Path, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHWISE_CACHE", str(tmp_path / "cache"))
    archive._slots.clear()
    read_bytes(f"{shard}/0001.jpg")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["0001", "0001.jp", "none.jpg", "z" * 400, "folder"])
def test_a_missing_member_is_named(shard: Path, name: str) -> None:
    with pytest.raises(ImageUnreadable) as caught:
        read_bytes(f"{shard}/{name}")
    assert str(caught.value) == f"{shard}/{name}: {shard} has no member {name}"


def test_what_cannot_be_read_says_why(tmp_path: Path, shard: Path) -> None:
    with pytest.raises(ImageUnreadable, match="no such file"):
        read_bytes(str(tmp_path / "nothing.tar" / "a.jpg"))
    packed = write_tar(tmp_path / "packed.tar", {"a.jpg": b"a"}, mode="w:gz")
    with pytest.raises(ImageUnreadable, match=r"not an uncompressed tar file.*unpack compressed ones first"):
        read_bytes(f"{packed}/a.jpg")
    (tmp_path / "text.tar").write_text("no tar at all" * 100)
    with pytest.raises(ImageUnreadable, match="not an uncompressed tar file"):
        stat_image(f"{tmp_path}/text.tar/a.jpg")


def test_a_tar_cut_short_never_gives_half_a_picture(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", {"a.jpg": b"a" * 600, "b.jpg": b"b" * 5000})
    path.write_bytes(path.read_bytes()[: 512 + 1024 + 512 + 2000])
    with pytest.raises(ImageUnreadable, match=r"damaged|cut short"):
        read_bytes(f"{path}/b.jpg")
