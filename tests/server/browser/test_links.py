"""A search is its address: links, back and forward."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from .conftest import Visit
from .serving import Server, World
from .steps import draw, drawn_box, hits, open_first, search_with, searched

pytestmark = pytest.mark.slow


def test_a_link_shows_the_same_to_somebody_else(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    box = world.query(tmp_path / "query.jpg", "flower")
    page = visit(server.address)
    search_with(page, tmp_path / "query.jpg", box)
    with searched(page):
        page.check("#small-object")
    found, drawn = hits(page), drawn_box(page)
    page.locator("[data-testid=hit-open]").nth(1).click()
    title = page.locator("#compare-title")
    expect(title).to_have_text(Path(found[1]["path"]).name)

    other = visit(page.url)
    expect(other.locator("#compare-title")).to_have_text(Path(found[1]["path"]).name)
    assert hits(other) == found
    assert drawn_box(other) == drawn
    expect(other.locator("#small-object")).to_be_checked()
    other.keyboard.press("Escape")
    expect(other.locator("#compare")).to_be_hidden()
    expect(other.locator("#stage-picture")).to_be_visible()


def test_back_and_forward(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    box = world.query(tmp_path / "query.jpg", "cat")
    page = visit(server.address)
    search_with(page, tmp_path / "query.jpg", box)
    first, found = drawn_box(page), hits(page)
    with searched(page):
        page.click("#box-clear")
    with searched(page):
        draw(page, (100, 100, 400, 400))
    second = drawn_box(page)
    assert second != first
    with searched(page):
        page.go_back()
    assert drawn_box(page) == (0, 0, 900, 600)
    with searched(page):
        page.go_back()
    assert drawn_box(page) == first
    assert hits(page) == found
    with searched(page):
        page.go_forward()
        page.go_forward()
    assert drawn_box(page) == second

    dialog = open_first(page)
    page.go_back()
    expect(dialog).to_be_hidden()
    page.go_forward()
    expect(dialog).to_be_visible()
    page.go_back()
    page.click("#view-browse")
    expect(page.locator("[data-testid=browse-list]")).to_be_visible()
    page.go_back()
    expect(page.locator("#stage-picture")).to_be_visible()
    assert drawn_box(page) == second


def test_a_link_to_a_picture_that_is_no_longer_kept(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    world.objects.queries["rocket"].save(tmp_path / "rocket.png")
    gone = "0123456789abcdef" * 2
    page = visit(f"{server.address}?v=1&p=image:{gone};box:10,10,150,300", allow=(r"\b404\b",))
    expect(page.locator("#picture-gone")).to_be_visible()
    page.wait_for_function("() => document.getElementById('results').dataset.state === 'error'")
    with searched(page):
        page.set_input_files("#pick-again", str(tmp_path / "rocket.png"))
    assert Path(hits(page)[0]["path"]) in world.places["rocket"]


def test_nonsense_in_the_address_does_no_harm(visit: Visit, server: Server) -> None:
    page = visit(f"{server.address}?v=1&p=image:nothing;box:a,b&k=minus&open=<b>&under=&where=&min=x&g=elsewhere")
    expect(page.locator("[data-testid=landing]")).to_be_visible()
    expect(page.locator("[data-testid=notice]")).to_contain_text("There is no gallery elsewhere")
