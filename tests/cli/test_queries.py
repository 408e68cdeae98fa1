"""patchwise search with texts, several pictures, and what is not wanted."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from colours import quarters
from patchwise.encoders import registry

from .conftest import Cli, Ran

Search = Callable[..., Ran]
SCENES = {
    "a": ("blue", "black", "blue", "orange"),
    "b": ("red", "blue", "yellow", "black"),
    "c": ("green", "white", "white", "green"),
    "d": ("blue", "red", "black", "white"),
}


@pytest.fixture
def search(in_process: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Search]:
    """`patchwise search` among a.png to d.png with an encoder that reads the names of colours, a plug-in."""
    plugin = tmp_path / "site" / "colours-1.0.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1.0\n")
    (plugin / "entry_points.txt").write_text("[patchwise.encoders]\ncolours = colours:load\n")
    monkeypatch.syspath_prepend(str(plugin.parent))
    registry._plugged_in.cache_clear()
    (tmp_path / "scenes").mkdir()
    for name, colours in SCENES.items():
        quarters(*colours).save(tmp_path / "scenes" / f"{name}.png")
        quarters(*colours).save(tmp_path / f"{name}.png")
    indexed = in_process("index", "scenes", "-g", "g", "--encoder", "colours", "--regions", "pyramid:1")
    assert indexed.code == 0, indexed
    yield lambda *arguments: in_process("search", *arguments, "-g", "g")
    registry._plugged_in.cache_clear()


def found(ran: Ran) -> list[str]:
    return [Path(hit["path"]).stem for hit in answer(ran)["hits"]]


def answer(ran: Ran) -> dict[str, Any]:
    assert (ran.code, ran.err) == (0, ""), ran
    (line,) = ran.out.splitlines()
    loaded: dict[str, Any] = json.loads(line)
    return loaded


def test_a_text(search: Search) -> None:
    ran = search("--text", "an orange thing", "--json", "-k", "2")
    assert answer(ran)["query"] == "an orange thing" and answer(ran)["box"] is None
    assert answer(ran)["parts"] == [{"text": "an orange thing", "weight": 1.0}]
    best = answer(ran)["hits"][0]
    assert (Path(best["path"]).stem, best["box"], best["cell"]) == ("a", [48, 32, 96, 64], [1, 1])
    assert "part_scores" not in best
    table = search("--text", "an orange thing").out.splitlines()
    assert table[1].split()[:2] == ["1", "1.000"] and table[1].endswith("a.png")
    rows = list(csv.reader(io.StringIO(search("--text", "an orange thing", "--csv").out)))
    assert [row[0] for row in rows[1:]] == ["an orange thing"] * 4
    assert search("--text", "orange", "-f", "-k", "1").out.endswith("/a.png\n")
    assert search("--text", "orange", "--min-score", "1.5").code == 3


def test_a_gallery_whose_encoder_reads_no_texts(in_process: Cli, shelf: Path) -> None:
    ran = in_process("search", "--text", "red", "-g", shelf / "g")
    ran.complains(1, "encoder 'builtin' reads no texts", "patchwise index PHOTOS --encoder siglip2-b --gallery NEW")
    in_process("search", "--text", "", "-g", shelf / "g").complains(2, "the text to search for is empty")


def test_words_where_a_picture_should_be(search: Search, tmp_path: Path) -> None:
    search("red bicycle").complains(1, "red bicycle: no such file; to search for words: --text 'red bicycle'")
    search("a.png", "--not", "car").complains(1, "to search for words: --text car")
    (tmp_path / "a.png").rename(tmp_path / "red")
    assert search("red", "-f").code == 0
    search("red.png").complains(1, "red.png: no such file")


def test_a_picture_with_a_text_and_what_is_not_wanted(search: Search, tmp_path: Path) -> None:
    one = answer(search("b.png", "--box", "0,0,48,32", "--json"))
    assert set(one) == {"query", "box", "hits"} and one["box"] == [0, 0, 48, 32]
    ran = search("b.png", "--box", "0,0,48,32", "--text", "yellow", "--json")
    assert found(ran)[0] == "a"  # a bit of both in one place, which b has in two
    assert answer(ran)["query"] == 'b.png[0,0,48,32] + "yellow"'

    ran = search(
        "b.png", "--text", "yellow", "--not", "a.png", "--not-text", "white", "--weights", "0,1,0.5,2", "--json"
    )
    assert answer(ran)["query"] == '0*b.png + "yellow" - 0.5*a.png - 2*"white"'
    assert answer(ran)["parts"] == [
        {"picture": "b.png", "box": None, "weight": 0.0},
        {"text": "yellow", "weight": 1.0},
        {"picture": "a.png", "box": None, "weight": -0.5},
        {"text": "white", "weight": -2.0},
    ]
    assert all(len(hit["part_scores"]) == 4 for hit in answer(ran)["hits"])
    rows = list(csv.reader(io.StringIO(search("a.png", "--not-text", "white", "--csv").out)))
    assert {row[0] for row in rows[1:]} == {'a.png - "white"'}


def test_weights_decide(search: Search) -> None:
    words = ("--text", "green", "--text", "orange", "--json")
    assert found(search(*words, "--weights", "1,0")) == found(search("--text", "green", "--json"))
    assert found(search(*words, "--weights", "0,1"))[0] == "a"
    assert found(search(*words, "--weights", "3,1"))[0] == "c"
    assert found(search("--text", "white", "--not-text", "green", "--weights", "1,0", "--json")) == found(
        search("--text", "white", "--json")
    )


def test_every_picture_has_its_own_box(search: Search) -> None:
    pictures = ("b.png", "d.png", "--not", "c.png", "--json")
    ran = search(*pictures, "--box", "0,0,48,32", "--box", "whole", "--box", "48,0,96,32")
    assert [part["box"] for part in answer(ran)["parts"]] == [[0, 0, 48, 32], None, [48, 0, 96, 32]]
    assert [part["weight"] for part in answer(ran)["parts"]] == [1, 1, -1]
    first = answer(search(*pictures, "--box", "0,0,48,32"))
    assert [part["box"] for part in first["parts"]] == [[0, 0, 48, 32], None, None]
    assert answer(search("b.png", "--box", "whole", "--json")) == answer(search("b.png", "--json"))
    search(*pictures, "--box", "500,0,600,9").complains(2, "outside the image")
    search("gone.png", "d.png").complains(1, "gone.png: no such file")


def test_one_picture_of_several_from_stdin(cli: Cli, shelf: Path, pictures: Path) -> None:
    content = (pictures / "3.png").read_bytes()
    query = ["search", "pictures/1.png", "--not", "-", "--weights", "1,0.2", "-g", shelf / "g", "--json"]
    piped = answer(cli(*query, cwd=shelf, stdin=content))
    assert [part["picture"] for part in piped["parts"]] == ["pictures/1.png", "-"]
    query[3] = pictures / "3.png"
    named = answer(cli(*query, cwd=shelf))
    assert named["hits"] == piped["hits"] and piped["hits"][0]["path"].endswith("1.png")


def test_what_is_not_wanted_falls(search: Search) -> None:
    def rank_and_score(ran: Ran) -> tuple[int, float]:
        (hit,) = [hit for hit in answer(ran)["hits"] if hit["path"].endswith("/a.png")]
        return hit["rank"], hit["score"]

    before = rank_and_score(search("--text", "yellow", "--json"))
    turned = ("--not", "a.png", "--box", "48,32,96,64", "--weights", "1,0.9")
    after = rank_and_score(search("--text", "yellow", "--json", *turned))
    assert before[0] == 2 and after[0] == 4 and after[1] < before[1] - 0.3


def test_a_page_of_parts(search: Search, tmp_path: Path) -> None:
    ran = search("b.png", "--box", "0,0,48,32", "--text", "yellow", "--not", "c.png", "--html", "page.html", "-f")
    assert (ran.code, ran.err) == (0, "wrote page.html\n")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('<figure class="query">') == 2 and page.count('<figure class="query unwanted">') == 1
    assert "<h2>b.png[0,0,48,32] + &quot;yellow&quot; - c.png</h2>" in page
    assert search("--text", "red", "--html", "page.html", "-f").code == 0
    assert '<p class="text">red</p>' in (tmp_path / "page.html").read_text(encoding="utf-8")


# Many queries


def test_texts_in_a_file(search: Search, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(
        "path,x0,y0,x1,y1,text,text_weight\n"
        "b.png,0,0,48,32,,\n"
        ",,,,,orange,\n"
        "b.png,0,0,48,32,yellow,\n"
        "b.png,,,,,a green one,-0.5\n"
    )
    ran = search("--queries", "q.csv")
    assert (ran.code, ran.err) == (0, "")
    answers = [json.loads(line) for line in ran.out.splitlines()]
    assert [answer["query"] for answer in answers] == [
        "b.png",
        "orange",
        'b.png[0,0,48,32] + "yellow"',
        'b.png - 0.5*"a green one"',
    ]
    assert [len(answer.get("parts", [])) for answer in answers] == [0, 1, 2, 2]
    assert [Path(answer["hits"][0]["path"]).stem for answer in answers[1:]] == ["a", "a", "b"]
    (tmp_path / "texts.csv").write_text("text\nred\nblue\n")
    assert len(search("--queries", "texts.csv", "-f", "-k", "1").out.splitlines()) == 2


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (",,,,,,", "path is empty, and there is no text"),
        (",1,2,3,4,red,", "path is empty"),
        (",,,,,red,2", "text_weight is for a text beside a picture"),
        ("b.png,,,,,,2", "text_weight is for a text beside a picture"),
        ("b.png,,,,,red,much", "finite number"),
    ],
)
def test_a_bad_row_is_named(search: Search, tmp_path: Path, row: str, complaint: str) -> None:
    (tmp_path / "q.csv").write_text(f"path,x0,y0,x1,y1,text,text_weight\n{row}\n")
    search("--queries", "q.csv").complains(2, "q.csv, line 2", complaint)


def test_texts_that_nobody_reads_are_passed(in_process: Cli, shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(f"path,text\n,red\n{shelf}/pictures/0.png,\n")
    ran = in_process("search", "--queries", tmp_path / "q.csv", "-g", shelf / "g", "-k", "1")
    assert ran.code == 1 and "skipping encoder 'builtin' reads no texts" in ran.err
    answers = [json.loads(line) for line in ran.out.splitlines()]
    assert "error" in answers[0] and answers[1]["hits"][0]["path"].endswith("0.png")


# Real networks


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_texts_through_a_checkpoint(in_process: Cli, tmp_path: Path, picture: Any, kind: str) -> None:
    """From a folder as transformers saves it to the hits of plain numpy over vectors that transformers makes."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from encoders.hf_checkpoints import write_checkpoint

    folder = write_checkpoint(kind, tmp_path / "model")
    (tmp_path / "photos").mkdir()
    for seed in range(6):
        picture(seed).save(tmp_path / "photos" / f"{seed}.png")
    indexed = in_process("index", "photos", "-g", "g", "--encoder", f"hf:{folder}", "--regions", "pyramid:1")
    assert indexed.code == 0, indexed

    model = transformers.AutoModel.from_pretrained(folder).eval()
    mean, scale = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.3])

    def unit(found: Any) -> npt.NDArray[np.float64]:
        vectors = getattr(found, "pooler_output", found).detach().double().numpy()
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def of_picture(image: Image.Image) -> npt.NDArray[np.float64]:
        small = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)) / 255
        pixels = torch.tensor(((small - mean) / scale).transpose(2, 0, 1)[None], dtype=torch.float32)
        return unit(model.get_image_features(pixel_values=pixels))[0]

    def of_text(text: str) -> npt.NDArray[np.float64]:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        filled = {"padding": "max_length", "max_length": 12} if kind == "siglip" else {}
        return unit(model.get_text_features(**tokenizer(text, return_tensors="pt", **filled)))[0]

    boxes = [(0, 0, 96, 64), (0, 0, 48, 32), (48, 0, 96, 32), (0, 32, 48, 64), (48, 32, 96, 64)]
    regions = {seed: [of_picture(picture(seed).crop(box)) for box in boxes] for seed in range(6)}
    queries = [
        (["--text", "a red bicycle with a basket"], of_text("a red bicycle with a basket")),
        (["photos/2.png", "--text", "cup of tea"], of_picture(picture(2)) + of_text("cup of tea")),
        (
            ["--text", "blue", "photos/3.png", "--not", "photos/1.png", "--weights", "0.5,2,0.3"],
            0.5 * of_picture(picture(3)) + 2 * of_text("blue") - 0.3 * of_picture(picture(1)),
        ),
    ]
    for arguments, vector in queries:
        scores = {seed: np.array(of_all) @ vector / np.linalg.norm(vector) for seed, of_all in regions.items()}
        hits = answer(in_process("search", *arguments, "-g", "g", "--json"))["hits"]
        # Vectors are stored in half precision, which may turn scores around that are closer than this.
        found = [int(Path(hit["path"]).stem) for hit in hits]
        best_first = sorted((every.max() for every in scores.values()), reverse=True)
        assert [scores[seed].max() for seed in found] == pytest.approx(best_first, abs=1e-3)
        assert sorted(found) == sorted(scores)
        for hit, seed in zip(hits, found, strict=True):
            assert hit["score"] == pytest.approx(scores[seed].max(), abs=1e-3)
            assert scores[seed][boxes.index(tuple(hit["box"]))] == pytest.approx(scores[seed].max(), abs=1e-3)
            x0, y0, x1, y1 = hit["box"]
            assert 0 <= x0 < x1 <= hit["size"][0] and 0 <= y0 < y1 <= hit["size"][1]
