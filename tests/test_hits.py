"""Hits are a list like any other that knows what was asked."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

from patchwise import Gallery, Hits, QueryPart
from patchwise.report import result_to_json


def test_a_search_gives_hits_that_know_what_was_asked(gallery: Gallery, pictures: Path) -> None:
    hits = gallery.search(pictures / "02.png", box=(4, 6, 20, 24), k=4)
    assert isinstance(hits, Hits) and isinstance(hits, list)
    assert hits.parts == (QueryPart(pictures / "02.png", box=(4, 6, 20, 24)),)
    assert hits == list(hits) and repr(hits) == repr(list(hits))
    assert len(json.loads(json.dumps(result_to_json("q", None, hits)))["hits"]) == 4


def test_slices_and_copies_are_hits_of_the_same_query(gallery: Gallery, pictures: Path) -> None:
    hits = gallery.search(pictures / "02.png", k=4)
    for part, expected in (
        (hits[1:3], list(hits)[1:3]),
        (hits[::-1], list(hits)[::-1]),
        (hits[:0], []),
        (hits.copy(), list(hits)),
        (copy.copy(hits), list(hits)),
        (copy.deepcopy(hits), list(hits)),
        (pickle.loads(pickle.dumps(hits)), list(hits)),
    ):
        assert isinstance(part, Hits) and part == expected and part.parts == hits.parts
    assert hits[0].rank == 1 and hits[-1].rank == 4


def test_hits_made_by_hand() -> None:
    hits = Hits()
    assert hits == [] and hits.parts == () and not hits
