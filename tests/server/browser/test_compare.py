"""A hit side by side with the query: why it matched, and where one can go from there."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from patchwise import Gallery

from .conftest import Visit
from .serving import Server, World
from .steps import drawn_box, hits, loaded, on_screen, open_first, rectangle, search_with, searched

pytestmark = pytest.mark.slow

SCENE_SIZE = (1024, 768)


def _edges(place: Locator) -> list[float]:
    return [float(edge) for edge in (place.get_attribute("data-box") or "").split(",")]


def _pixels(place: Locator) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(place.screenshot(caret="initial"))).convert("RGB")).astype(int)


def test_query_hit_regions_and_heat(
    visit: Visit, server: Server, world: World, library: Gallery, tmp_path: Path
) -> None:
    query = tmp_path / "query.jpg"
    page = visit(server.address)
    search_with(page, query, world.query(query, "coffee cup"))
    box = drawn_box(page)
    dialog = open_first(page)
    hit = library.search(query, box=box, k=1)[0]

    expect(dialog.locator("#compare-title")).to_have_text(Path(hit.path).name)
    expect(dialog.locator("#compare-score")).to_have_text(f"score {hit.score:.3f}")
    expect(dialog.locator("#compare-verdict")).to_have_text("match")
    assert _edges(dialog.locator("#compare-query .box")) == list(box)
    best = dialog.locator("#compare-stage .box.best")
    assert _edges(best) == list(hit.box)
    stage = dialog.locator("#compare-stage .shot")
    loaded(stage.locator("img"))
    wanted = on_screen(hit.box, SCENE_SIZE, rectangle(stage.locator("img")))
    assert rectangle(best.locator(".line")) == pytest.approx(wanted, abs=3)

    better = library.search(query, box=box, k=1, under=[hit.path], rerank="refine:1")[0]
    assert better.score > hit.score
    refined = dialog.locator("#compare-stage .box.refined")
    expect(refined).to_be_attached()
    assert _edges(refined) == pytest.approx(list(better.box), abs=0.6)
    expect(dialog.locator("#compare-search")).to_contain_text("refined")

    regions = dialog.locator("[data-testid=region]")
    expect(regions).to_have_count(10)
    assert [_edges(region) for region in regions.all()] == [list(region.box) for region in hit.regions[:10]]
    expect(dialog.locator("#compare-stage .highlight .box")).to_have_count(0)
    regions.nth(2).hover()
    assert _edges(dialog.locator("#compare-stage .highlight .box")) == list(hit.regions[2].box)

    page.mouse.move(2, 2)
    heat = dialog.locator("#compare-heat")
    expect(dialog.locator(".heat-slider .scale")).to_be_visible()
    heat.fill("0")
    without = _pixels(stage)
    heat.fill("100")
    covered = _pixels(stage)
    assert np.abs(without - covered).mean() > 20
    # Under the best region the map is brighter than where nothing is alike.
    height, width = covered.shape[:2]
    x0, y0, x1, y1 = (round(edge) for edge in on_screen(hit.box, SCENE_SIZE, (0, 0, width, height)))
    inside = np.zeros((height, width), bool)
    inside[y0 + 8 : y1 - 8, x0 + 8 : x1 - 8] = True
    assert covered[inside].mean() > covered[~inside].mean() + 30


def test_on_to_the_next_and_back_to_where_one_was(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    world.objects.queries["cat"].save(tmp_path / "cat.png")
    page = visit(server.address)
    search_with(page, tmp_path / "cat.png")
    before = page.url
    found = hits(page)
    dialog = open_first(page)
    place = dialog.locator("#compare-place")
    expect(place).to_have_text("1 of 30")
    expect(dialog.locator("#compare-previous")).to_be_disabled()
    page.keyboard.press("ArrowRight")
    expect(place).to_have_text("2 of 30")
    expect(dialog.locator("#compare-title")).to_have_text(Path(found[1]["path"]).name)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(place).to_have_text("2 of 30")
    assert f"open={found[1]['image']}" in page.url
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("[data-testid=hit][data-rank='2'] [data-testid=hit-open]")).to_be_focused()
    page.wait_for_url(before)


def test_search_with_this_box(visit: Visit, server: Server, world: World, library: Gallery, tmp_path: Path) -> None:
    world.objects.queries["motorcycle"].save(tmp_path / "query.png")
    page = visit(server.address)
    search_with(page, tmp_path / "query.png")
    best = hits(page)[0]
    dialog = open_first(page)
    expect(dialog.locator("#compare-search")).to_contain_text("refined")
    refined = _edges(dialog.locator("#compare-stage .box.refined"))
    with searched(page):
        dialog.locator("#compare-search").click()
    expect(dialog).to_be_hidden()
    box = drawn_box(page)
    assert box == pytest.approx(refined, abs=1)
    found = hits(page)
    assert Path(found[0]["path"]) == Path(best["path"]), "the picture itself is the most alike"
    assert Path(found[1]["path"]) in world.places["motorcycle"]

    page.go_back()
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    with searched(page):
        page.locator("[data-testid=hit]").nth(1).hover()
        page.locator("[data-testid=hit]").nth(1).locator("[data-testid=hit-open]").click()
        dialog.locator("#compare-whole").click()
    assert drawn_box(page) == (0, 0, *SCENE_SIZE)


def test_heat_under_the_pointer(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    world.objects.queries["cat"].save(tmp_path / "cat.png")
    page = visit(server.address)
    search_with(page, tmp_path / "cat.png")
    card = page.locator("[data-testid=hit]").first
    shot = card.locator(".shot")
    loaded(card.locator("img"))
    page.mouse.move(2, 2)
    without = _pixels(shot)
    card.locator("[data-testid=hit-open]").hover()
    page.wait_for_function("() => document.querySelector('[data-testid=hit]').classList.contains('hot')")
    assert np.abs(without - _pixels(shot)).mean() > 8


def test_what_is_known_of_a_hit(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    world.objects.queries["cat"].save(tmp_path / "cat.png")
    page = visit(server.address)
    search_with(page, tmp_path / "cat.png")
    page.locator("[data-testid=hit-info]").first.click()
    facts = page.locator("[data-testid=hit-facts]")
    expect(facts).to_contain_text(hits(page)[0]["path"])
    expect(facts).to_contain_text("shows")
    expect(facts).to_contain_text("cat")
    page.keyboard.press("Escape")
    expect(facts).to_have_count(0)
    expect(page.locator("[data-testid=hit-info]").first).to_be_focused()
