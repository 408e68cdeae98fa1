"""Parts of queries: what is refused, and what they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from patchwise import QueryPart
from patchwise.errors import UsageError
from patchwise.indexing.parts import batch_parts, query_label, query_parts

BOX = (40.0, 30.0, 210.0, 260.0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "either a picture or a text"),
        ({"picture": "a.jpg", "text": "red"}, "either a picture or a text"),
        ({"text": ""}, "text to search for is empty"),
        ({"text": " \n\t"}, "text to search for is empty"),
        ({"text": "red", "box": BOX}, "a box goes with a picture"),
        ({"picture": "a.jpg", "weight": float("nan")}, "finite"),
        ({"picture": "a.jpg", "weight": float("-inf")}, "finite"),
    ],
)
def test_a_part_that_makes_no_sense(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        QueryPart(**arguments)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (None, {}),
        ([], {}),
        (None, {"box": BOX}),
        (None, {"text": "red", "box": BOX}),
        (["a.jpg", "b.jpg"], {"box": BOX}),
        (QueryPart("a.jpg"), {"box": BOX}),
    ],
)
def test_a_query_that_makes_no_sense(query: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="box goes with one picture" if "box" in options else "nothing to search for"):
        query_parts(query, **options)


def test_a_query_however_it_is_given() -> None:
    a, red = QueryPart("a.jpg"), QueryPart(text="red")
    assert query_parts("a.jpg") == query_parts(a) == query_parts(["a.jpg"]) == query_parts((a,)) == (a,)
    assert query_parts("a.jpg", box=BOX) == (QueryPart("a.jpg", box=BOX),)
    assert query_parts(text="red") == query_parts(red) == (red,)
    assert query_parts("a.jpg", text="red") == query_parts(["a.jpg", red]) == query_parts([a], text="red") == (a, red)
    assert query_parts(Path("a.jpg"), box=BOX, text="red") == (QueryPart(Path("a.jpg"), box=BOX), red)


def test_a_picture_with_its_box_in_a_batch() -> None:
    assert batch_parts(("a.jpg", None)) == (QueryPart("a.jpg"),)
    assert batch_parts(("a.jpg", BOX)) == (QueryPart("a.jpg", box=BOX),)
    assert batch_parts((Path("a.jpg"), [1, 2, 3, 4])) == (QueryPart(Path("a.jpg"), box=[1, 2, 3, 4]),)
    both = (QueryPart("a.jpg"), QueryPart("b.jpg"))
    assert batch_parts(both) == batch_parts(list(both)) == both
    assert batch_parts(both[0]) == both[:1]


@pytest.mark.parametrize(
    ("parts", "label"),
    [
        ([QueryPart("mug.jpg")], "mug.jpg"),
        ([QueryPart("mug.jpg", box=BOX, weight=3)], "mug.jpg"),
        ([QueryPart(text='a "red" mug')], 'a "red" mug'),
        ([QueryPart(b"", name="-")], "-"),
        ([QueryPart(b"")], "query"),
        ([QueryPart(np.zeros((1, 1, 3), np.uint8))], "query"),
        ([QueryPart(Image.new("RGB", (1, 1)))], "query"),
        (
            [QueryPart("mug.jpg", box=BOX), QueryPart(text="red\nü", weight=2), QueryPart("cup.jpg", weight=-1)],
            'mug.jpg[40,30,210,260] + 2*"red\\nü" - cup.jpg',
        ),
        ([QueryPart(text="car", weight=-0.5), QueryPart("mug.jpg", weight=0)], '- 0.5*"car" + 0*mug.jpg'),
    ],
)
def test_what_a_query_is_called(parts: list[QueryPart], label: str) -> None:
    assert query_label(parts) == label


def test_parts_as_plain_data() -> None:
    assert QueryPart(Path("a.jpg"), box=np.array([1, 2, 3, 4])).to_json() == {
        "picture": "a.jpg",
        "box": [1.0, 2.0, 3.0, 4.0],
        "weight": 1.0,
    }
    assert QueryPart(b"", name="-", weight=-2).to_json() == {"picture": "-", "box": None, "weight": -2.0}
    assert QueryPart(text="red").to_json() == {"text": "red", "weight": 1.0}
