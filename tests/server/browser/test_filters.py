"""Which hits are shown: folders, metadata, the least score; and taking them along."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from .conftest import Visit
from .serving import FOLDERS, YEARS, Server, World
from .steps import hits, search_with, searched

pytestmark = pytest.mark.slow


@pytest.fixture
def searching(visit: Visit, server: Server, world: World, tmp_path: Path) -> Page:
    """A page that shows what was found for the cat."""
    world.objects.queries["cat"].save(tmp_path / "cat.png")
    page = visit(
        server.address, allow=(r"\b422\b.*(/images|/search)",), permissions=["clipboard-read", "clipboard-write"]
    )
    search_with(page, tmp_path / "cat.png")
    return page


def test_by_folder(searching: Page) -> None:
    page = searching
    page.click("#filters-open")
    row = page.locator("#filters-open-panel .folder", has_text=FOLDERS[0]).last
    with searched(page):
        row.locator("input").check()
    found = hits(page)
    assert len(found) == 15
    assert {Path(hit["path"]).parent.name for hit in found} == {FOLDERS[0]}
    assert parse_qs(urlsplit(page.url).query)["under"] == [str(Path(found[0]["path"]).parent)]
    expect(page.locator("#filters-count")).to_have_text("15 of 30 pictures")
    page.keyboard.press("Escape")
    with searched(page):
        page.click("[data-testid=filter-chip]")
    assert len(hits(page)) == 30


def test_by_metadata(searching: Page, world: World) -> None:
    page = searching
    page.click("#filters-open")
    value = page.locator("[data-column=shows] .values label", has=page.locator("input[data-value=cat]"))
    expect(value.locator(".tally")).to_have_text(str(len(world.places["cat"])))
    with searched(page):
        page.locator("[data-column=shows] input[data-value=cat]").check()
    assert {Path(hit["path"]) for hit in hits(page)} == world.places["cat"].keys()
    assert page.input_value("#where") == "shows = 'cat'"
    with searched(page):
        page.locator("[data-column=shows] input[data-value=cat]").uncheck()
        page.locator("[data-column=year] input").first.fill(str(YEARS[1]))
        page.keyboard.press("Tab")
    assert {Path(hit["path"]).parent.name for hit in hits(page)} == {FOLDERS[1]}
    with searched(page):
        page.fill("#where", f"shows is null and year < {YEARS[1]}")
        page.click("#where-apply")
    shown = {path for places in world.places.values() for path in places}
    found = {Path(hit["path"]) for hit in hits(page)}
    assert found == {path for path in world.folder.glob(f"{FOLDERS[0]}/*") if path not in shown}


def test_a_condition_that_cannot_be_read(searching: Page) -> None:
    page = searching
    before = page.url
    page.click("#filters-open")
    page.fill("#where", "shows = ")
    page.click("#where-apply")
    problem = page.locator("#where-problem")
    expect(problem).not_to_be_empty()
    expect(page.locator("#where")).to_have_attribute("aria-invalid", "true")
    assert page.url == before
    assert len(hits(page)) == 30
    page.fill("#where", "colour = 'red'")
    page.click("#where-apply")
    expect(problem).to_contain_text("colour")


def test_nothing_passes_the_filters(visit: Visit, server: Server, searching: Page) -> None:
    page = visit(f"{searching.url}&where=year > 3000")
    message = page.locator("[data-testid=results-message]")
    expect(message).to_contain_text("No picture passes the filters")
    with searched(page):
        page.click("#clear-filters")
    assert len(hits(page)) == 30


def test_the_score_folds_what_is_below(searching: Page) -> None:
    page = searching
    scores = sorted((hit["score"] for hit in hits(page)), reverse=True)
    least = round((scores[1] + scores[2]) / 2 / 0.005) * 0.005
    page.fill("#min-score", f"{least:.3f}")
    expect(page.locator("[data-testid=hit]")).to_have_count(sum(score >= least for score in scores))
    expect(page.locator("#below-score")).to_contain_text("28 pictures below this score")
    expect(page.locator("#min-score-text")).to_contain_text("2 of 30")
    page.wait_for_url("**min=*")
    page.click("#show-below")
    expect(page.locator("[data-testid=hit]")).to_have_count(30)


def test_weak_matches_are_folded(searching: Page) -> None:
    page = searching
    expect(page.locator("#results-headline")).to_have_text("2 matches")
    expect(page.locator("#hits [data-testid=hit]")).to_have_count(2)
    weak = page.locator("#weak [data-testid=hit]").first
    expect(weak).to_be_hidden()
    page.click("#weak-summary")
    expect(weak).to_be_visible()
    assert weak.get_attribute("data-verdict") == "chance"


def _download(page: Page, button: str) -> bytes:
    page.click("#export-open")
    with page.expect_download() as found:
        page.click(button)
    page.keyboard.press("Escape")
    return Path(found.value.path()).read_bytes()


def test_exports(searching: Page) -> None:
    page = searching
    found = hits(page)
    told = json.loads(_download(page, "#export-json"))
    listed = told["hits"] if isinstance(told, dict) else told[0]["hits"]
    assert [hit["path"] for hit in listed] == [hit["path"] for hit in found]
    assert [hit["box"] for hit in listed] == [hit["box"] for hit in found]

    rows = list(csv.DictReader(_download(page, "#export-csv").decode().splitlines()))
    assert [row["path"] for row in rows] == [hit["path"] for hit in found]
    assert [float(row["score"]) for row in rows] == pytest.approx([hit["score"] for hit in found], abs=1e-5)

    report = _download(page, "#export-html").decode()
    assert report.lstrip().lower().startswith("<!doctype html")
    assert Path(found[0]["path"]).name in report
    assert "data:image/jpeg;base64," in report
    assert "http://127.0.0.1" not in report


def test_copied_paths_and_link(searching: Page) -> None:
    page = searching
    found = hits(page)
    page.click("#export-open")
    page.click("#export-paths")
    expect(page.locator("#export-state")).to_have_text("30 paths copied.")
    assert page.evaluate("navigator.clipboard.readText()").splitlines() == [hit["path"] for hit in found]
    page.click("#export-matches")
    expect(page.locator("#export-state")).to_have_text("2 paths copied.")
    assert page.evaluate("navigator.clipboard.readText()").splitlines() == [hit["path"] for hit in found[:2]]
    page.click("#export-link")
    expect(page.locator("#export-state")).to_have_text("The link is copied.")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
