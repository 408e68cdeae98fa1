"""A hit side by side with its query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .answers import SHOW, answer, hit

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

QUERY = "f" * 32
REGIONS: list[dict[str, Any]] = [
    {"box": [0, 0, 400, 300], "level": 0, "cell": [0, 0], "score": 0.2},
    {"box": [0, 0, 200, 150], "level": 1, "cell": [0, 0], "score": 0.9},
    {"box": [200, 150, 400, 300], "level": 1, "cell": [1, 1], "score": 0.1},
]
REFINED = [20.0, 10.0, 210.0, 160.0]


@pytest.fixture
def asked() -> list[tuple[str, Any]]:
    """What the page asked the server for."""
    return []


@pytest.fixture
def shown(page: Page, asked: list[tuple[str, Any]]) -> Iterator[Page]:
    """Three hits of a query, and a server that explains, refines and deletes."""

    def serve(route: Route) -> None:
        path = route.request.url.partition("/api/v1/")[2]
        body = json.loads(route.request.post_data or "null")
        asked.append((f"{route.request.method} {path}", body))
        if path.endswith("explain"):
            route.fulfill(json={"image": body["image"], "path": body["path"], "size": [400, 300], "regions": REGIONS})
        elif path.endswith("search"):
            route.fulfill(json=answer(hit(1, 0.95, True, path=body["under"][0], box=REFINED)))
        elif route.request.method == "DELETE":
            route.fulfill(status=204)
        else:
            route.fulfill(json={"image": QUERY, "path": "/q.png", "paths": ["/q.png"], "size": [400, 300]})

    page.route(lambda url: "/api/v1/" in url and "thumbnail" not in url, serve)
    page.goto(f"{page.url}?v=1&g=g&p=image:{QUERY};box:10,20,110,120")
    page.evaluate(SHOW, answer(*(hit(rank, 1 - rank / 10, True, regions=REGIONS[1:]) for rank in (1, 2, 3))))
    yield page


def opened(page: Page, rank: int) -> None:
    page.locator(f"[data-rank='{rank}'] [data-testid=hit-open]").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#compare[open] #compare-levels")


def test_enter_opens_it_arrows_leaf_and_escape_goes_back_to_the_hit_last_seen(shown: Page) -> None:
    opened(shown, 1)
    assert f"open={1:032x}" in shown.url
    assert shown.locator("#compare-place").text_content() == "1 of 3"
    assert shown.locator("#compare-previous").is_disabled()
    shown.keyboard.press("ArrowRight")
    assert shown.locator("#compare-title").text_content() == "2.png"
    shown.keyboard.press("Escape")
    shown.wait_for_selector("#compare", state="hidden")
    shown.wait_for_url(lambda url: "open=" not in url)
    assert shown.evaluate("document.activeElement.closest('.hit').dataset.rank") == "2"


def test_back_closes_it_and_forward_opens_it_again(shown: Page) -> None:
    opened(shown, 3)
    shown.go_back()
    shown.wait_for_selector("#compare", state="hidden")
    shown.go_forward()
    shown.wait_for_selector("#compare[open]")
    assert shown.locator("#compare-title").text_content() == "3.png"


def test_it_shows_the_query_the_hit_and_a_refined_box(shown: Page, asked: list[tuple[str, Any]]) -> None:
    opened(shown, 2)
    shown.wait_for_selector("#layer-refined")
    drawn = "(one) => one.dataset.box"
    assert shown.locator("#compare-query .box").evaluate(drawn) == "10,20,110,120"
    assert shown.locator("#compare-stage .best").evaluate(drawn) == "100,50,200,150"
    assert shown.locator("#compare-stage .refined").evaluate(drawn) == "20,10,210,160"
    (body,) = [body for path, body in asked if path.endswith("search")]
    assert (body["under"], body["rerank"], body["k"]) == (["/photos/2.png"], "refine:1", 1)
    assert body["parts"] == [{"picture": QUERY, "box": [10, 20, 110, 120], "weight": 1, "small": False}]


def test_the_refined_box_or_a_region_becomes_the_query(shown: Page) -> None:
    opened(shown, 2)
    shown.wait_for_selector("#layer-refined")
    assert shown.locator("#compare-search").text_content() == "Search with the refined box"
    shown.locator("[data-testid=region]").nth(1).click()
    assert shown.locator("#compare-search").text_content() == "Search with this region"
    assert shown.locator("#compare-stage .brought").evaluate("(one) => one.dataset.box") == "200,150,400,300"
    shown.locator("[data-testid=region]").nth(1).click()
    shown.locator("#compare-search").click()
    assert shown.evaluate("window.searched") == {"image": f"{2:032x}", "box": REFINED}
    shown.wait_for_selector("#compare", state="hidden")


def test_levels_show_their_regions(shown: Page) -> None:
    opened(shown, 1)
    shown.locator("#level-1").check()
    assert shown.locator("#compare-stage .levels rect").count() == 2
    assert shown.locator("#compare-stage .levels title").all_text_contents() == [
        "level 1, row 0, column 0: 0.900",
        "level 1, row 1, column 1: 0.100",
    ]


def test_the_slider_sets_the_heat(shown: Page) -> None:
    opened(shown, 1)
    shown.locator("#compare-heat").fill("80")
    assert shown.locator("#compare-stage .heat").evaluate("(one) => getComputedStyle(one).opacity") == "0.8"


def test_a_link_to_a_hit_further_down_asks_for_it_alone(shown: Page, asked: list[tuple[str, Any]]) -> None:
    shown.goto(f"{shown.url}&open={9:032x}")
    shown.evaluate(SHOW, answer(hit(1, 0.9, True)))
    shown.wait_for_selector("#compare[open]")
    assert shown.locator("#compare-place").text_content() == "not among the hits shown"
    assert any(path == f"GET galleries/g/images/{9:032x}" for path, _ in asked)


def test_a_removed_picture_makes_room_for_the_next(shown: Page, asked: list[tuple[str, Any]]) -> None:
    shown.evaluate("addEventListener('patchwise:removed', (event) => { window.removed = event.detail.image; }, true)")
    opened(shown, 2)
    shown.locator("#compare-delete").click()
    shown.locator("#confirm-yes").click()
    shown.wait_for_selector("#compare-title:text('3.png')")
    assert (f"DELETE galleries/g/images/{2:032x}", None) in asked
    assert shown.evaluate("window.removed") == f"{2:032x}"
    assert shown.locator("[data-testid=hit]").count() == 2
