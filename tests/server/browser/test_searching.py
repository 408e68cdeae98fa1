"""From a picture to the place where its object is: dropped, pasted, chosen; with a box drawn, moved, resized."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from patchwise import Gallery
from patchwise.boxes import iou_xyxy

from .conftest import Visit
from .serving import Server, World
from .steps import (
    choose,
    drag,
    draw,
    drawn_box,
    drop,
    hits,
    loaded,
    on_screen,
    paste,
    query_size,
    rectangle,
    search_with,
    searched,
)

pytestmark = pytest.mark.slow

SCENE_SIZE = (1024, 768)


def _pixels(page: Page, selector: str) -> np.ndarray:
    shot = page.locator(selector).first.screenshot(caret="initial")
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


@pytest.mark.parametrize("name", ["coffee cup", "motorcycle"])
def test_a_drawn_box_finds_the_object_and_shows_where(
    visit: Visit, server: Server, world: World, library: Gallery, tmp_path: Path, name: str
) -> None:
    box = world.query(tmp_path / "query.jpg", name)
    page = visit(server.address)
    search_with(page, tmp_path / "query.jpg", box)

    drawn = drawn_box(page)
    assert np.abs(np.subtract(drawn, box)).max() <= 3, "the box is where the mouse was"
    expected = library.search(tmp_path / "query.jpg", box=drawn, k=40)
    found = hits(page)
    assert [(hit["path"], hit["box"]) for hit in found] == [(str(hit.path), list(hit.box)) for hit in expected]
    assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-4)
    truth = world.places[name]
    assert {Path(hit["path"]) for hit in found[:2]} == truth.keys()
    assert iou_xyxy([found[0]["box"]], [truth[Path(found[0]["path"])]]).item() > 0.2

    card = page.locator("[data-testid=hit]").first
    loaded(card.locator("img"))
    picture = rectangle(card.locator("img"))
    wanted = on_screen(expected[0].box, SCENE_SIZE, picture)
    assert rectangle(card.locator(".box.best .line")) == pytest.approx(wanted, abs=2)

    # What is drawn, and not only what the document says: the pixels that change when the box is taken away.
    page.mouse.move(2, 2)
    with_box = _pixels(page, "[data-testid=hit] .shot")
    card.locator(".overlay").evaluate("overlay => { overlay.style.visibility = 'hidden'; }")
    rows, columns = np.nonzero(np.abs(with_box - _pixels(page, "[data-testid=hit] .shot")).max(axis=2) > 60)
    shot = rectangle(card.locator(".shot"))
    painted = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    inside = tuple(edge - shot[axis % 2] for axis, edge in enumerate(wanted))
    assert painted == pytest.approx(inside, abs=4)


def test_a_box_is_moved_and_resized(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    x0, y0, x1, y1 = world.query(tmp_path / "query.jpg", "cat")
    page = visit(server.address)
    search_with(page, tmp_path / "query.jpg", (x0 - 300, y0, x1 - 300, y1))
    frame = rectangle(page.locator("#stage-frame"))
    size = query_size(page)

    before = drawn_box(page)
    start = on_screen(((before[0] + before[2]) / 2, (before[1] + before[3]) / 2, 0, 0), size, frame)[:2]
    shift = 300 * (frame[2] - frame[0]) / size[0]
    with searched(page):
        drag(page, start, (start[0] + shift, start[1]))
    moved = drawn_box(page)
    assert moved == pytest.approx((before[0] + 300, before[1], before[2] + 300, before[3]), abs=3)
    assert Path(hits(page)[0]["path"]) in world.places["cat"]

    left, top, right, bottom = rectangle(page.locator(".handle.se"))
    with searched(page):
        drag(page, ((left + right) / 2, (top + bottom) / 2), (left - 40, top - 30))
    resized = drawn_box(page)
    assert resized[:2] == moved[:2]
    assert resized[2] < moved[2] - 20 and resized[3] < moved[3] - 15


def test_a_box_by_the_keyboard(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    world.query(tmp_path / "query.jpg", "cat")
    page = visit(server.address)
    search_with(page, tmp_path / "query.jpg")
    expect(page.locator("#stage-frame")).to_be_focused()
    assert drawn_box(page) == (0, 0, 900, 600)
    with searched(page):
        page.keyboard.press("ArrowRight")
    first = drawn_box(page)
    assert first == (225, 150, 675, 450)
    with searched(page):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
        page.keyboard.press("Alt+ArrowUp")
    assert drawn_box(page) == (234, 149, 684, 458)
    with searched(page):
        page.keyboard.press("Escape")
    assert drawn_box(page) == (0, 0, 900, 600)
    with searched(page):
        page.fill("#box-x0", "480")
        page.keyboard.press("Tab")
    assert drawn_box(page) == (480, 0, 900, 600)


def test_pasted_and_chosen_pictures_and_those_of_the_gallery(
    visit: Visit, server: Server, world: World, tmp_path: Path
) -> None:
    world.query(tmp_path / "one.jpg", "cat")
    page = visit(server.address)
    with searched(page):
        choose(page, "#pick-picture", tmp_path / "one.jpg")
    assert query_size(page) == (900, 600)
    assert len(hits(page)) == 30

    small = world.objects.queries["astronaut"]
    small.save(tmp_path / "two.png")
    with searched(page):
        paste(page, tmp_path / "two.png")
    assert query_size(page) == small.size
    assert Path(hits(page)[0]["path"]) in world.places["astronaut"]

    page.click("#query-clear")
    sample = page.locator(".sample").first
    name = (sample.get_attribute("aria-label") or "").removeprefix("Search with ")
    with searched(page):
        sample.click()
    best = hits(page)[0]
    assert Path(best["path"]).name == name
    assert best["score"] == pytest.approx(1, abs=1e-3)


def test_what_was_found_is_said(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    box = world.query(tmp_path / "query.jpg", "cat")
    page = visit(server.address)
    search_with(page, tmp_path / "query.jpg", box)
    said = f"{page.locator('#results-headline').text_content()}. 30 pictures shown."
    expect(page.locator("#status")).to_have_text(said)


def test_an_upload_can_be_given_up(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    world.query(tmp_path / "query.jpg", "cat")
    page = visit(server.address)
    page.wait_for_selector(".sample")
    held = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/galleries/*/pictures", hold)
    drop(page, tmp_path / "query.jpg")
    expect(page.locator("#query")).to_contain_class("sending")
    page.click("#query-clear")
    expect(page.locator("[data-testid=landing]")).to_be_visible()
    expect(page.locator("#pick-picture")).to_be_focused()

    drop(page, tmp_path / "query.jpg")
    expect(page.locator("#query")).to_contain_class("sending")
    page.click("#view-browse")
    tile = page.locator("[data-testid=tile][data-image]").first
    with searched(page):
        tile.locator(".tile").click()
    page.unroute_all(behavior="ignoreErrors")
    expect(page.locator("#query")).not_to_contain_class("sending")
    expect(page.locator("#stage-frame")).to_be_focused()
    assert query_size(page) == SCENE_SIZE
    assert hits(page)[0]["score"] == pytest.approx(1, abs=1e-3), "what was chosen last"
    assert len(held) == 2


def test_pasting_means_what_dropping_does(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    world.objects.queries["cat"].save(tmp_path / "cat.png")
    page = visit(server.address)
    page.click("#view-browse")
    expect(page.locator("[data-testid=tile] img").first).to_be_visible()
    with page.expect_request("**/images") as asked:
        page.route("**/images", lambda route: route.abort("aborted"))
        paste(page, tmp_path / "cat.png")
    assert asked.value.method == "POST"


def test_all_pictures_of_a_link_are_called_by_their_names(visit: Visit, server: Server, library: Gallery) -> None:
    first, second, third = library.images(limit=3).images
    parts = "".join(f"&p=image:{image.digest}" for image in (first, second, third))
    page = visit(f"{server.address}?v=1{parts}")
    expect(page.locator(".part-name")).to_have_text([Path(image.path).name for image in (first, second, third)])


def test_a_second_picture_and_what_is_not_wanted(visit: Visit, server: Server, world: World, tmp_path: Path) -> None:
    for name in ("cat", "flower"):
        world.objects.queries[name].save(tmp_path / f"{name}.png")
    page = visit(server.address)
    search_with(page, tmp_path / "cat.png")
    with searched(page):
        choose(page, "#pick-more", tmp_path / "flower.png")
    expect(page.locator("[data-testid=part]")).to_have_count(2)
    assert {Path(hit["path"]) for hit in hits(page)[:4]} <= world.places["cat"].keys() | world.places["flower"].keys()
    with searched(page):
        page.click("#part-1-not")
    assert Path(hits(page)[0]["path"]) in world.places["cat"]
    with searched(page):
        page.click("#part-1-remove")
    assert page.locator("#parts").is_hidden()


def test_a_corrupt_file_is_named_and_the_page_goes_on(
    visit: Visit, server: Server, world: World, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no picture")
    box = world.query(tmp_path / "query.jpg", "cat")
    page = visit(server.address, allow=(r"\b422\b.*/pictures",))
    drop(page, tmp_path / "broken.jpg")
    notice = page.locator("[data-testid=notice]")
    expect(notice).to_contain_text("broken.jpg cannot be used")
    expect(notice.locator("p").first).not_to_be_empty()
    expect(page.locator("[data-testid=landing]")).to_be_visible()

    search_with(page, tmp_path / "query.jpg", box)
    expect(notice).to_have_count(0)
    with page.expect_response(lambda response: response.status == 422):
        drop(page, tmp_path / "broken.jpg")
    expect(notice).to_contain_text("broken.jpg")
    assert Path(hits(page)[0]["path"]) in world.places["cat"], "the results of before are still there"
    assert query_size(page) == (900, 600)


def test_words_only_where_the_encoder_reads_them(visit: Visit, server: Server) -> None:
    page = visit(server.address)
    expect(page.locator("#pick-picture")).to_be_attached()
    assert page.locator("#landing-text").count() == 0

    def reading(route) -> None:  # type: ignore[no-untyped-def]
        answer = route.fetch()
        content = answer.json()
        content["galleries"][0]["reads_text"] = True
        route.fulfill(response=answer, json=content)

    page.route("**/api/v1/galleries", reading)
    page.reload()
    page.fill("#landing-text", "a red mug")
    with page.expect_request("**/search") as asked:
        page.unroute("**/api/v1/galleries")
        page.route("**/search", lambda route: route.abort("aborted"))
        page.keyboard.press("Enter")
    assert asked.value.post_data_json["parts"] == [{"text": "a red mug", "weight": 1}]


def test_whatever_lies_on_the_page_a_drawn_box_stays_on_the_picture(
    visit: Visit, server: Server, world: World, tmp_path: Path
) -> None:
    world.query(tmp_path / "query.jpg", "cat")
    page = visit(server.address)
    search_with(page, tmp_path / "query.jpg")
    with searched(page):
        draw(page, (600, 300, 1400, 900))  # let go far outside
    box = drawn_box(page)
    assert box == pytest.approx((600, 300, 900, 600), abs=3)
