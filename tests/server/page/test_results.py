"""Results on the page: boxes where they belong, weak matches folded, the score's slider, and words for nothing."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from patchwise.boxes import Box

from .answers import SHOW, answer, hit

if TYPE_CHECKING:
    from playwright.sync_api import Page


def coloured(page: Page, locator: str) -> Box:
    """Where the match box's colour is, within an element and as shares of its size."""
    shot = Image.open(io.BytesIO(page.locator(locator).screenshot())).convert("RGB")
    red, green, blue = shot.split()
    pink = Image.eval(red, lambda value: 255 * (value > 220))
    for band, low, high in ((green, 40, 95), (blue, 70, 125)):
        keep = Image.eval(band, lambda value, low=low, high=high: 255 * (low < value < high))
        pink = Image.composite(pink, Image.new("L", shot.size), keep)
    x0, y0, x1, y1 = pink.getbbox() or (0, 0, 0, 0)
    return (x0 / shot.width, y0 / shot.height, x1 / shot.width, y1 / shot.height)


def test_the_box_is_drawn_where_the_hit_lies(page: Page) -> None:
    page.evaluate(SHOW, answer(hit(1, 0.9, True), hit(2, 0.8, True, size=[300, 400], box=[0, 200, 150, 400])))
    assert coloured(page, "[data-rank='1'] .shot") == pytest.approx((0.25, 1 / 6, 0.5, 0.5), abs=0.02)
    assert coloured(page, "[data-rank='2'] .shot") == pytest.approx((0, 0.5, 0.5, 1), abs=0.02)


def test_a_hit_says_what_it_is_in_words(page: Page) -> None:
    page.evaluate(SHOW, answer(hit(1, 0.9, True), hit(2, 0.8, False), hit(3, 0.7, None)))
    verdicts = page.locator(".verdict").all_text_contents()
    assert verdicts == ["match", "unknown", "may be chance"]
    label = page.locator("[data-rank='1'] [data-testid=hit-open]").get_attribute("aria-label")
    assert label == "Hit 1, 1.png, score 0.900, match: show side by side"
    assert "%" not in page.locator("#results").inner_text()


def test_weak_matches_are_folded_and_open_where_there_is_nothing_else(page: Page) -> None:
    page.evaluate(SHOW, answer(hit(1, 0.9, True), hit(2, 0.8, False), hit(3, 0.7, False)))
    assert page.locator("#results-headline").text_content() == "1 match"
    assert page.locator("#weak-summary").text_content() == "2 more that may be chance"
    assert [page.locator(f"[data-rank='{rank}']").is_visible() for rank in (1, 2, 3)] == [True, False, False]
    page.locator("#weak-summary").click()
    assert page.locator("[data-rank='3']").is_visible()
    page.reload()
    page.evaluate(SHOW, answer(hit(1, 0.4, False), verdict="no match"))
    assert page.locator("#results-headline").text_content() == "Nothing matches for sure"
    assert page.locator("[data-rank='1']").is_visible()


def test_the_slider_leaves_out_lower_scores_at_once_and_puts_itself_into_the_address(page: Page) -> None:
    page.evaluate(SHOW, answer(hit(1, 0.9, True), hit(2, 0.8, True), hit(3, 0.5, False)))
    assert page.locator("#min-score-text").text_content() == "any, 3 shown"
    page.locator("#min-score").fill("0.8")
    assert page.locator("[data-testid=hit]").count() == 2
    assert page.locator("#min-score-text").text_content() == "0.800, 2 of 3"
    assert "min=0.8" in page.url
    page.locator("#show-below").click()
    assert page.locator("[data-testid=hit]").count() == 3
    assert "min=" not in page.url


def test_nothing_found_says_so_and_how_to_widen(page: Page) -> None:
    page.evaluate(SHOW, answer(verdict="unknown"))
    assert page.locator("#results h2").text_content() == "Nothing found"
    assert page.locator("#clear-filters").count() == 0
    page.goto(page.url.split("?")[0] + "?v=1&where=brand+is+null")
    page.evaluate(SHOW, answer(verdict="unknown"))
    page.locator("#clear-filters").click()
    assert "where" not in page.url


def test_arrow_keys_walk_through_the_pictures(page: Page) -> None:
    page.evaluate(SHOW, answer(*(hit(rank, 1 - rank / 20, True) for rank in range(1, 9))))
    page.locator("[data-testid=hit-open]").first.focus()
    page.keyboard.press("ArrowRight")
    focused = "document.activeElement.closest('.hit').dataset.rank"
    assert page.evaluate(focused) == "2"
    page.keyboard.press("ArrowDown")
    below = int(page.evaluate(focused))
    tops = page.evaluate("[...document.querySelectorAll('.hit')].map((one) => one.getBoundingClientRect().top)")
    assert tops[below - 1] > tops[1]
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == "2"


def test_more_about_a_hit_comes_on_demand_and_goes_by_escape(page: Page) -> None:
    page.evaluate(SHOW, answer(hit(1, 0.9, True, alike=[hit(2, 0.9, True)])))
    page.locator("[data-testid=hit-info]").click()
    said = page.locator("#hit-facts").inner_text()
    for words in (
        "/photos/1.png",
        "level 2, row 0, column 1",
        "100, 50, 200, 150 of 400 × 300",
        "Acme",
        "/photos/2.png",
    ):
        assert words in said
    page.keyboard.press("Escape")
    assert page.locator("#hit-facts").count() == 0
    assert page.evaluate("document.activeElement.dataset.testid") == "hit-info"


def test_a_box_on_a_result_becomes_the_query(page: Page) -> None:
    page.evaluate(SHOW, answer(hit(7, 0.9, True)))
    page.locator("[data-rank='7']").hover()
    page.locator("[data-testid=hit-search]").click()
    assert page.evaluate("window.searched") == {"image": f"{7:032x}", "box": [100, 50, 200, 150]}


def test_names_are_text_and_never_markup(page: Page) -> None:
    page.evaluate(SHOW, answer(hit(1, 0.9, True, path="/a/<img src=x onerror=alert(1)>.png", metadata={"<b>": "<i>"})))
    page.locator("[data-testid=hit-info]").click()
    assert page.locator("#hit-facts b, #hit-facts i, .caption img").count() == 0
    assert "<b>" in page.locator("#hit-facts").inner_text()


def test_more_hits_come_after_those_that_are_there_until_there_are_none(page: Page) -> None:
    page.route("**/search", lambda route: route.fulfill(json=answer(*(hit(rank, 0.4, True) for rank in (41, 42)))))
    page.evaluate(SHOW, answer(*(hit(rank, 1 - rank / 100, True) for rank in range(1, 41))))
    page.locator("#show-more").focus()
    with page.expect_request("**/search") as asked:
        page.keyboard.press("Enter")
    page.wait_for_selector("[data-rank='42']", state="attached")
    assert asked.value.post_data_json["offset"] == 40
    assert [one.get_attribute("data-rank") for one in page.locator("[data-testid=hit]").all()] == [
        str(rank) for rank in range(1, 43)
    ]
    assert page.locator("#show-more").is_hidden()
