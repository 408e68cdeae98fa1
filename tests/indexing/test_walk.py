"""Walking: every image file once, whatever its name, and no trap that holds a walker for ever."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from patchwise.errors import UsageError
from patchwise.indexing import Walk, walk

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Make files (empty: a walk does not look inside) under `tmp_path / "tree"`."""
    root = tmp_path / "tree"

    def make(*names: str) -> Path:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return root

    return make


def names(found: Walk, root: Path) -> list[str]:
    return [os.path.relpath(file.path, root) for file in found.files]


def test_images_at_every_depth_sorted_by_path(tree: Callable[..., Path]) -> None:
    root = tree("b.png", "a/z.JPG", "a/b/c/d.webp", "a.jpeg", "notes.txt", "a/thumbs.db", "png", "c.png.bak")
    found = walk([root])
    assert names(found, root) == ["a.jpeg", "a/b/c/d.webp", "a/z.JPG", "b.png"]
    assert found.unreadable == [] and found.roots == [str(root)]


def test_sizes_and_times_are_those_of_the_file(tree: Callable[..., Path]) -> None:
    root = tree("a.png")
    (root / "a.png").write_bytes(b"12345")
    os.utime(root / "a.png", ns=(1, 123_456_789_123_456_789))
    (file,) = walk([root]).files
    assert (file.path, file.size, file.mtime_ns) == (str(root / "a.png"), 5, 123_456_789_123_456_789)


def test_hidden_files_and_folders_are_passed_over(tree: Callable[..., Path]) -> None:
    root = tree("a.png", ".b.png", ".hidden/c.png", "d/.e.png", ".patchwise/vectors/f.png")
    assert names(walk([root]), root) == ["a.png"]
    assert names(walk([root / ".hidden"]), root) == [".hidden/c.png"]  # named, so meant


def test_a_file_named_itself_may_have_any_ending(tree: Callable[..., Path]) -> None:
    root = tree("photo.dat", "photo", ".hidden", "a.png")
    roots = [root / "photo.dat", root / "photo", root / ".hidden"]
    assert names(walk(roots), root) == [".hidden", "photo", "photo.dat"]


def test_overlapping_roots_give_every_file_once(tree: Callable[..., Path]) -> None:
    root = tree("a/1.png", "a/b/2.png", "c.png")
    everything = ["a/1.png", "a/b/2.png", "c.png"]
    for roots in ([root, root / "a"], [root / "a" / "b", root], [root / "c.png", root, root / "c.png", root]):
        assert names(walk(roots), root) == everything


def test_relative_roots_are_made_absolute(tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("a/1.png")
    monkeypatch.chdir(root / "a")
    assert walk(["."]).roots == [str(root / "a")]
    assert walk(["../a/../a"]).files == walk([str(root / "a") + "/"]).files == walk(["."]).files


@pytest.mark.parametrize(
    "name", ["with space.png", "new\nline.png", "ü 日本 🎈.png", "tab\t\r.png", "-rf.png", "'\"$(x);*.png"]
)
def test_names_of_every_kind(tree: Callable[..., Path], name: str) -> None:
    root = tree(name, f"{name} folder/{name}")
    assert names(walk([root]), root) == sorted([name, f"{name} folder/{name}"])


def test_a_name_that_is_no_utf8(tree: Callable[..., Path]) -> None:
    root = tree("a.png")
    try:
        (root / os.fsdecode(b"bad\xff\xfe.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert [os.fsencode(name) for name in names(walk([root]), root)] == [b"a.png", b"bad\xff\xfe.png"]


def test_a_folder_without_images(tree: Callable[..., Path]) -> None:
    root = tree("notes.txt")
    assert walk([root]).files == []
    assert walk([]).files == []


# Links


def test_a_link_to_a_file_is_a_file(tree: Callable[..., Path]) -> None:
    root = tree("real/a.png", "elsewhere.dat")
    (root / "link.png").symlink_to(root / "real" / "a.png")
    (root / "image.png").symlink_to(root / "elsewhere.dat")
    (root / "no-image").symlink_to(root / "real" / "a.png")
    assert names(walk([root]), root) == ["image.png", "link.png", "real/a.png"]


def test_links_to_folders_are_entered_on_demand_and_once(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree("real/a.png", "real/sub/b.png")
    (root / "link").symlink_to(root / "real")
    (root / "other").symlink_to(root / "real" / "sub")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "c.png").write_bytes(b"")
    (root / "away").symlink_to(tmp_path / "outside")
    assert names(walk([root]), root) == ["real/a.png", "real/sub/b.png"]
    found = walk([root], follow_links=True)
    assert names(found, root) == ["away/c.png", "link/a.png", "link/sub/b.png"]
    assert found.unreadable == []


def test_which_of_two_names_is_entered_does_not_depend_on_their_age(tmp_path: Path) -> None:
    """File systems list in an order of their own; a file that changed its path at every run would help nobody."""
    for number, order in enumerate((["a", "b", "c"], ["c", "b", "a"])):
        root = tmp_path / str(number)
        (root / "m" / "real").mkdir(parents=True)
        (root / "m" / "real" / "1.png").write_bytes(b"")
        for name in order:
            (root / name).symlink_to(root / "m" / "real")
        assert names(walk([root], follow_links=True), root) == ["a/1.png"]


@pytest.mark.parametrize("follow_links", [False, True])
def test_loops_of_folders_end(tree: Callable[..., Path], follow_links: bool) -> None:
    root = tree("a/1.png", "a/b/2.png")
    (root / "a" / "b" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(".")
    (root / "a" / "b" / "round").symlink_to(root / "a")
    found = walk([root], follow_links=follow_links)
    assert names(found, root) == ["a/1.png", "a/b/2.png"]
    assert found.unreadable == []


@pytest.mark.parametrize("follow_links", [False, True])
def test_loops_of_files_and_dangling_links_hold_no_image(tree: Callable[..., Path], follow_links: bool) -> None:
    root = tree("a.png")
    (root / "one.png").symlink_to(root / "two.png")
    (root / "two.png").symlink_to(root / "one.png")
    (root / "dangling.png").symlink_to(root / "gone.png")
    (root / "dangling").symlink_to(root / "gone")
    found = walk([root], follow_links=follow_links)
    assert names(found, root) == ["a.png"]
    assert sorted(path for path, _ in found.unreadable) == [str(root / "one.png"), str(root / "two.png")]
    assert all("symbolic links" in reason for _, reason in found.unreadable)


def test_a_root_may_be_a_link(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree("a.png")
    (tmp_path / "way in").symlink_to(root)
    assert [file.path for file in walk([tmp_path / "way in"]).files] == [str(tmp_path / "way in" / "a.png")]


# What cannot be read


@pytest.mark.parametrize("name", ["gone", "file.png/below"])
def test_a_root_that_is_not_there(tree: Callable[..., Path], name: str) -> None:
    root = tree("file.png")
    with pytest.raises(UsageError) as raised:
        walk([root, root / name])
    assert str(raised.value).startswith(f"{root / name}: ")
    assert f"patchwise remove {root / name}" in str(raised.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_never_opened(tree: Callable[..., Path]) -> None:
    root = tree("a.png")
    os.mkfifo(root / "pipe.png")
    assert names(walk([root]), root) == ["a.png"]
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        walk([root / "pipe.png"])


def test_folders_that_may_not_be_entered_are_named(tree: Callable[..., Path], unprivileged: Run) -> None:
    root = tree("a.png", "closed/b.png", "closed/deep/c.png", "no entry/d.png", "open/e.png")
    (root / "closed").chmod(0)
    (root / "no entry").chmod(0o444)  # its names can be listed, nothing more
    code = (
        "import json, sys; from patchwise.indexing import walk\n"
        "found = walk([sys.argv[1]]); print(json.dumps([[f.path for f in found.files], found.unreadable]))"
    )
    done = unprivileged("-c", code, root)
    for folder in ("closed", "no entry"):
        (root / folder).chmod(0o755)
    assert done.stderr == ""
    files, unreadable = json.loads(done.stdout)
    assert files == [str(root / "a.png"), str(root / "open" / "e.png")]
    assert sorted(unreadable) == [
        [str(root / "closed"), "permission denied"],
        [str(root / "no entry" / "d.png"), "permission denied"],
    ]


def test_a_root_that_may_not_be_entered_is_named(tree: Callable[..., Path], unprivileged: Run) -> None:
    root = tree("closed/b.png")
    (root / "closed").chmod(0)
    code = "import sys; from patchwise.indexing import walk; print(walk([sys.argv[1]]).unreadable)"
    done = unprivileged("-c", code, root / "closed")
    below = unprivileged("-c", code, root / "closed" / "b.png")
    (root / "closed").chmod(0o755)
    assert done.stdout == f"{[(str(root / 'closed'), 'permission denied')]}\n"
    assert "UsageError" in below.stderr and "permission denied" in below.stderr


def test_a_file_that_vanishes_during_the_walk_is_left_out(
    tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree("a.png", "b.png", "folder/c.png")
    really = os.scandir

    def scandir(path: str) -> object:
        listing = really(path)
        (root / "b.png").unlink(missing_ok=True)
        return listing

    monkeypatch.setattr(os, "scandir", scandir)
    assert names(walk([root]), root) == ["a.png", "folder/c.png"]


def test_links_that_lead_out_of_the_allowed_folders_are_left_out_and_noted(
    tree: Callable[..., Path], tmp_path: Path
) -> None:
    root = tree("a.png", "in/b.png", "other/c.png")
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "secret.png").write_bytes(b"")
    (outside / "deep" / "secret.png").write_bytes(b"")
    (root / "to_file.png").symlink_to(outside / "secret.png")
    (root / "to_folder").symlink_to(outside)
    (root / "to_inside.png").symlink_to(root / "a.png")
    (root / "to_inside").symlink_to(root / "in")
    (root / "up").symlink_to(tmp_path)  # above the root, and back into it

    found = walk([root], follow_links=True, within=[root])
    assert sorted(
        os.path.realpath(file.path) for file in found.files if file.path.endswith(("a.png", "inside.png"))
    ) == [
        str(root / "a.png"),
        str(root / "a.png"),
    ]
    assert all(os.path.realpath(file.path).startswith(str(root)) for file in found.files)
    assert {(os.path.relpath(path, root), reason) for path, reason in found.unreadable} == {
        (name, "leads out of the folders that may be indexed") for name in ("to_file.png", "to_folder", "up")
    }
    assert names(walk([root], within=[root]), root) == ["a.png", "in/b.png", "other/c.png", "to_inside.png"]
    assert [path for path, _ in walk([root], within=[root]).unreadable] == [str(root / "to_file.png")]


def test_roots_outside_the_allowed_folders_are_left_out_whether_they_exist_or_not(
    tree: Callable[..., Path], tmp_path: Path
) -> None:
    root = tree("in/a.png", "inside/b.png")
    linked = tmp_path / "linked"
    linked.symlink_to(root / "in")
    asked = [root / "in", root / "inside", root / "in" / ".." / "inside", tmp_path / "nowhere", linked]
    found = walk(asked, within=[root / "in"])
    assert {os.path.realpath(file.path) for file in found.files} == {str(root / "in" / "a.png")}
    assert {path for path, _ in found.unreadable} == {str(root / "inside"), str(tmp_path / "nowhere")}
    assert walk([root / "in"], within=[]).files == []
    assert len(walk([root], within=["/"]).files) == 2
