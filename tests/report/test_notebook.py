"""What a notebook shows: well formed, whole in itself, small, deaf to file names, boxes where they belong."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import make_picture
from patchwise import Explanation, Gallery, Hit, Hits, QueryPart, QueryResult, RegionScore
from patchwise.errors import ImageUnreadable
from patchwise.report.text import printable
from patchwise.search import Geometry
from report.conftest import HOSTILE, make_hit
from report.test_html import Page, decoded


class Elsewhere:
    """Pictures that lie on another machine."""

    def __init__(self, picture: Image.Image | None) -> None:
        self.picture = picture
        self.asked: list[int] = []

    def read(self, longest: int) -> Image.Image:
        self.asked.append(longest)
        if self.picture is None:
            raise ImageUnreadable("a.jpg", "the server no longer has it")
        return self.picture


def shown(thing: object) -> Page:
    text = thing._repr_html_()  # type: ignore[attr-defined]
    assert text.startswith('<div class="patchwise-shown">') and text.endswith("</div>")
    page = Page(text)
    for tag, attributes, _ in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "a")
        assert not [name for name in attributes if name.startswith("on") or name == "href"]
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/")
    (style,) = page.text("style")
    for rule in re.findall(r"([^{}]+)\{", style):
        assert all(each.strip().startswith(".patchwise-shown") for each in rule.split(",")), (
            "it would style the notebook"
        )
    text.encode("utf-8")
    return page


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    make_picture(1, (200, 100)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_search_shows_its_query_and_hits(gallery: Gallery, pictures: Path) -> None:
    hits = gallery.search(pictures / "02.png", box=(4, 6, 20, 24), k=3)
    page = shown(hits)
    images = [decoded(attributes["src"]) for attributes in page.all("img")]
    assert [image.size for image in images] == [(32, 24)] * 4
    query, *boxes = page.all("rect", class_="best")
    assert query == {"class": "best", "x": "4", "y": "6", "width": "16", "height": "18"}
    for box, hit in zip(boxes, hits, strict=True):
        x0, y0, x1, y1 = hit.box
        assert [float(box[name]) for name in ("x", "y", "width", "height")] == [x0, y0, x1 - x0, y1 - y0]
    assert [view["viewbox"] for view in page.all("svg")] == ["0 0 32 24"] * 4
    captions = page.text("figcaption")
    assert captions[0] == "query"
    for caption, hit in zip(captions[1:], hits, strict=True):
        assert caption.startswith(f"{hit.rank}. {Path(hit.path).name}{hit.score:.3f}")
    assert page.text("p")[0].startswith("3 hits")
    found = np.asarray(images[1]).astype(int)
    assert np.abs(found - np.asarray(Image.open(hits[0].path)).astype(int)).mean() < 12, "another picture"


def test_verdicts_are_said(photo: Path) -> None:
    sure, chance = make_hit(1, str(photo)), replace(make_hit(2, str(photo)), expected_false_matches=3.2)
    unknown = replace(make_hit(3, str(photo)), expected_false_matches=None)
    page = shown(Hits([sure, chance, unknown]))
    said = page.text("figcaption")
    assert "· match" in said[0] and "by chance 0.001" in said[0]
    assert "· may be chance" in said[1] and "by chance 3" in said[1]
    assert "match" not in said[2] and "chance" not in said[2]
    assert page.text("p")[0] == "3 hits, of which 1 is a match"
    assert shown(Hits([sure, sure])).text("p")[0] == "2 hits, of which 2 match"
    assert shown(Hits([chance])).text("p")[0] == "No match; 1 hit that may be chance"
    assert shown(Hits([unknown])).text("p")[0] == "1 hit"


def test_nothing_matched() -> None:
    page = shown(Hits([], [QueryPart(text="a <red> mug")]))
    assert page.text("p") == ["Nothing matched.", "a <red> mug"]


def test_file_names_are_only_text(hostile_hits: list[Hit]) -> None:
    page = shown(Hits(hostile_hits, [QueryPart("/nowhere/<b>mug</b>.jpg"), QueryPart(text="<i>red</i>", weight=-2)]))
    titles = [attributes.get("title") for attributes in page.all("figure")]
    assert titles == [None, None, *map(printable, HOSTILE)]
    assert not page.all("img")
    reasons = page.text("p")
    assert "/nowhere/<b>mug</b>.jpg: cannot be shown: no such file" in reasons and "<i>red</i>" in reasons
    assert reasons.count("cannot be shown: no such file") == len(HOSTILE)
    captions = page.text("figcaption")
    assert captions[1] == "not wanted, weight 2"
    for caption, path in zip(captions[2:], HOSTILE, strict=True):
        assert printable(Path(path).name) in caption


def test_many_hits_stay_small(photo: Path) -> None:
    Image.effect_noise((1600, 1200), 90).convert("RGB").save(photo)
    hits = Hits(replace(make_hit(rank, str(photo)), size=(1600, 1200)) for rank in range(1, 53))
    text = hits._repr_html_()
    page = Page(text)
    assert len(page.all("img")) == 20 and max(decoded(page.all("img")[0]["src"]).size) == 256
    assert "and 32 more, not shown: hits[20:]" in page.text("p")
    assert len(text) < 2_000_000, "of nothing but noise, which no JPEG makes small"
    assert "32 hits" in shown(hits[20:]).text("p")[0]


def test_a_query_of_bytes_arrays_and_addresses() -> None:
    pixels = np.asarray(make_picture(3, (60, 40)))
    parts = [QueryPart(pixels), QueryPart(make_picture(4, (50, 40))), QueryPart("https://example.org/a.jpg")]
    page = shown(Hits([], parts))
    assert [decoded(image["src"]).size for image in page.all("img")] == [(60, 40), (50, 40)]
    assert "https://example.org/a.jpg" in page.text("p"), "an address is named, and not fetched again"


def test_one_hit(photo: Path) -> None:
    second = RegionScore((0.0, 0.0, 50.0, 50.0), 1, (0, 0), 0.5)
    outline = ((100.0, 50.0), (199.0, 52.0), (198.0, 99.0), (101.0, 98.0))
    hit = replace(
        make_hit(1, str(photo)),
        instances=(second,),
        geometry=Geometry("verified", 31, outline),
        metadata={"<brand>": "Acme & sons", "year": 2019},
    )
    page = shown(hit)
    assert page.all("rect", class_="best") == [{"class": "best", "x": "100", "y": "50", "width": "100", "height": "50"}]
    assert page.all("rect", class_="best more") == [
        {"class": "best more", "x": "0", "y": "0", "width": "50", "height": "50"}
    ]
    assert page.all("polygon", class_="outline") == [{"class": "outline", "points": "100,50 199,52 198,99 101,98"}]
    (caption,) = page.text("figcaption")
    assert "verified (31 points)" in caption and "box 100, 50, 200, 100 of 200 × 100" in caption
    assert "<brand>: Acme & sons" in caption and "year: 2019" in caption


def test_near_duplicates_are_counted(photo: Path) -> None:
    twin = make_hit(2, "/photos/<twin>.jpg")
    page = shown(Hits([replace(make_hit(1, str(photo)), alike=(twin,))]))
    assert "and 1 alike" in page.text("figcaption")[0]
    assert page.all("span")[0]["title"] == "<twin>.jpg"


def test_a_hit_from_elsewhere_is_opened_there(photo: Path) -> None:
    elsewhere = Elsewhere(make_picture(2, (200, 100)))
    page = shown(replace(make_hit(1, str(photo)), source=elsewhere))
    assert elsewhere.asked and decoded(page.all("img")[0]["src"]).size == (200, 100)
    gone = shown(replace(make_hit(1, str(photo)), source=Elsewhere(None)))
    assert gone.text("p") == ["cannot be shown: the server no longer has it"] and not gone.all("img")


def test_an_answer_of_many_queries(gallery: Gallery, pictures: Path) -> None:
    right, wrong = gallery.search_many([(pictures / "01.png", None), (pictures / "no <such>.png", None)], k=2)
    assert len(shown(right).all("img")) == 3
    page = shown(wrong)
    assert page.text("p")[0].startswith("not answered: ") and "no <such>.png" in page.text("p")[0]
    assert shown(QueryResult("x", None, ())).text("p") == ["Nothing matched."]


def test_an_explanation_shows_the_heat_map_and_the_regions(gallery: Gallery, pictures: Path) -> None:
    explanation = gallery.explain(pictures / "01.png", pictures / "03.png")
    page = shown(explanation)
    best = max(explanation.regions, key=lambda region: region.score)
    (box,) = page.all("rect", class_="best")
    assert [float(box["x"]), float(box["y"])] == list(best.box[:2])
    rows = page.text("tr")[1:]
    assert len(rows) == 5 and rows[0].startswith(f"1{best.score:.3f}")
    assert [row[1:6] for row in rows] == sorted((row[1:6] for row in rows), key=float, reverse=True)
    assert str(pictures / "03.png") in page.text("p")[0]
    (picture,) = page.all("img")
    plain = np.asarray(Image.open(pictures / "03.png").convert("RGB")).astype(int)
    assert np.abs(np.asarray(decoded(picture["src"])).astype(int) - plain).mean() > 20, "no heat map lies over it"


def test_an_explanation_of_parts(gallery: Gallery, pictures: Path) -> None:
    parts = [QueryPart(pictures / "01.png"), QueryPart(pictures / "02.png", weight=0.5)]
    page = shown(gallery.explain(parts, pictures / "03.png"))
    assert len(page.all("img")) == 3
    for caption, start in zip(page.text("figcaption"), ("all parts together", "part 1", "part 2"), strict=True):
        assert caption.startswith(start)


def test_an_explanation_whose_picture_is_gone() -> None:
    regions = (RegionScore((0.0, 0.0, 200.0, 100.0), 0, (0, 0), 0.2), RegionScore((0, 0, 100, 50), 1, (0, 0), 0.6))
    page = shown(Explanation("/photos/<gone>.jpg", (200, 100), regions))
    assert "The picture cannot be shown: no such file" in page.text("p")
    heat = decoded(page.all("img")[0]["src"])
    assert heat.size == (480, 240), "the heat map can still be seen"
    pixels = np.asarray(heat.convert("L")).astype(int)
    assert pixels[20, 20] > pixels[200, 400], "and it is bright where the score is high"


def test_only_some_regions_are_listed(photo: Path) -> None:
    regions = tuple(RegionScore((0.0, 0.0, 200.0, 100.0), 0, (0, place), place / 40) for place in range(30))
    page = shown(Explanation(str(photo), (200, 100), regions))
    assert len(page.text("tr")) == 11 and "the best 10 of 30 regions" in page.text("p")


def test_ipython_shows_them(gallery: Gallery, pictures: Path) -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    hits = gallery.search(pictures / "02.png", k=2)
    for thing in (hits, hits[0], gallery.explain(pictures / "02.png", hits[0])):
        data, _ = formatters.DisplayFormatter().format(thing)
        assert data["text/html"] == thing._repr_html_()
