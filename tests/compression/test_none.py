"""The way back: a gallery without codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from conftest import FakeEncoder
from patchwise import Gallery
from patchwise.cli.app import app
from patchwise.errors import UsageError
from patchwise.search import CompressedSearcher, ExactSearcher
from patchwise.store import Store


def test_none_deletes_codes_and_the_wish_for_them(gallery: Gallery, pictures: Path) -> None:
    gallery.compress("fastscan:8")
    assert isinstance(gallery.current()[1], CompressedSearcher)
    report = gallery.compress("none")
    assert (report.info.codec, report.info.codes_bytes, report.images, report.regions) == ("none", 0, 6, 30)
    assert not (gallery.path / "compressed").exists() and gallery.compression() is None
    assert isinstance(gallery.current()[1], ExactSearcher)
    with Gallery.open(gallery.path, encoder=FakeEncoder()) as again:
        again.add(pictures)
        assert isinstance(again.current()[1], ExactSearcher)
        assert not (gallery.path / "compressed").exists()
    gallery.compress("none")  # nothing to do
    gallery.compress("fastscan:4")
    assert isinstance(gallery.current()[1], CompressedSearcher)


def test_none_is_refused_where_only_codes_are_kept(gallery: Gallery) -> None:
    with pytest.raises(UsageError, match="are to be kept"):
        gallery.compress("none", codes_only=True)
    gallery.compress("fastscan:8", codes_only=True)
    with pytest.raises(UsageError, match="only codes are kept"):
        gallery.compress("none")
    assert isinstance(gallery.current()[1], CompressedSearcher)


def test_on_the_command_line(gallery: Gallery) -> None:
    gallery.compress("fastscan:8")
    ran = CliRunner().invoke(app, ["compress", "--codec", "none", "-g", str(gallery.path)])
    assert (ran.exit_code, ran.output) == (0, f"{gallery.path}: no codes any more; every search is exact\n")
    with Store(gallery.path) as store:
        assert store.compression_wanted() == {}
    ran = CliRunner().invoke(app, ["compress", "--codec", "none", "--codes-only", "-g", str(gallery.path)])
    assert ran.exit_code != 0 and list(gallery.path.glob("vectors/*.f16"))
