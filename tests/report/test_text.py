"""Text: JSON and CSV that read back, and a table that a hostile path cannot disturb."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from patchwise import Hit, QueryPart, RegionScore
from patchwise.indexing.parts import query_label
from patchwise.report import CSV_HEADER, csv_rows, hit_from_json, result_to_json, table_lines
from patchwise.report.text import by_chance, printable, split_by_verdict
from patchwise.search import Geometry
from report.conftest import HOSTILE, make_hit

CHANCE = ["expected_false_matches", "matches"]
WHOLE = Hit(2, "/b.jpg", 0.5, (0.0, 0.0, 20.0, 10.0), 0, (0, 0), (20, 10), ())


def test_json_worked_by_hand() -> None:
    assert result_to_json("q.jpg", (1.0, 2.0, 3.0, 4.5), [make_hit()]) == {
        "query": "q.jpg",
        "box": [1.0, 2.0, 3.0, 4.5],
        "hits": [
            {
                "rank": 1,
                "path": "/photos/a.jpg",
                "score": 0.876543,
                "box": [100.0, 50.0, 200.0, 100.0],
                "level": 1,
                "cell": [1, 1],
                "size": [200, 100],
                "expected_false_matches": 0.00123,
                "matches": True,
                "regions": [
                    {"box": [100.0, 50.0, 200.0, 100.0], "level": 1, "cell": [1, 1], "score": 0.876543},
                    {"box": [0.0, 0.0, 200.0, 100.0], "level": 0, "cell": [0, 0], "score": 0.376543},
                ],
            }
        ],
    }


def test_json_keys_come_in_this_order() -> None:
    answer = result_to_json("q.jpg", None, [make_hit()])
    assert list(answer) == ["query", "box", "hits"]
    assert list(answer["hits"][0]) == ["rank", "path", "score", "box", "level", "cell", "size", *CHANCE, "regions"]
    assert list(answer["hits"][0]["regions"][0]) == ["box", "level", "cell", "score"]


@pytest.mark.parametrize("error", ["q.jpg: no such file", ""])
def test_json_of_a_query_that_failed(error: str) -> None:
    assert result_to_json("q.jpg", None, [], error) == {"query": "q.jpg", "box": None, "error": error, "hits": []}


def test_json_without_hits() -> None:
    assert result_to_json("q.jpg", None, []) == {"query": "q.jpg", "box": None, "hits": []}


def test_json_of_a_text() -> None:
    answer = result_to_json("red", None, [], parts=[QueryPart(text="red")])
    assert answer == {"query": "red", "box": None, "parts": [{"text": "red", "weight": 1.0}], "hits": []}


def test_json_of_one_picture_has_no_parts() -> None:
    parts = [QueryPart("q.jpg", box=(1, 2, 3, 4))]
    assert result_to_json("q.jpg", (1.0, 2.0, 3.0, 4.0), [], parts=parts) == result_to_json("q.jpg", (1, 2, 3, 4), [])


def test_json_of_several_parts() -> None:
    parts = [QueryPart("q.jpg", box=(1, 2, 3, 4), weight=2), QueryPart(text="red", weight=-0.5)]
    hit = replace(make_hit(), part_scores=(0.71234567, -0.25))
    answer = result_to_json(query_label(parts), None, [hit], parts=parts)
    assert list(answer) == ["query", "box", "parts", "hits"]
    assert answer["query"] == '2*q.jpg[1,2,3,4] - 0.5*"red"'
    assert answer["parts"] == [
        {"picture": "q.jpg", "box": [1.0, 2.0, 3.0, 4.0], "weight": 2.0},
        {"text": "red", "weight": -0.5},
    ]
    assert answer["hits"][0]["part_scores"] == [0.712346, -0.25]
    plain = result_to_json("q.jpg", None, [make_hit()])["hits"][0]
    assert {**plain, "part_scores": [0.712346, -0.25]} == answer["hits"][0]
    failed = result_to_json("q", None, [], "no", parts)
    assert list(failed) == ["query", "box", "parts", "error", "hits"]


def test_json_survives_a_file(hostile_hits: list[Hit]) -> None:
    answer = result_to_json(HOSTILE[0], (0.0, 0.0, 1.0, 1.0), hostile_hits)
    text = json.dumps(answer, allow_nan=False)
    assert text.isascii()
    assert json.loads(text) == answer
    assert [hit["path"] for hit in json.loads(text)["hits"]] == HOSTILE


def test_csv_worked_by_hand() -> None:
    place = ("x0", "y0", "x1", "y1", "level", "row", "column")
    assert ("query", "rank", "path", "score", *place, "expected_false_matches") == CSV_HEADER
    assert list(csv_rows("q.jpg", [make_hit(), WHOLE])) == [
        ("q.jpg", 1, "/photos/a.jpg", 0.876543, 100.0, 50.0, 200.0, 100.0, 1, 1, 1, 0.00123),
        ("q.jpg", 2, "/b.jpg", 0.5, 0.0, 0.0, 20.0, 10.0, 0, 0, 0, ""),
    ]
    assert list(csv_rows("q.jpg", [])) == []


def test_csv_survives_a_file(hostile_hits: list[Hit]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    writer.writerows(csv_rows(HOSTILE[1], hostile_hits))
    stream.seek(0)
    rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == HOSTILE
    assert {row["query"] for row in rows} == {HOSTILE[1]}
    assert [float(row["score"]) for row in rows] == [round(hit.score, 6) for hit in hostile_hits]
    assert all(None not in row and None not in row.values() for row in rows)


def test_table_worked_by_hand() -> None:
    assert list(table_lines([make_hit(), WHOLE])) == [
        "rank   score  by chance  region       box (x0,y0,x1,y1)        path",
        "   1   0.877      0.001  L1 1,1       100,50,200,100           /photos/a.jpg",
        "   2   0.500          ?  whole image  0,0,20,10                /b.jpg",
    ]


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (None, "?"),
        (0.0, "<1e-6"),
        (9e-7, "<1e-6"),
        (2e-5, "2e-05"),
        (0.04, "0.04"),
        (1.26, "1"),
        (9.6, "10"),
        (12.6, "13"),
    ],
)
def test_chance_in_few_characters(expected: float | None, said: str) -> None:
    assert by_chance(expected) == said


def test_hits_split_by_whether_they_match() -> None:
    good, weak, unknown = make_hit(1), replace(make_hit(2), expected_false_matches=0.5), WHOLE
    assert split_by_verdict([good, weak, unknown]) == ([good, unknown], [weak])
    assert split_by_verdict([]) == ([], [])


def test_what_a_second_look_found_is_told() -> None:
    outline = ((1.0, 2.0), (30.123456, 2.0), (30.0, 20.0), (1.0, 20.0))
    instance = RegionScore((5.0, 6.0, 7.0, 8.0), -1, (-1, -1), 0.6543219)
    hit = replace(
        make_hit(),
        geometry=Geometry("verified", 34, outline),
        instances=(instance,),
        alike=(make_hit(2, "/photos/b.jpg"), make_hit(3, "/photos/c.jpg")),
    )
    plain = result_to_json("q", None, [hit])["hits"][0]
    assert plain["geometry"] == {
        "verdict": "verified",
        "inliers": 34,
        "outline": [[1.0, 2.0], [30.12, 2.0], [30.0, 20.0], [1.0, 20.0]],
    }
    assert plain["instances"] == [{"box": [5.0, 6.0, 7.0, 8.0], "level": -1, "cell": [-1, -1], "score": 0.654322}]
    assert [other["path"] for other in plain["alike"]] == ["/photos/b.jpg", "/photos/c.jpg"]
    line = list(table_lines([hit]))[1]
    assert "34 points" in line
    assert line.endswith("/photos/a.jpg  (and 2 alike)")


def test_a_box_outside_any_grid_is_called_a_box() -> None:
    hit = Hit(3, "/c.jpg", 0.25, (2.5, 3.0, 20.0, 10.0), -1, (-1, -1), (20, 10), ())
    assert list(table_lines([hit]))[1] == "   3   0.250          ?  box          2,3,20,10                /c.jpg"


def test_the_table_shows_every_path_on_one_line(hostile_hits: list[Hit]) -> None:
    header, *lines = table_lines(hostile_hits)
    column = header.index("path")
    assert len(lines) == len(hostile_hits)
    for hit, line in zip(hostile_hits, lines, strict=True):
        assert line.isprintable()
        assert line[column:] == printable(hit.path)
        line.encode("utf-8")


def test_a_long_path_is_not_shortened() -> None:
    path = "/" + "d/" * 2000 + "a.jpg"
    assert list(table_lines([make_hit(path=path)]))[1].endswith("  " + path)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a b/ü日🎈.jpg", "/a b/ü日🎈.jpg"),
        ("a\nb", r"a\nb"),
        ("a\x1b[0m\x00\x7f", r"a\x1b[0m\x00\x7f"),
        ("\u202ea\u200b", r"\u202ea\u200b"),
        ("a\udcff", r"a\udcff"),
        ("", ""),
    ],
)
def test_printable(path: str, shown: str) -> None:
    assert printable(path) == shown


def test_a_hit_is_read_as_it_was_written() -> None:
    second = RegionScore((1.5, 2.0, 30.0, 40.25), 2, (1, 0), 0.5)
    full = replace(
        make_hit(3),
        part_scores=(0.25, -0.125),
        instances=(second,),
        geometry=Geometry("verified", 31, ((1.0, 2.0), (3.0, 4.5), (5.0, 6.0), (7.0, 8.0))),
        alike=(make_hit(1, "/photos/twin.jpg"),),
        metadata={"brand": "Acme", "year": 2019, "weight": 1.5},
    )
    free = replace(make_hit(1), level=-1, cell=(-1, -1), expected_false_matches=None)
    for hit in (make_hit(), full, free):
        written = result_to_json("q", None, [hit])["hits"][0]
        back = hit_from_json(json.loads(json.dumps(written)))
        assert result_to_json("q", None, [back])["hits"][0] == written
        assert back.matches == hit.matches
        assert (back.path, back.box, back.regions[0].box) == (hit.path, hit.box, hit.regions[0].box)
    assert hit_from_json({**written, "image": "00", "unknown": 1}) == back, "what else there is does not matter"


def test_a_verdict_outlasts_rounding() -> None:
    barely = replace(make_hit(), expected_false_matches=0.049996)
    written = result_to_json("q", None, [barely])["hits"][0]
    assert written["expected_false_matches"] == 0.05 and written["matches"] is True
    assert hit_from_json(written).matches is True


def test_hits_that_are_read_know_where_their_pictures_are() -> None:
    class Source:
        def read(self, longest: int) -> Image.Image:
            raise NotImplementedError

    sources = {"/a.jpg": Source(), "/b.jpg": Source()}
    hit = replace(make_hit(1, "/a.jpg"), alike=(make_hit(2, "/b.jpg"),))
    back = hit_from_json(result_to_json("q", None, [hit])["hits"][0], lambda plain: sources[plain["path"]])
    assert back.source is sources["/a.jpg"] and back.alike[0].source is sources["/b.jpg"]
    assert back.score == round(hit.score, 6) and back.path == hit.path, (
        "where a picture is opened makes no other hit of it"
    )


@pytest.mark.parametrize("broken", [{}, {"rank": "first"}, {"box": [1, 2, 3]}, {"regions": None}])
def test_what_is_no_hit_is_refused(broken: dict[str, object]) -> None:
    written = result_to_json("q", None, [make_hit()])["hits"][0]
    with pytest.raises((KeyError, TypeError, ValueError)):
        hit_from_json({**written, **broken} if broken else {})
