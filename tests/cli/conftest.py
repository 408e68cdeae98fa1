"""The real command in its own process, pictures to feed it, and a gallery of them made once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PICTURES = 5
ALBUM, ALBUM_SUB = 36, 6


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said where."""

    code: int
    out: str
    err: str

    def complains(self, code: int, *parts: str) -> None:
        """It printed no result, and one line that says what happened, where, and what to do."""
        assert self.code == code, self
        assert self.out == "", self
        assert self.err.startswith("patchwise: ") and self.err.endswith("\n"), self
        assert self.err.count("\n") == 1, self
        for part in parts:
            assert part in self.err, self


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PATCHWISE_GALLERY", "COLUMNS")}
    return {**kept, **changes}


Cli = Callable[..., Ran]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run `patchwise` with arguments, in `tmp_path` unless `cwd` is given."""

    def run(
        *arguments: object, cwd: Path = tmp_path, stdin: bytes = b"", env: dict[str, str] | None = None, **options: Any
    ) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "patchwise", *map(os.fspath, map(_text, arguments))],
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env=environment(**(env or {})),
            timeout=120,
            **options,
        )
        ran = Ran(done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr))
        assert "Traceback" not in ran.err and "Exception ignored" not in ran.err, ran
        return ran

    return run


@pytest.fixture
def in_process(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run the command line in this process, in `tmp_path` unless `cwd` is given: no time is spent on starting."""
    from patchwise.cli import main

    def run(*arguments: object, cwd: Path = tmp_path) -> Ran:
        monkeypatch.chdir(cwd)
        monkeypatch.delenv("PATCHWISE_GALLERY", raising=False)
        monkeypatch.setattr(sys, "argv", ["patchwise", *map(_text, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        code = stop.value.code
        assert isinstance(code, int)
        return Ran(code, *capfd.readouterr())

    return run


def _text(argument: object) -> str:
    return os.fspath(argument) if isinstance(argument, os.PathLike) else str(argument)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures` (0.png to 4.png) and `g`, their gallery; nothing in it may be changed."""
    from conftest import make_picture

    root = tmp_path_factory.mktemp("shelf")
    (root / "pictures").mkdir()
    for seed in range(PICTURES):
        make_picture(seed).save(root / "pictures" / f"{seed}.png")
    subprocess.run(
        [sys.executable, "-m", "patchwise", "index", "pictures", "-g", "g", "--regions", "pyramid:1"],
        cwd=root,
        env=environment(),
        capture_output=True,
        check=True,
    )
    return root


@pytest.fixture
def pictures(shelf: Path) -> Path:
    """The pictures of `gallery`, not to be changed."""
    return shelf / "pictures"


@pytest.fixture
def gallery(shelf: Path, tmp_path: Path) -> Path:
    """A copy of the gallery, to do with as one likes."""
    shutil.copytree(shelf / "g", tmp_path / "g")
    return tmp_path / "g"


@pytest.fixture
def folder(pictures: Path, tmp_path: Path) -> Path:
    """A copy of the pictures, to do with as one likes."""
    shutil.copytree(pictures, tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures` (00.png to 35.png, sub/36.png to sub/41.png), their gallery `plain`, in several shards,
    and `g`, the same compressed; large enough for a search to score less than all of it. Nothing may be changed."""
    from conftest import make_picture
    from patchwise import Gallery
    from patchwise.store import shards

    root = tmp_path_factory.mktemp("album")
    (root / "pictures" / "sub").mkdir(parents=True)
    for seed in range(ALBUM + ALBUM_SUB):
        folder = root / "pictures" / ("" if seed < ALBUM else "sub")
        make_picture(seed).save(folder / f"{seed:02d}.png")
    with pytest.MonkeyPatch.context() as patch, Gallery.create(root / "plain", regions="pyramid:1") as gallery:
        patch.setattr(shards, "SHARD_BYTES", 10 * 5 * 2 * 256)  # ten pictures
        gallery.add(root / "pictures")
    shutil.copytree(root / "plain", root / "g")
    with Gallery.open(root / "g") as gallery:
        gallery.compress("fastscan:32")
    return root


@pytest.fixture
def squeezed(album: Path, tmp_path: Path) -> Path:
    """A copy of the compressed gallery, to do with as one likes."""
    shutil.copytree(album / "g", tmp_path / "g")
    return tmp_path / "g"


@pytest.fixture
def plain(album: Path, tmp_path: Path) -> Path:
    """A copy of the same gallery before it was compressed."""
    shutil.copytree(album / "plain", tmp_path / "plain")
    return tmp_path / "plain"
