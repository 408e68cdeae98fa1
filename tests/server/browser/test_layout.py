"""A phone's width, and a keyboard without a mouse."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .conftest import Visit
from .serving import Server, World
from .steps import choose, drawn_box, hits, open_first, query_size, searched

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
_BEYOND = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (node) => { for (let up = node.parentElement; up; up = up.parentElement) {
    const { overflowX } = getComputedStyle(up);
    if (overflowX !== "visible" && up !== document.body && up !== document.documentElement) return true;
  } return false; };
  const shown = (node) => {
    const { width: wide, height } = node.getBoundingClientRect();
    const meant = !node.closest(".unseen, .skip") && node.checkVisibility({ visibilityProperty: true });
    return meant && wide > 2 && height > 2;
  };
  const found = document.querySelectorAll("button, a, input, select, textarea, img, h1, h2, p, summary");
  return [...found].filter((node) => {
    const { left, right } = node.getBoundingClientRect();
    return shown(node) && (left < -1 || right > width + 1) && !scrolls(node);
  }).map((node) => `${node.tagName}#${node.id}.${node.className} ${node.textContent.slice(0, 30)}`);
}"""


def _fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert page.evaluate(_BEYOND) == []


def test_on_a_phone(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    x0, y0, x1, y1 = world.query(tmp_path / "query.jpg", "cat")
    page = visit(server.address, **PHONE)
    page.wait_for_selector(".sample")
    _fits(page)
    with searched(page):
        choose(page, "#pick-picture", tmp_path / "query.jpg")
    _fits(page)

    frame = page.locator("#stage-frame")
    frame.scroll_into_view_if_needed()
    place = frame.bounding_box()
    assert place is not None
    scale = place["width"] / query_size(page)[0]
    corners = [(place["x"] + x * scale, place["y"] + y * scale) for x, y in ((x0, y0), (x1, y1))]
    touch = page.context.new_cdp_session(page)
    with searched(page):  # by a finger
        x, y = corners[0]
        touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        for step in range(1, 6):
            point = {axis: a + (b - a) * step / 5 for axis, a, b in zip("xy", *corners, strict=True)}
            touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert drawn_box(page) == pytest.approx((x0, y0, x1, y1), abs=5)
    there = page.locator("#to-results")
    page.evaluate("scrollTo(0, 0)")
    expect(there).to_be_hidden()  # as the results begin on the screen
    page.set_viewport_size({"width": 390, "height": 500})
    expect(there).to_be_visible()
    expect(there).to_have_text(f"{page.locator('#results-headline').text_content()} ↓")
    there.click()
    expect(page.locator("#results-headline")).to_be_in_viewport()
    expect(there).to_be_hidden()
    page.set_viewport_size(PHONE["viewport"])
    assert Path(hits(page)[0]["path"]) in world.places["cat"]
    _fits(page)

    page.locator("#filters-open").click()
    expect(page.locator("#where")).to_be_visible()
    _fits(page)

    page.keyboard.press("Escape")
    dialog = open_first(page)
    _fits(page)
    for control in ("#compare-heat", "#compare-search", "#compare-delete", "#compare-full"):
        dialog.locator(control).scroll_into_view_if_needed()
        expect(dialog.locator(control)).to_be_in_viewport()
    page.locator("#compare-next").click()
    expect(page.locator("#compare-place")).to_have_text("2 of 30")
    page.locator("#compare-close").click()
    expect(dialog).to_be_hidden()
    page.locator("#view-browse").click()
    expect(page.locator("[data-testid=tile] img").first).to_be_visible()
    _fits(page)


def test_on_a_narrow_phone_with_several_galleries(visit: Visit, serve, world: World, tmp_path: Path) -> None:
    server: Server = serve(world.gallery, tmp_path / "other.pw")
    world.query(tmp_path / "query.jpg", "cat")
    page = visit(server.address, **{**PHONE, "viewport": {"width": 320, "height": 640}})
    page.wait_for_selector(".sample")
    _fits(page)
    chooser = page.locator("#gallery-select").bounding_box()
    assert chooser is not None and chooser["width"] >= 75
    with searched(page):
        choose(page, "#pick-picture", tmp_path / "query.jpg")
    _fits(page)


def test_the_first_heat_map_moves_nothing(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    world.objects.queries["cat"].save(tmp_path / "cat.png")
    page = visit(server.address)
    with searched(page):
        choose(page, "#pick-picture", tmp_path / "cat.png")
    place = page.locator("#hits").bounding_box()
    expect(page.locator("#heat-scale")).to_be_hidden()
    page.locator("[data-testid=hit-open]").first.hover()
    expect(page.locator("#heat-scale")).to_be_visible()
    assert page.locator("#hits").bounding_box() == place


def test_the_whole_way_by_keyboard(visit: Visit, server: Server, world: World) -> None:
    page = visit(server.address)
    page.wait_for_selector(".sample")

    def tab_to(selector: str, most: int = 60, backwards: bool = False) -> None:
        for _ in range(most):
            page.keyboard.press("Shift+Tab" if backwards else "Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        pytest.fail(f"{selector} is not reached with the Tab key")

    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    tab_to("#view-browse")
    page.keyboard.press("Enter")
    expect(page.locator("[data-testid=tile] img").first).to_be_visible()
    tab_to(".tile")
    page.keyboard.press("ArrowRight")
    name = page.evaluate("document.activeElement.getAttribute('aria-label')").removeprefix("Search with ")
    with searched(page):
        page.keyboard.press("Enter")
    assert Path(hits(page)[0]["path"]).name == name

    tab_to("#stage-frame")
    with searched(page):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowLeft")
    assert drawn_box(page) != (0, 0, *query_size(page))
    tab_to("[data-testid=hit-open]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("[data-testid=hit-open]").first).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.locator("#compare")
    expect(dialog).to_be_visible()
    tab_to("#compare-heat")
    before = page.input_value("#compare-heat")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#compare-heat") != before
    tab_to("[data-testid=region]")
    expect(dialog.locator("#compare-stage .highlight .box")).to_have_count(1)
    tab_to("#compare-next")
    page.keyboard.press("Enter")
    expect(page.locator("#compare-place")).to_have_text("2 of 30")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("[data-testid=hit][data-rank='2'] [data-testid=hit-open]")).to_be_focused()
    tab_to("#filters-open", backwards=True)
    page.keyboard.press("Enter")
    expect(page.locator("#where")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#where")).to_be_hidden()
    expect(page.locator("#filters-open")).to_be_focused()
