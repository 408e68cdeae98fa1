"""The page: whole in itself, well formed, and deaf to what file names say."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from PIL import Image

from colours import ColourEncoder
from conftest import FakeEncoder, make_picture
from patchwise import Gallery, Hit, QueryPart, RegionScore
from patchwise.errors import BoxError, StorageFull
from patchwise.report import ReportHit, ReportPart, ReportSection, render_html
from patchwise.report.page import write_page, write_search_page
from patchwise.report.text import printable
from patchwise.search import Geometry
from report.conftest import HOSTILE, make_explanation, make_hit

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Elements as (tag, attributes, text inside), after checking that every tag is closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(page)
        self.close()
        assert not self._open, f"never closed: {[tag for tag, _, _ in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        element = (tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1][0] == tag, f"</{tag}> closes nothing"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for _, _, text in self._open:
            text.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        wanted = {name.rstrip("_"): value for name, value in wanted.items()}
        return [a for name, a, _ in self.elements if name == tag and wanted.items() <= a.items()]

    def text(self, tag: str) -> list[str]:
        return ["".join(text) for name, _, text in self.elements if name == tag]


def section(found: list[Hit], **changes: object) -> ReportSection:
    shown = [ReportHit(hit, make_explanation(hit), make_picture(hit.rank, (200, 100))) for hit in found]
    fields = {
        "title": "mug.jpg",
        "parts": [ReportPart(make_picture(99, (60, 40)), (120, 80))],
        "hits": shown,
    }
    return ReportSection(**{**fields, **changes})  # type: ignore[arg-type]


def decoded(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert re.fullmatch(r"data:image/(jpeg|png);base64", head)
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    image.load()
    return image


@pytest.fixture
def hostile_page(hostile_hits: list[Hit]) -> str:
    return render_html("Hits for <b>$5</b>", [section(hostile_hits, title=HOSTILE[0])], "footer & <i>more</i>")


def test_the_page_needs_nothing_else(hostile_page: str) -> None:
    page = Page(hostile_page)
    for tag, attributes, _ in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        assert not {"srcset", "poster", "action", "xlink:href", "background"} & set(attributes)
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/")
        if "href" in attributes:
            assert (tag, urlsplit(attributes["href"]).scheme) == ("a", "file")
    (style,) = page.text("style")
    assert "url(" not in style and "@import" not in style
    assert not re.search(r"https?://", hostile_page)


def test_every_picture_can_be_decoded(hostile_page: str, hostile_hits: list[Hit]) -> None:
    sources = [attributes["src"] for attributes in Page(hostile_page).all("img")]
    assert len(sources) == 1 + 2 * len(hostile_hits)
    for source in sources:
        image = decoded(source)
        assert max(image.size) <= 480
    assert decoded(sources[0]).size == (60, 40)
    assert decoded(sources[1]).size == (200, 100)
    assert (decoded(sources[2]).format, decoded(sources[2]).size) == ("PNG", (64, 32))


def test_large_pictures_are_made_small() -> None:
    hit = make_hit()
    shown = ReportHit(hit, make_explanation(hit), make_picture(1, (2000, 1000)))
    page = Page(render_html("t", [section([], hits=[shown], parts=[ReportPart(make_picture(2, (900, 1800)))])]))
    query, picture, _ = page.all("img")
    assert decoded(query["src"]).size == (240, 480)
    assert decoded(picture["src"]).size == (480, 240)


def test_file_names_are_only_text(hostile_page: str, hostile_hits: list[Hit]) -> None:
    page = Page(hostile_page)
    links = page.all("a")
    assert [link["title"] for link in links] == [printable(path) for path in HOSTILE]
    assert page.text("a") == [printable(Path(path).name) for path in HOSTILE]
    for link, path in zip(links, HOSTILE, strict=True):
        assert unquote_to_bytes(urlsplit(link["href"]).path) == path.encode("utf-8", "surrogateescape")
        assert set(link) == {"href", "title"}
    alternatives = [attributes["alt"] for attributes in page.all("img")]
    assert alternatives == ["query", *(alt for path in HOSTILE for alt in (printable(Path(path).name), ""))]
    assert page.text("h2") == [printable(HOSTILE[0])]
    assert page.text("title")[:1] == page.text("h1") == ["Hits for <b>$5</b>"]
    assert page.text("footer") == ["footer & <i>more</i>"]
    hostile_page.encode("utf-8")


def test_nothing_that_runs_comes_from_a_name(hostile_page: str) -> None:
    handlers = [
        (tag, name) for tag, attributes, _ in Page(hostile_page).elements for name in attributes if name[:2] == "on"
    ]
    assert handlers == [("input", "onchange")] * 2


def test_every_hit_is_shown_with_its_box() -> None:
    hits = [make_hit(rank, f"/photos/{rank}.jpg", 1 - rank / 10) for rank in (1, 2, 3)]
    page = Page(render_html("t", [section(hits)]))
    boxes = page.all("rect", class_="best")
    assert boxes == [{"class": "best", "x": "100", "y": "50", "width": "100", "height": "50"}] * 3
    views = [attributes["viewbox"] for attributes in page.all("svg")]
    assert views == ["0 0 120 80"] + ["0 0 200 100"] * 3
    assert len(page.all("rect", class_="region")) == 3 * 2
    captions = page.text("figcaption")
    assert captions[0] == "query"
    for hit, caption in zip(hits, captions[1:], strict=True):
        assert f"{hit.rank}." in caption
        assert f"score {hit.score:.3f}" in caption
        assert "level 1, row 1, column 1" in caption
        assert "box 100, 50, 200, 100 of 200 × 100" in caption


def test_region_scores_can_be_read() -> None:
    page = Page(render_html("t", [section([make_hit(score=0.75)])]))
    assert page.text("rect")[:2] == ["L0 0,0: 0.250", "L1 1,1: 0.750"]


def test_the_query_box_and_the_true_box() -> None:
    hit = make_hit()
    shown = ReportHit(hit, make_explanation(hit), make_picture(1), true_box=(5.5, 6, 20, 30), note="right & proper")
    asked = ReportPart(make_picture(99, (60, 40)), (120, 80), (10.0, 20.0, 60.0, 70.5))
    page = Page(render_html("t", [section([], hits=[shown], parts=[asked], summary="one <hit>")]))
    assert page.all("rect", class_="best")[0] == {
        "class": "best",
        "x": "10",
        "y": "20",
        "width": "50",
        "height": "50.5",
    }
    assert page.all("rect", class_="true") == [{"class": "true", "x": "5.5", "y": "6", "width": "14.5", "height": "24"}]
    assert "right & proper" in page.text("figcaption")[1]
    assert "one <hit>" in page.text("p")


def test_the_whole_image_is_called_so() -> None:
    hit = Hit(1, "/a.jpg", 0.5, (0.0, 0.0, 200.0, 100.0), 0, (0, 0), (200, 100), make_hit().regions)
    assert "whole image" in Page(render_html("t", [section([hit])])).text("figcaption")[1]


def test_a_box_outside_any_grid_is_called_so() -> None:
    free = RegionScore((20.0, 30.0, 90.0, 80.0), -1, (-1, -1), 0.75)
    hit = Hit(1, "/a.jpg", 0.75, free.box, -1, (-1, -1), (200, 100), (free, *make_hit(score=0.75).regions))
    page = Page(render_html("t", [section([hit])]))
    assert "a box outside any grid" in page.text("figcaption")[1]
    assert page.text("rect")[:3] == ["box: 0.750", "L0 0,0: 0.250", "L1 1,1: 0.750"]
    assert "-1" not in page.text("figcaption")[1] + "".join(page.text("rect"))


def test_nothing_matched() -> None:
    page = Page(render_html("t", [section([])]))
    assert "Nothing matched." in page.text("p")
    assert len(page.all("img")) == 1
    assert page.all("rect", class_="best") == []


def test_a_picture_that_is_gone_says_why() -> None:
    hit = make_hit()
    page = Page(render_html("t", [section([], hits=[ReportHit(hit, make_explanation(hit), "no such <file>")])]))
    assert "cannot be shown: no such <file>" in page.text("p")
    assert len(page.all("img")) == 1
    assert "score 0.877" in page.text("figcaption")[1]


def test_the_parts_of_a_query() -> None:
    asked = [
        ReportPart(make_picture(1, (60, 40)), (120, 80), (10.0, 20.0, 60.0, 70.0), "/pictures/<mug>.jpg"),
        ReportPart("red & \nround", weight=2),
        ReportPart(make_picture(2, (60, 40)), (60, 40), None, "cup.jpg", -0.5),
    ]
    hit = replace(make_hit(), part_scores=(0.71, 0.2468, -0.1))
    shown = ReportHit(hit, make_explanation(hit), make_picture(3))
    page = Page(render_html("t", [section([], hits=[shown], parts=asked)]))
    assert [figure.get("class") for figure in page.all("figure")] == ["query", "query", "query unwanted", None]
    captions = page.text("figcaption")
    assert captions[:3] == ["wanted, weight 1/pictures/<mug>.jpg", "wanted, weight 2", "not wanted, weight 0.5cup.jpg"]
    assert r"red & \nround" in page.text("p")
    assert [view["viewbox"] for view in page.all("svg")] == ["0 0 120 80", "0 0 60 40", "0 0 200 100"]
    assert [rectangle["x"] for rectangle in page.all("rect", class_="best")] == ["10", "100"]
    assert "0.710 <mug>.jpg" in captions[3]
    assert r"0.247 “red & \nround”" in captions[3]
    assert "-0.100 not cup.jpg" in captions[3]


def test_a_query_that_is_a_text() -> None:
    page = Page(render_html("t", [section([make_hit()], title="red", parts=[ReportPart("red <b>")])]))
    assert page.text("figcaption")[0] == "query" and "red <b>" in page.text("p")
    assert len(page.all("img")) == 2  # the hit and its heat map


def test_several_queries_on_one_page() -> None:
    page = Page(render_html("t", [section([make_hit()], title="one"), section([], title="two")]))
    assert page.text("h2") == ["one", "two"]


def test_heat_is_on_one_scale_for_all_hits_of_a_query() -> None:
    page = Page(render_html("t", [section([make_hit(1, score=0.9), make_hit(2, score=0.5)])]))
    strong, weak = (np.asarray(decoded(heat["src"]).convert("L")) for heat in page.all("img", class_="heat"))
    assert strong.max() > 230
    assert weak.max() < strong.max() - 50
    scale = next(text for text in page.text("p") if "heat map" in text)
    assert scale.startswith("0.00") and "0.65" in scale


@pytest.fixture
def gallery(tmp_path: Path, picture_folder: Path) -> Gallery:
    gallery = Gallery.create(tmp_path / "g.pw", encoder=FakeEncoder(), regions="pyramid:1")
    gallery.add(picture_folder)
    return gallery


def test_the_page_of_a_search(gallery: Gallery, picture_folder: Path, tmp_path: Path) -> None:
    query, box = picture_folder / "02.png", (48.0, 0.0, 96.0, 32.0)
    hits = gallery.search(query, box=box, k=4)
    (picture_folder / "01.png").unlink()
    (picture_folder / "03.png").write_bytes(b"no image any more")
    write_search_page(tmp_path / "page.html", gallery, query, box, hits, title=str(query))
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.text("h1") == ["patchwise: 4 hits"]
    assert page.text("h2") == [str(query)]
    assert page.all("rect", class_="best")[0] == {"class": "best", "x": "48", "y": "0", "width": "48", "height": "32"}
    assert [link["title"] for link in page.all("a")] == [hit.path for hit in hits]
    gone = [text for text in page.text("p") if "cannot be shown" in text]
    names = {Path(hit.path).name for hit in hits}
    assert len(gone) == len(names & {"01.png", "03.png"})
    assert page.text("footer") == [f"{gallery.path.absolute()}: 6 images, pyramid:1"]
    for hit, place in zip(hits, page.text("figcaption")[1:], strict=True):
        assert f"score {hit.score:.3f}" in place


def test_the_page_of_a_combined_search(tmp_path: Path, picture_folder: Path) -> None:
    with Gallery.create(tmp_path / "c.pw", encoder=ColourEncoder(), regions="pyramid:1") as gallery:
        gallery.add(picture_folder)
        parts = [QueryPart(picture_folder / "02.png", box=(48, 0, 96, 32)), QueryPart(text="red", weight=0.3)]
        parts.append(QueryPart((picture_folder / "04.png").read_bytes(), weight=-0.2, name="-"))
        hits = gallery.search(parts, k=2)
        write_search_page(tmp_path / "page.html", gallery, parts, None, hits, title="all")
        page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
        heats = [decoded(heat["src"]) for heat in page.all("img", class_="heat")]
        assert page.text("figcaption")[0].endswith("/02.png") and page.text("figcaption")[2].endswith("0.2-")
        assert [link["title"] for link in page.all("a")] == [hit.path for hit in hits]
        region_labels = [text for text in page.text("rect") if text.startswith("L0")]
        whole = [gallery.explain(parts, hit).regions[0].score for hit in hits]
        assert region_labels == [f"L0 0,0: {score:.3f}" for score in whole] and len(heats) == 2

        write_search_page(tmp_path / "text.html", gallery, None, None, hits, text="red", title="red")
        assert "red" in Page((tmp_path / "text.html").read_text(encoding="utf-8")).text("p")
        with pytest.raises(BoxError, match="outside"):
            write_search_page(
                tmp_path / "no.html", gallery, picture_folder / "02.png", (200, 0, 300, 9), hits, title=""
            )


def test_a_page_can_name_files_that_are_no_text(tmp_path: Path) -> None:
    broken = "bytes \udcff\udc80"
    hit = make_hit(path=f"/{broken}.jpg")
    shown = [ReportHit(hit, make_explanation(hit), f"{broken}: gone", note=broken)]
    page = render_html(broken, [section([], hits=shown, title=broken, summary=broken)], broken)
    write_page(tmp_path / "page.html", page)
    assert r"bytes \udcff\udc80" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "page.html"):
        with pytest.raises(StorageFull, match=f"{re.escape(str(path))}: cannot be written"):
            write_page(path, "<p>")


def test_evidence_of_a_second_look_is_drawn_and_said() -> None:
    hit = replace(
        make_hit(),
        geometry=Geometry("verified", 34, ((1.0, 2.0), (30.5, 2.0), (30.0, 20.0), (1.0, 20.0))),
        instances=(RegionScore((5.0, 6.0, 7.0, 8.0), -1, (-1, -1), 0.6),),
        alike=(make_hit(2, "/photos/<b>.jpg"),),
    )
    page = Page(render_html("t", [section([hit])]))
    assert page.all("polygon") == [{"class": "outline", "points": "1,2 30.5,2 30,20 1,20"}]
    assert page.all("rect", class_="best more") == [
        {"class": "best more", "x": "5", "y": "6", "width": "2", "height": "2"}
    ]
    caption = page.text("figcaption")[1]
    assert "by chance 0.001" in caption
    assert "verified (34 points)" in caption
    assert "and 1 alike" in caption
    assert {"title": "<b>.jpg"} in page.all("span")


@pytest.mark.parametrize("expected", [0.001, 0.9])
def test_with_a_verdict_what_may_be_chance_is_folded(expected: float) -> None:
    hits = [replace(make_hit(1), expected_false_matches=expected), replace(make_hit(2), expected_false_matches=3.0)]
    plain, folded = (replace(section(hits), verdict=verdict) for verdict in (False, True))
    assert not Page(render_html("t", [plain])).all("details")
    page = Page(render_html("t", [folded]))
    assert len(page.all("details")) == 1
    weak = 1 if expected < 0.05 else 2
    assert page.text("summary") == [f"{weak} more that may be chance"]
    assert len(page.text("figcaption")) == 3
    assert ("Nothing matched." in page.text("p")) == (weak == 2)
