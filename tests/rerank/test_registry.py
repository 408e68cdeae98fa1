"""Second looks by name: what a string says, and what is made of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwise.errors import UsageError
from patchwise.rerank import RERANKERS, Question, Refine, Setting, parse_rerankers, rerankers
from patchwise.rerank import registry as module
from patchwise.rerank.registry import Asked, Kind
from patchwise.search import Hit

_HITS = st.integers(1, 999_999)
SETTING = Setting(None, None, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("", []),
        ("  ", []),
        ("refine", [Asked("refine", 20)]),
        ("refine:7", [Asked("refine", 7)]),
        ("refine:999999", [Asked("refine", 999_999)]),
        ("geometric:7", [Asked("geometric", 7)]),
        ("geometric:7:C:\\a.pth,refine", [Asked("geometric", 7, "C:\\a.pth"), Asked("refine", 20)]),
        ("ames:100:models/ames", [Asked("ames", 100, "models/ames")]),
        ("ames:400:C:\\models\\ames", [Asked("ames", 400, "C:\\models\\ames")]),
        ("ames:1000:/a:b/c d.pt", [Asked("ames", 1_000, "/a:b/c d.pt")]),
        (" refine:5 , ames:100:x ", [Asked("refine", 5), Asked("ames", 100, "x")]),
        ("ames:9:x,refine,refine:3", [Asked("ames", 9, "x"), Asked("refine", 20), Asked("refine", 3)]),
    ],
)
def test_second_looks_are_read_in_their_order(text: str, asked: list[Asked]) -> None:
    assert parse_rerankers(text) == asked


@given(
    st.lists(
        st.one_of(
            st.builds(Asked, st.just("refine"), _HITS, st.just("")),
            st.builds(Asked, st.just("geometric"), _HITS, st.just("")),
            st.builds(
                Asked, st.sampled_from(["ames", "geometric"]), _HITS, st.text("ab:/\\ .", min_size=1).filter(str.strip)
            ),
        )
    )
)
def test_what_is_written_is_read(asked: list[Asked]) -> None:
    text = ",".join(":".join(str(part) for part in each if part != "") for each in asked)
    assert parse_rerankers(text) == [Asked(name, depth, argument.rstrip()) for name, depth, argument in asked]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "refin",
            r"rerank 'refin': expected refine:HITS, .*geometric:HITS\[:FILE\], .*ames:HITS:FOLDER, .*mean refine\?",
        ),
        ("zzz:20", "rerank 'zzz:20': expected refine:HITS.*between them$"),
        ("refine,,refine", "rerank '': expected refine:HITS"),
        ("refine,", "rerank '': expected refine:HITS"),
        ("Refine", r"rerank 'Refine': .*did you mean refine\?"),
        ("refine:", "rerank 'refine:': '' is no number of hits; expected refine:HITS"),
        ("refine:0", "'0' is no number of hits; expected refine:HITS, HITS from 1 to 999999"),
        ("refine:-3", "'-3' is no number of hits"),
        ("refine:1000000", "'1000000' is no number of hits"),
        ("refine:2.5", "'2.5' is no number of hits"),
        ("refine:٣", "is no number of hits"),
        ("refine:20:x", "rerank 'refine:20:x': takes nothing behind the number of hits; expected refine:HITS$"),
        ("refine:20:", "takes nothing behind the number of hits"),
        ("geometric:50:", r"rerank 'geometric:50:': nothing behind the last colon; expected geometric:HITS\[:FILE\]$"),
        ("geometric:a.pth", r"'a.pth' is no number of hits; expected geometric:HITS\[:FILE\],"),
        ("ames", "rerank 'ames': needs a FOLDER: ames:100:FOLDER"),
        ("ames:400", "rerank 'ames:400': needs a FOLDER"),
        ("ames:400:", "needs a FOLDER"),
        ("ames:models", "'models' is no number of hits; expected ames:HITS:FOLDER"),
        ("refine:3,ames:x:y", "rerank 'ames:x:y': 'x' is no number of hits"),
    ],
)
def test_what_cannot_be_read_is_told(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_rerankers(text)


def test_each_kind_says_what_it_does_and_how_many_hits_it_takes() -> None:
    for name, kind in RERANKERS.items():
        assert name.isidentifier() and name.islower() and kind.help and kind.depth > 0
        argument = ":x" if kind.argument else ""
        assert parse_rerankers(f"{name}:{kind.depth}{argument}") == [Asked(name, kind.depth, argument[1:])]


def test_they_are_made_in_their_order_with_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []

    class Nothing:
        name, depth = "nothing", 4

        def rerank(self, question: Question, hits: Sequence[Hit]) -> list[Hit]:
            del question
            return list(hits)

    def make(*given: Any) -> Nothing:
        made.append(given)
        return Nothing()

    known = MappingProxyType({**RERANKERS, "nothing": Kind("does nothing", 4, make, "THING")})
    monkeypatch.setattr(module, "RERANKERS", known)
    found = rerankers(parse_rerankers("nothing:4:a:b,refine:6,nothing:5:c"), SETTING)
    assert made == [(SETTING, 4, "a:b"), (SETTING, 5, "c")]
    assert [type(each) for each in found] == [Nothing, Refine, Nothing]
    assert (found[1].name, found[1].depth) == ("refine", 6)
    assert rerankers([], SETTING) == []


def test_heavy_packages_are_not_imported_before_they_are_needed() -> None:
    """Of the registry itself, so that `patchwise search` without a second look stays quick."""
    code = (
        "import sys; from patchwise.rerank import parse_rerankers; parse_rerankers('refine:3,ames:100:x'); "
        "print(*[name for name in ('torch', 'cv2', 'h5py', 'kornia', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
