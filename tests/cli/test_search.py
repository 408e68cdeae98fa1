"""patchwise search: every way to ask, and every shape of answer."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from .conftest import Cli, Ran, environment

HIT_KEYS = {"rank", "path", "score", "box", "level", "cell", "size", "expected_false_matches", "matches", "regions"}
HEADER = ["query", "rank", "path", "score", "x0", "y0", "x1", "y1", "level", "row", "column"]
HEADER += ["expected_false_matches"]


@pytest.fixture
def search(in_process: Cli, shelf: Path) -> Callable[..., Ran]:
    """`patchwise search` in the folder of the gallery that nothing changes."""
    return lambda *arguments: in_process("search", *arguments, "-g", shelf / "g", cwd=shelf)


@pytest.fixture
def search_process(cli: Cli, shelf: Path) -> Callable[..., Ran]:
    """The same in a process of its own, which may be given `stdin`."""
    return lambda *arguments, **options: cli("search", *arguments, "-g", shelf / "g", cwd=shelf, **options)


Search = Callable[..., Ran]


# One query


def test_the_table(search_process: Search, pictures: Path) -> None:
    ran = search_process("pictures/2.png")
    assert (ran.code, ran.err) == (0, "")
    header, *lines = ran.out.splitlines()
    assert header.split() == ["rank", "score", "by", "chance", "region", "box", "(x0,y0,x1,y1)", "path"]
    assert len(lines) == 5
    assert lines[0].split() == ["1", "1.000", "?", "whole", "image", "0,0,96,64", str(pictures / "2.png")]
    assert [int(line.split()[0]) for line in lines] == [1, 2, 3, 4, 5]


def test_json(search_process: Search, pictures: Path) -> None:
    ran = search_process("pictures/2.png", "--json", "-k", "2")
    assert (ran.code, ran.err) == (0, "")
    answer = json.loads(ran.out)
    assert set(answer) == {"query", "box", "hits"}
    assert (answer["query"], answer["box"]) == ("pictures/2.png", None)
    assert all(set(hit) == HIT_KEYS for hit in answer["hits"])
    best, second = answer["hits"]
    assert (best["rank"], best["path"], best["level"], best["cell"]) == (1, str(pictures / "2.png"), 0, [0, 0])
    assert (best["box"], best["size"]) == ([0, 0, 96, 64], [96, 64])
    assert best["score"] > 0.99 and best["score"] == round(best["score"], 6) > second["score"]
    assert len(best["regions"]) == 5 and set(best["regions"][0]) == {"box", "level", "cell", "score"}
    assert best["regions"][0]["score"] == best["score"]


def test_csv(search: Search, search_process: Search, pictures: Path) -> None:
    ran = search_process("pictures/2.png", "--csv", "-k", "3")
    assert (ran.code, ran.err) == (0, "")
    header, *rows = csv.reader(io.StringIO(ran.out))
    assert header == HEADER
    assert rows[0][:3] == ["pictures/2.png", "1", str(pictures / "2.png")]
    assert len(rows) == 3 and all(len(row) == len(HEADER) for row in rows)
    assert json.loads(search("pictures/2.png", "--json", "-k", "3").out)["hits"][1]["score"] == float(rows[1][3])


def test_paths(search: Search, search_process: Search, pictures: Path) -> None:
    ran = search_process("pictures/2.png", "--paths", "-k", "1")
    assert (ran.code, ran.out, ran.err) == (0, f"{pictures}/2.png\n", "")
    assert search("pictures/2.png", "-f", "-0", "-k", "1").out == f"{pictures}/2.png\0"
    assert search("pictures/2.png", "-f", "--null").out.count("\0") == 5


def test_pages_and_thresholds(search: Search) -> None:
    everything = json.loads(search("pictures/0.png", "--json").out)["hits"]
    assert json.loads(search("pictures/0.png", "--json", "-k", "2", "--offset", "1").out)["hits"] == everything[1:3]
    limit = (everything[1]["score"] + everything[2]["score"]) / 2
    assert json.loads(search("pictures/0.png", "--json", "--min-score", limit).out)["hits"] == everything[:2]


def test_a_box(search: Search, pictures: Path) -> None:
    ran = search("pictures/2.png", "--box", "48,0,96,32", "--json")
    answer = json.loads(ran.out)
    assert answer["box"] == [48, 0, 96, 32]
    assert answer["hits"][0]["path"] == str(pictures / "2.png")
    assert (answer["hits"][0]["box"], answer["hits"][0]["level"], answer["hits"][0]["cell"]) == (
        [48, 0, 96, 32],
        1,
        [0, 1],
    )
    assert json.loads(search("pictures/2.png", "--box= 48 0  96,32 ", "--json").out)["hits"] == answer["hits"]


def test_a_query_from_stdin(search_process: Search, pictures: Path) -> None:
    ran = search_process("-", "--json", stdin=(pictures / "3.png").read_bytes())
    answer = json.loads(ran.out)
    assert answer["query"] == "-" and answer["hits"][0]["path"] == str(pictures / "3.png")
    search_process("-", stdin=b"").complains(1, "query: the file is empty")
    search_process("-", stdin=b"no image").complains(1, "query: not an image")


def test_a_web_address_only_on_demand(search: Search) -> None:
    search("http://127.0.0.1:9/a.png").complains(2, "http://127.0.0.1:9/a.png", "--fetch")
    search("http://127.0.0.1:9/a.png", "--fetch").complains(1, "could not be fetched")


def test_nothing_matched(search: Search, shelf: Path) -> None:
    ran = search("pictures/0.png", "--min-score", "1.5")
    assert (ran.code, ran.out, ran.err) == (3, "", "nothing matched\n")
    ran = search("pictures/0.png", "--min-score", "1.5", "--json")
    assert ran.code == 3 and json.loads(ran.out) == {"query": "pictures/0.png", "box": None, "hits": []}
    ran = search("pictures/0.png", "--min-score", "1.5", "--csv")
    assert (ran.code, ran.out) == (3, ",".join(HEADER) + "\n")
    assert search("pictures/0.png", "--offset", "99").code == 3


def test_an_empty_gallery(in_process: Cli, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert in_process("index", "none", "--regions", "whole").code == 3
    ran = in_process("search", pictures / "0.png")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "the gallery .patchwise is empty; run: patchwise index FOLDER\n"


def test_under_a_folder(in_process: Cli, album: Path) -> None:
    def found(*arguments: object) -> list[str]:
        ran = in_process("search", "00.png", *arguments, "-f", "-g", album / gallery, "-k", "99", cwd=root)
        assert (ran.code, ran.err) == (0, "")
        return ran.out.splitlines()

    root = album / "pictures"
    for gallery in ("plain", "g"):
        everything = found()
        below = [path for path in everything if path.startswith(f"{root}/sub/")]
        assert len(everything) == 42 and len(below) == 6
        assert found("--under", "sub") == found("--under", f"{root}/sub/", "--exact") == below
        assert found("--under", root) == everything
        some = ["--under", root / "sub", "--under", "07.png", "--under", "00.png"]
        assert found(*some) == [path for path in everything if path in {*below, f"{root}/07.png", f"{root}/00.png"}]
        ran = in_process("search", "00.png", "--under", "sub", "--under", "0", "-g", album / gallery, cwd=root)
        ran.complains(2, f"{root}/0: the gallery", "holds no image from there")


def test_how_much_to_find_is_said_of_any_gallery(search: Search) -> None:
    """Where nothing is compressed, all of it is found whatever is asked."""
    expected = search("pictures/2.png", "--json").out
    for options in (["--exact"], ["--recall", "0.5"], ["--recall", "1"], ["--exact", "--recall", "1"]):
        assert search("pictures/2.png", "--json", *options).out == expected


# Pipes


@pytest.mark.parametrize("shape", ["", "--csv", "--json", "-f", "--queries q.csv"])
def test_a_reader_that_leaves_early(shelf: Path, tmp_path: Path, shape: str) -> None:
    """As with `| head -1`: no traceback, no complaint, no code of an error."""
    (tmp_path / "q.csv").write_text("path\n" + f"{shelf}/pictures/0.png\n" * 3)
    query = [] if "queries" in shape else [str(shelf / "pictures" / "0.png")]
    with subprocess.Popen(
        [sys.executable, "-m", "patchwise", "search", *query, "-g", str(shelf / "g"), *shape.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(),
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_head_gets_the_first_line(shelf: Path) -> None:
    command = f"'{sys.executable}' -m patchwise search pictures/1.png -f -g g | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=shelf, env=environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{shelf}/pictures/1.png\n", "")


def test_a_full_disk_under_the_output(shelf: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = [sys.executable, "-m", "patchwise", "search", "pictures/1.png", "-g", "g", "--json"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=shelf, env=environment())
    assert done.returncode == 1 and done.stderr == "patchwise: No space left on device\n"


def test_names_that_are_no_text_leave_as_they_are(cli: Cli, gallery: Path, pictures: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"bad\xff\xfe \xc3\xbc\n.png")
    (tmp_path / "photos").mkdir()
    try:
        shutil.copy(pictures / "1.png", tmp_path / "photos" / name)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    path = str(tmp_path / "photos" / name)
    assert cli("index", "photos", "-g", gallery).code == 0
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    query = ["search", pictures / "1.png", "-g", gallery, "-k", "2"]
    assert cli(*query, "-f", "-0", env=strict).out.split("\0")[1] == path
    assert json.loads(cli(*query, "--json", env=strict).out)["hits"][1]["path"] == path
    rows = list(csv.reader(io.StringIO(cli(*query, "--csv", env=strict).out)))
    assert rows[2][2] == path
    table = cli(*query, env=strict).out
    assert table.count("\n") == 3 and "bad\\udcff\\udcfe ü\\n.png" in table
    assert cli("search", tmp_path / "photos" / name, "-g", gallery, "--html", "page.html", env=strict).code == 0
    assert "bad%FF%FE%20%C3%BC%0A.png" in (tmp_path / "page.html").read_text(encoding="utf-8")


# A verdict


def test_matches_are_shown_and_the_rest_is_folded(in_process: Cli, album: Path) -> None:
    picture = str(album / "pictures" / "07.png")
    ran = in_process("search", picture, "-g", album / "g", "-k", "5", "--verdict")
    assert (ran.code, ran.err) == (0, "")
    _, first, last = ran.out.splitlines()
    assert first.endswith(picture)
    assert "<1e-6" in first
    assert last.startswith("4 more that may be chance, the best at 0.")
    assert last.endswith(" as good are expected by chance")
    assert in_process("search", picture, "-g", album / "g", "--verdict", "--paths").out == f"{picture}\n"
    rows = in_process("search", picture, "-g", album / "g", "--verdict", "--csv").out.splitlines()
    assert len(rows) == 2
    answer = json.loads(in_process("search", picture, "-g", album / "g", "-k", "5", "--verdict", "--json").out)
    assert answer["verdict"] == "match"
    assert [hit["matches"] for hit in answer["hits"]] == [True, False, False, False, False]


def test_nothing_matches(in_process: Cli, album: Path, tmp_path: Path) -> None:
    """The object is in none of the pictures: all hits are folded, and the exit code says so."""
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "noise.png")
    ran = in_process("search", "noise.png", "-g", album / "g", "-k", "3", "--verdict", "--html", "page.html")
    assert (ran.code, ran.err) == (3, "wrote page.html\nnothing matched\n")
    assert ran.out.startswith("3 more that may be chance")
    page = (tmp_path / "page.html").read_text()
    assert "<summary>3 more that may be chance</summary>" in page
    assert "Nothing matched." in page
    assert "<h1>patchwise: 0 matches among 3 hits</h1>" in page
    ran = in_process("search", "noise.png", "-g", album / "g", "--verdict", "--json", "--copy-to", "found")
    assert ran.code == 3
    assert json.loads(ran.out)["verdict"] == "no match"
    assert not list((tmp_path / "found").iterdir())
    (tmp_path / "q.csv").write_text("path\nnoise.png\n")
    ran = in_process("search", "--queries", "q.csv", "-g", album / "g", "--verdict")
    assert (ran.code, json.loads(ran.out)["verdict"]) == (3, "no match")


def test_a_gallery_too_small_for_a_verdict(search: Search) -> None:
    ran = search("pictures/2.png", "--verdict")
    assert (ran.code, len(ran.out.splitlines())) == (0, 6)
    assert ran.err == "the gallery is too small to tell matches from chance; all hits are shown\n"
    assert json.loads(search("pictures/2.png", "--verdict", "--json").out)["verdict"] == "unknown"


# A second look


def test_a_second_look(search: Search) -> None:
    """Only as many hits as it takes change; both ways to ask for it are the same, page by page."""
    plain, refined, named = (
        json.loads(search("pictures/2.png", "--box", "8,8,40,40", "-k", "5", "--json", *look).out)["hits"]
        for look in ((), ("--refine", "2"), ("--rerank", "refine:2"))
    )
    assert refined == named
    assert {hit["path"] for hit in refined[:2]} == {hit["path"] for hit in plain[:2]}
    assert refined[2:] == plain[2:]
    assert all(hit["level"] == -1 for hit in refined[:2])
    assert refined[0]["score"] >= refined[1]["score"]
    second = json.loads(
        search("pictures/2.png", "--box", "8,8,40,40", "-k", "1", "--offset", "1", "--refine", "2", "--json").out
    )["hits"]
    assert second == refined[1:2]


# Many queries


def test_many_queries(search: Search, search_process: Search, pictures: Path, tmp_path: Path) -> None:
    queries = f"path,x0,y0,x1,y1,note\n{pictures}/0.png,,,,,hello\n{pictures}/1.png,48,0,96,32\n{pictures}/2.png\n"
    (tmp_path / "q.csv").write_text(queries)
    ran = search("--queries", tmp_path / "q.csv", "-k", "2")
    assert (ran.code, ran.err) == (0, "")
    answers = [json.loads(line) for line in ran.out.splitlines()]
    assert [answer["query"] for answer in answers] == [f"{pictures}/{number}.png" for number in range(3)]
    assert [answer["box"] for answer in answers] == [None, [48, 0, 96, 32], None]
    assert [answer["hits"][0]["path"] for answer in answers] == [answer["query"] for answer in answers]
    assert all(set(answer) == {"query", "box", "hits"} and len(answer["hits"]) == 2 for answer in answers)
    one = json.loads(search(pictures / "1.png", "--box", "48,0,96,32", "-k", "2", "--json").out)
    scores = [[hit.pop("score") for hit in answer["hits"]] for answer in (answers[1], one)]
    regions = [
        [region.pop("score") for hit in answer["hits"] for region in hit["regions"]] for answer in (answers[1], one)
    ]
    assert answers[1] == one
    for together, alone in (scores, regions):  # sums of many queries at once may differ in the last place
        assert together == pytest.approx(alone, abs=2e-6)

    assert search_process("--queries", "-", "-k", "2", stdin=queries.encode()).out == ran.out
    rows = list(csv.reader(io.StringIO(search("--queries", tmp_path / "q.csv", "--csv", "-k", "2").out)))
    assert rows[0] == HEADER and len(rows) == 7 and rows.count(HEADER) == 1
    assert [row[0] for row in rows[1::2]] == [answer["query"] for answer in answers]
    paths = search("--queries", tmp_path / "q.csv", "-f", "-k", "1").out.splitlines()
    assert paths == [answer["query"] for answer in answers]


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_a_byte_order_mark_and_windows_lines(search_process: Search, pictures: Path, tmp_path: Path, how: str) -> None:
    content = f"\ufeffpath,x0,y0,x1,y1\r\n{pictures}/0.png,,,,\r\n".encode()
    (tmp_path / "q.csv").write_bytes(content)
    ran = search_process("--queries", tmp_path / "q.csv" if how == "file" else "-", "-f", "-k", "1", stdin=content)
    assert (ran.code, ran.out, ran.err) == (0, f"{pictures}/0.png\n", "")


def test_queries_that_cannot_be_used_are_passed(search: Search, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    rows = [f"{tmp_path}/gone.png", f"{pictures}/0.png,500,0,600,10", f"{tmp_path}/bad.png", f"{pictures}/3.png"]
    (tmp_path / "q.csv").write_text("\n".join(["path,x0,y0,x1,y1", *rows]))
    ran = search("--queries", tmp_path / "q.csv", "-k", "1")
    assert ran.code == 1
    answers = [json.loads(line) for line in ran.out.splitlines()]
    assert [set(answer) for answer in answers] == [{"query", "box", "hits", "error"}] * 3 + [{"query", "box", "hits"}]
    assert [len(answer["hits"]) for answer in answers] == [0, 0, 0, 1]
    complaints = ran.err.splitlines()
    assert len(complaints) == 3 and all(line.startswith("skipping ") for line in complaints)
    assert "gone.png: no such file" in complaints[0] and "outside the image" in complaints[1]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"path,x0,y0,x1,y1\na.png,1,2,three,4\n", ["q.csv, line 2", "'1,2,three,4'", "four numbers"]),
        (b"path,x0,y0,x1,y1\na.png,1,2,3\n", ["q.csv, line 2", "four numbers"]),
        (b"path,x0,y0,x1,y1\na.png\n,1,2,3,4\n", ["q.csv, line 3", "path is empty"]),
        (b"a.png,1,2,3,4\n", ["q.csv", "the first line must name the columns path,x0,y0,x1,y1"]),
        (b"", ["q.csv", "the first line must name"]),
        (b"path\n\xff\xfe\n", ["q.csv", "not a CSV file in UTF-8"]),
    ],
)
def test_a_bad_row_is_named(in_process: Cli, shelf: Path, tmp_path: Path, content: bytes, parts: list[str]) -> None:
    (tmp_path / "q.csv").write_bytes(content)
    in_process("search", "--queries", tmp_path / "q.csv", "-g", shelf / "g").complains(2, *parts)


def test_no_queries(search: Search, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("path\n")
    ran = search("--queries", tmp_path / "q.csv")
    assert (ran.code, ran.out) == (3, "")
    search("--queries", tmp_path / "gone.csv").complains(2, "gone.csv", "cannot be read")


def test_many_web_addresses_need_fetch_too(search: Search, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("path\nhttp://127.0.0.1:9/a.png\n")
    assert "add --fetch" in search("--queries", tmp_path / "q.csv").err
    assert "could not be fetched" in search("--queries", tmp_path / "q.csv", "--fetch").err


# A page, and copies


def test_a_page(search: Search, pictures: Path, tmp_path: Path) -> None:
    ran = search("pictures/2.png", "--box", "48,0,96,32", "--html", tmp_path / "page.html", "--json", "-k", "3")
    assert ran.code == 0 and len(json.loads(ran.out)["hits"]) == 3
    assert ran.err == f"wrote {tmp_path}/page.html\n"
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 4 and page.count("data:image/png;base64,") == 3
    assert f"file://{pictures}/2.png" in page and "http" not in page.replace("http://www.w3.org", "")
    search("pictures/2.png", "--html", tmp_path / "no" / "page.html", "-f", "-k", "1", "-0").err.index(
        "cannot be written"
    )


def test_a_page_of_images_that_are_gone(in_process: Cli, folder: Path, tmp_path: Path) -> None:
    assert in_process("index", "photos", "--regions", "whole").code == 0
    (folder / "1.png").unlink()
    (folder / "2.png").write_bytes(b"broken")
    ran = in_process("search", "photos/0.png", "--html", "page.html", "-f")
    assert ran.code == 0 and len(ran.out.splitlines()) == 5
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("cannot be shown") == 2


def test_copies_of_the_hits(in_process: Cli, gallery: Path, folder: Path, pictures: Path, tmp_path: Path) -> None:
    (folder / "sub").mkdir()
    shutil.copy(folder / "0.png", folder / "sub" / "0.png")
    assert in_process("index", "photos", "-g", gallery).code == 0
    (folder / "4.png").unlink()
    for _ in range(2):  # a second time changes nothing
        ran = in_process("search", "photos/0.png", "-g", gallery, "-f", "--copy-to", "found/here", "-k", "20")
        assert ran.code == 0
        assert f"not copied: {folder}/4.png is gone; run: patchwise index {folder}" in ran.err
        hits = ran.out.splitlines()
        copied = {path.name: path.read_bytes() for path in (tmp_path / "found" / "here").iterdir()}
        assert copied == {
            f"{rank:04d}_{os.path.basename(path)}": Path(path).read_bytes()
            for rank, path in enumerate(hits, start=1)
            if path != str(folder / "4.png")
        }
    (tmp_path / "file").write_text("")
    ran = in_process("search", "photos/0.png", "-g", gallery, "-f", "--copy-to", "file")
    assert ran.code == 1 and "the hits cannot be copied there" in ran.err


def test_copies_for_many_queries_do_not_overwrite_each_other(search: Search, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(f"path\n{pictures}/0.png\n{pictures}/1.png\n{pictures}/0.png\n")
    assert search("--queries", tmp_path / "q.csv", "-k", "1", "--copy-to", tmp_path / "out", "-f").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0001_0.png", "0001_1.png"]


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "give a QUERY picture or --text, or many queries by --queries"),
        (["--not", "pictures/0.png"], "give a QUERY picture or --text"),
        (["pictures/0.png", "--queries", "q.csv"], "--queries goes without QUERY"),
        (["pictures/0.png", "--json", "--csv"], "choose one of"),
        (["pictures/0.png", "--paths", "--csv"], "choose one of"),
        (["--queries", "q.csv", "--box", "1,2,3,4"], "columns of the file"),
        (["--queries", "q.csv", "--html", "page.html"], "--html"),
        (["--queries", "q.csv", "--weights", "1"], "columns of the file"),
        (["--queries", "q.csv", "--not", "pictures/0.png"], "columns of the file"),
        (["-", "-"], "only one picture can come from stdin"),
        (["-", "--not", "-"], "only one picture can come from stdin"),
        (["pictures/0.png", "--box", "whole", "--box", "1,2,3,4"], "more boxes than pictures, 2 and 1"),
        (["pictures/0.png", "--text", " "], "the text to search for is empty"),
        (["pictures/0.png", "pictures/1.png", "--weights", "1"], "expected 2 numbers from 0 up"),
        (["pictures/0.png", "--not", "pictures/1.png", "--weights", "1,-1"], "pictures/0.png, not "),
        (["pictures/0.png", "--weights", "nan"], "from 0 up"),
        (["pictures/0.png", "--weights", "two"], "from 0 up"),
        (["pictures/0.png", "--weights", "0"], "nothing is wanted"),
        (["pictures/0.png", "--not", "pictures/0.png"], "cancel each other"),
        (["pictures/0.png", "-k", "0"], "-k"),
        (["pictures/0.png", "--offset", "-1"], "--offset"),
        (["pictures/0.png", "--box", ""], "four numbers"),
        (["pictures/0.png", "--min-score", "high"], "--min-score"),
        (["pictures/0.png", "--exact", "--recall", "0.9"], "--exact finds all, so it does not go with --recall 0.9"),
        (["pictures/0.png", "--recall", "0"], "recall must be above 0 and at most 1, not 0.0"),
        (["pictures/0.png", "--recall", "1.01"], "at most 1, not 1.01"),
        (["pictures/0.png", "--recall", "nan"], "recall must be"),
        (["pictures/0.png", "--recall", "most"], "--recall"),
        (["pictures/0.png", "--under", "nowhere"], "nowhere: the gallery"),
        (["pictures/0.png", "--rerank", "magic"], "'magic'"),
        (["pictures/0.png", "--rerank", "refine:0"], "'refine:0'"),
        (["pictures/0.png", "--refine", "0"], "--refine"),
    ],
)
def test_wrong_usage(in_process: Cli, shelf: Path, arguments: list[str], part: str) -> None:
    arguments = [str(shelf / argument) if argument.endswith(".png") else argument for argument in arguments]
    in_process("search", *arguments, "-g", shelf / "g").complains(2, part)


def test_small_objects(search: Search, tmp_path: Path) -> None:
    """The query is no longer its own picture, alone or as one of many."""

    def best(*arguments: object) -> float:
        ran = search(*arguments, "--json", "-k", "1")
        assert ran.code == 0, ran.err
        return float(json.loads(ran.out)["hits"][0]["score"])

    (tmp_path / "small.csv").write_text("path,x0,y0,x1,y1\npictures/2.png,,,,\n", encoding="utf-8")
    assert best("pictures/2.png") > 0.999 > best("pictures/2.png", "--small")
    assert best("--queries", tmp_path / "small.csv", "--small") == best("pictures/2.png", "--small")
