"""A record of codes that says anything else than what was written is as good as none, and never an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.compression.found import found_codes
from patchwise.search import CompressedSearcher
from patchwise.store import Codes, Store

WRONG: list[Any] = [None, "", "x", -1, [], {}, [[1]], True]


def leaves(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of some JSON are, of objects and lists too."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from leaves(value, (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: object, gone: bool) -> Any:
    content = json.loads(json.dumps(content))
    place = content
    for key in path[:-1]:
        place = place[key]
    if gone:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


def record_of(gallery: Gallery) -> Path:
    return next((gallery.path / "compressed").glob("*/index.json"))


def test_what_was_written_is_found(gallery: Gallery) -> None:
    with Store(gallery.path) as store:
        assert found_codes(store) is None
        report = gallery.compress("fastscan:8")
        found = found_codes(store)
        assert found is not None
        assert (found.recall, found.recall_now, found.regions) == (report.info.recall, report.info.recall_now, 30)


def test_every_altered_value_of_a_record_is_noticed(gallery: Gallery) -> None:
    gallery.compress("fastscan:8")
    for path in (record_of(gallery), gallery.path / "compressed" / "current.json"):
        whole = json.loads(path.read_text())
        for number, place in enumerate(leaves(whole)):
            for gone in (False, True):
                altered = changed(whole, place, WRONG[number % len(WRONG)], gone)
                path.write_text(json.dumps(altered))
                with Store(gallery.path) as store:
                    assert found_codes(store) is None, place
        path.write_text(json.dumps(whole))
        with Store(gallery.path) as store:
            assert found_codes(store) is not None


@pytest.mark.parametrize("content", [{}, {"regions": 1}, {"regions": 10**6}, {"margins": {}}, {"margins": 7}, [], 5])
def test_a_calibration_of_another_shape_is_made_again(gallery: Gallery, pictures: Path, content: Any) -> None:
    """Written by a version of patchwise that kept something else there."""
    gallery.compress("fastscan:8")
    with Store(gallery.path) as store:
        codes = Codes.open(store.folder, store.manifest.dimension)
        assert codes is not None
        codes.record_as(replace(codes.record, calibration=content))
    for seed in range(6, 9):
        make_picture(seed, (32, 24)).save(pictures / f"{seed:02d}.png")
    with Gallery.open(gallery.path, encoder=FakeEncoder()) as again:
        assert again.compression() is None
        again.add(pictures)
        again.compact()
        assert again.search(pictures / "07.png", k=9) == again.search(pictures / "07.png", k=9, exact=True)
        assert isinstance(again.current()[1], CompressedSearcher)
        assert again.compression() is not None
