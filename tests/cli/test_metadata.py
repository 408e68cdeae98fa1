"""index --metadata, search --where and what info says of columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Cli

ROWS = ["path,brand,year", "0.png,Acme,2019", '1.png,"Smith, Sons",2021', "2.png,Acme,", "none.png,Acme,2020"]


@pytest.fixture
def table(folder: Path) -> Path:
    path = folder.parent / "m.csv"
    path.write_text("\n".join(ROWS) + "\n")
    return path


def test_metadata_are_joined_while_indexing(in_process: Cli, table: Path) -> None:
    ran = in_process("index", "photos", "--regions", "whole", "--metadata", table)
    assert ran.code == 0 and ran.out.startswith(".patchwise: 5 images (5 added) in ")
    assert ran.err == f"{table}: 1 of 4 rows name no image of the gallery: none.png\n"
    ran = in_process("search", "photos/0.png", "--where", "brand = 'Acme'", "--json")
    hits = json.loads(ran.out)["hits"]
    assert [(Path(hit["path"]).name, hit["metadata"]) for hit in hits] == [
        ("0.png", {"brand": "Acme", "year": 2019}),
        ("2.png", {"brand": "Acme"}),
    ]
    ran = in_process("search", "photos/0.png", "--where", "year > 2019", "--paths")
    assert ran.out == f"{table.parent}/photos/1.png\n"
    everything = json.loads(in_process("search", "photos/0.png", "--json").out)["hits"]
    assert ["metadata" in hit for hit in everything].count(True) == 3
    ran = in_process("info")
    assert "metadata     brand: text, of 3 images: Acme, Smith, Sons\n" in ran.out
    assert "             year: number, of 2 images: 2019 to 2021\n" in ran.out
    columns = json.loads(in_process("info", "--json").out)["metadata"]
    assert columns[1] == {
        "name": "year",
        "kind": "number",
        "images": 2,
        "values": [2019, 2021],
        "counts": [1, 1],
        "minimum": 2019,
        "maximum": 2021,
    }


def test_metadata_alone(in_process: Cli, table: Path) -> None:
    in_process("index", "photos", "--regions", "whole")
    ran = in_process("index", "--metadata", table)  # below the folder of all images
    assert (ran.code, ran.out) == (0, f".patchwise: 3 of 5 images described by {table}\n")
    table.write_text("path,brand\n" + "0.png,A\n" * 3 + ",x\n")
    ran = in_process("index", "--metadata", "m.csv", "--json")
    assert json.loads(ran.out) == {
        "gallery": ".patchwise",
        "images": 5,
        "metadata": {
            "file": "m.csv",
            "columns": ["brand"],
            "rows": 4,
            "images": 1,
            "unknown": 1,
            "repeated": 2,
            "unknown_names": [""],
        },
    }
    assert ran.err.splitlines() == [
        "m.csv: 1 of 4 rows name no image of the gallery: (no name)",
        "m.csv: 2 rows name an image that a row before named; the last one counts",
    ]
    described = json.loads(in_process("index", "photos", "--metadata", "m.csv", "--json").out)
    assert described["unchanged"] == 5 and described["metadata"]["images"] == 1


def test_complaints(in_process: Cli, table: Path) -> None:
    in_process("index").complains(2, "name at least one folder", "--metadata")
    in_process("index", "--metadata", table).complains(1, "no gallery here")
    in_process("index", "photos", "--metadata", "none.csv").complains(2, "none.csv: no such file")
    assert not (table.parent / ".patchwise").exists(), "a mistake leaves no gallery behind"
    in_process("index", "--metadata", table, "--encoder", "x").complains(
        2, "looks at no image", "drop the other options"
    )
    assert in_process("index", "photos", "--regions", "whole", "--metadata", table).code == 0
    search = ("search", "photos/0.png", "--where")
    in_process(*search, "brnd = 'x'").complains(2, "no column 'brnd'", "'brand', 'year', 'name', 'path'")
    in_process(*search, "brand = Acme").complains(2, "character 9", "single quotes")
    ran = in_process(*search, "brand = 'nobody'")
    assert (ran.code, ran.out, ran.err) == (3, "", "nothing matched\n")
    bad = table.with_name("bad.csv")
    bad.write_text("path,brand\n0.png,A,B\n")
    in_process("index", "--metadata", bad).complains(2, "bad.csv: 3 values in line 2")
    assert in_process(*search, b"brand = '\xff'".decode(errors="surrogateescape")).code == 2
