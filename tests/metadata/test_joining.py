"""Which image a row is of, what is counted, and that a file is joined as a whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from patchwise import Gallery
from patchwise.errors import GalleryBusy, UsageError
from patchwise.store import Store


def table(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def brands(gallery: Gallery) -> dict[str, object]:
    """File name to brand, of those that have one."""
    return {Path(each.path).name: each.metadata["brand"] for each in gallery.images().images if each.metadata}


@pytest.fixture
def nested(gallery: Gallery, pictures: Path, picture: Callable[..., object]) -> Path:
    """The pictures with one more in a folder of their own."""
    (pictures / "old").mkdir()
    picture(9, (32, 24)).save(pictures / "old" / "00.png")  # type: ignore[attr-defined]
    gallery.add(pictures)
    return pictures


def test_paths_of_every_kind(gallery: Gallery, nested: Path, tmp_path: Path) -> None:
    rows = [f"{nested}/01.png,absolute", "02.png,below", "old/../03.png,around", " 04.png ,spaces", "old/00.png,deep"]
    report = gallery.add(nested, metadata=table(tmp_path / "elsewhere" / "m.csv", "path,brand", *rows)).metadata
    assert report is not None
    assert (report.rows, report.images, report.unknown, report.repeated) == (5, 5, 0, 0)
    assert report.columns == ("brand",)
    expected = {"01.png": "absolute", "02.png": "below", "03.png": "around", "04.png": "spaces", "00.png": "deep"}
    assert brands(gallery) == expected
    assert gallery.metadata(nested / "00.png") == {} and gallery.metadata(nested / "old" / "00.png") != {}


def test_the_first_place_that_leads_to_an_image_counts(gallery: Gallery, nested: Path) -> None:
    file = table(nested / "old" / "m.csv", "path,brand", "00.png,x")
    gallery.add_metadata(file, relative_to=[nested])
    assert gallery.metadata(nested / "00.png") == {"brand": "x"}
    assert gallery.metadata(nested / "old" / "00.png") == {}
    gallery.add_metadata(file)  # beside the file
    assert gallery.metadata(nested / "old" / "00.png") == {"brand": "x"}
    (nested / "old" / "m.csv").rename(nested.parent / "m.csv")
    report = gallery.add_metadata(table(nested.parent / "m.csv", "path,brand", "old/00.png,y", "05.png,z"))
    assert report.images == 2  # below the folder of all images
    assert gallery.metadata(nested / "old" / "00.png") == {"brand": "y"}


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_names_in_either_form_of_unicode(
    gallery: Gallery, pictures: Path, tmp_path: Path, stored: str, written: str
) -> None:
    name = "caf\u00e9 \u304c.png"
    (pictures / "00.png").rename(pictures / unicodedata.normalize(stored, name))
    file = table(tmp_path / "m.csv", "path,brand", f"{unicodedata.normalize(written, name)},x")
    report = gallery.add(pictures, metadata=file).metadata
    assert report is not None and report.images == 1
    assert gallery.metadata(pictures / unicodedata.normalize(stored, name)) == {"brand": "x"}


def test_the_form_that_is_written_comes_first(gallery: Gallery, pictures: Path, tmp_path: Path) -> None:
    both = [unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD")]
    for number, name in enumerate(both):
        (pictures / f"{number:02d}.png").rename(pictures / name)
    if len({path.name for path in pictures.iterdir()} & set(both)) < 2:
        pytest.skip("this file system knows but one of the two")
    file = table(tmp_path / "m.csv", "path,brand", *(f"{name},{number}" for number, name in enumerate(both)))
    gallery.add(pictures, metadata=file)
    assert [gallery.metadata(pictures / name) for name in both] == [{"brand": 0}, {"brand": 1}]


def test_paths_as_windows_writes_them(gallery: Gallery, nested: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "m.csv", "path,brand", "old\\00.png,x", ".\\01.png,y")
    assert gallery.add_metadata(file, relative_to=[nested]).images == 2
    assert gallery.metadata(nested / "old" / "00.png") == {"brand": "x"}


def test_what_is_said_of_a_file_that_cannot_be_read_waits_for_it(
    gallery: Gallery, pictures: Path, tmp_path: Path
) -> None:
    kept = (pictures / "00.png").read_bytes()
    (pictures / "00.png").write_bytes(b"no image")
    report = gallery.add(pictures, metadata=table(tmp_path / "m.csv", "path,brand", "00.png,x", "01.png,y"))
    assert report.failed and report.metadata is not None and report.metadata.images == 2
    assert brands(gallery) == {"01.png": "y"}
    assert [column.images for column in gallery.metadata_columns()] == [1]
    (pictures / "00.png").write_bytes(kept)
    gallery.add(pictures)
    assert brands(gallery) == {"00.png": "x", "01.png": "y"}


def test_below_the_folder_of_a_file_that_is_indexed(gallery: Gallery, pictures: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "elsewhere" / "m.csv", "file,brand", "03.png,x")
    report = gallery.add(pictures / "03.png", metadata=file).metadata
    assert report is not None and report.images == 1 and len(gallery) == 6
    assert gallery.metadata(pictures / "03.png") == {"brand": "x"}


def test_rows_without_an_image_are_counted_and_the_first_few_named(gallery: Gallery, pictures: Path) -> None:
    rows = [f"none{number}.png,x" for number in range(7)] + [",y", "00.png,z", "/etc/passwd,x", "../00.png,x"]
    report = gallery.add_metadata(table(pictures / "m.csv", "path,brand", *rows))
    assert (report.rows, report.images, report.unknown) == (11, 1, 10)
    assert report.unknown_names == [f"none{number}.png" for number in range(5)]
    assert brands(gallery) == {"00.png": "z"}


def test_of_rows_of_one_image_the_last_counts(gallery: Gallery, pictures: Path) -> None:
    rows = ["00.png,first,1", "01.png,only,2", f"{pictures}/00.png,,3"]
    report = gallery.add_metadata(table(pictures / "m.csv", "path,brand,year", *rows))
    assert (report.images, report.repeated) == (2, 1)
    assert gallery.metadata(pictures / "00.png") == {"year": 3}


def test_a_later_file_replaces_the_rows_that_it_has(gallery: Gallery, pictures: Path) -> None:
    gallery.add_metadata(table(pictures / "a.csv", "path,brand,year", "00.png,A,1", "01.png,B,2"))
    gallery.add_metadata(table(pictures / "b.csv", "path,price,brand", "01.png,9,C", "02.png,8,"))
    assert gallery.metadata(pictures / "00.png") == {"brand": "A", "year": 1}
    assert gallery.metadata(pictures / "01.png") == {"brand": "C", "price": 9}
    assert gallery.metadata(pictures / "02.png") == {"price": 8}
    assert [(column.name, column.images) for column in gallery.metadata_columns()] == [
        ("brand", 2),
        ("year", 1),
        ("price", 2),
    ]


def test_a_file_that_cannot_be_read_is_refused_before_anything_is_indexed(
    gallery: Gallery, pictures: Path, picture: Callable[..., object]
) -> None:
    picture(8).save(pictures / "new.png")  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="no column says"):
        gallery.add(pictures, metadata=table(pictures / "m.csv", "brand", "x"))
    assert len(gallery) == 6


def test_a_row_that_fails_leaves_all_as_it_was(gallery: Gallery, pictures: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    gallery.add_metadata(table(pictures / "m.csv", "path,brand", "00.png,A"))
    values = pa.array([1, 2**63], pa.uint64())
    parquet.write_table(pa.table({"path": ["00.png", "01.png"], "new": values}), pictures / "m.parquet")
    with pytest.raises(UsageError, match="too large"):
        gallery.add_metadata(pictures / "m.parquet")
    assert gallery.metadata(pictures / "00.png") == {"brand": "A"}
    with pytest.raises(UsageError, match="no column 'new'"):
        gallery.images(where="new = 1")
    gallery.add_metadata(table(pictures / "m.csv", "path,new", "00.png,B"))
    assert gallery.images(where="new = 'B'").total == 1


def test_nobody_else_may_be_writing(gallery: Gallery, pictures: Path) -> None:
    with Store(gallery.path) as other, other.writer(), pytest.raises(GalleryBusy):
        gallery.add_metadata(table(pictures / "m.csv", "path,brand", "00.png,A"))


_SLOWLY = """
import sys, time
from pathlib import Path
from patchwise.metadata import joining, join_metadata, open_metadata
from patchwise.store import Store
really = joining._image
def slowly(*arguments):
    time.sleep(0.02)
    return really(*arguments)
joining._image = slowly
print("ready", flush=True)
with Store(Path(sys.argv[1])) as store, store.writer() as writer:
    join_metadata(writer, open_metadata(Path(sys.argv[2])), [])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_leaves_all_or_nothing(gallery: Gallery, pictures: Path, how: signal.Signals) -> None:
    gallery.add_metadata(table(pictures / "a.csv", "path,brand", *(f"{number:02d}.png,before" for number in range(6))))
    rows = [f"{number % 6:02d}.png,after,{number}" for number in range(60)]
    file = table(pictures / "b.csv", "path,brand,year", *rows)
    for moment in (0.05, 0.3, 0.6):
        process = subprocess.Popen(
            [sys.executable, "-c", _SLOWLY, gallery.path, file], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(moment)
        os.kill(process.pid, how)
        process.wait()
        process.stdout.close()
        assert set(brands(gallery).values()) == {"before"}
        assert [column.name for column in gallery.metadata_columns()] == ["brand"]
        assert gallery.verify().problems == []
    gallery.add_metadata(file)
    assert set(brands(gallery).values()) == {"after"}
    assert gallery.images(where="year >= 54").total == 6
