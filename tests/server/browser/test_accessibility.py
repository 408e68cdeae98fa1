"""axe-core finds nothing to complain of, on any view, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from .conftest import Visit
from .serving import Server, World
from .steps import open_first, search_with
from .test_layout import PHONE

pytestmark = pytest.mark.slow

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

OPTIONS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], "resultTypes": ["violations"]}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", **PHONE},
}


@pytest.fixture
def no_complaints() -> Callable[[Page, str], None]:
    """Fails where axe-core finds something on what the page shows now."""
    checker = axe.Axe()

    def check(page: Page, view: str) -> None:
        answer = checker.run(page, options=OPTIONS).response
        assert len(answer["passes"]) > 15, "axe-core has looked at the page"
        found = answer["violations"]
        told = [
            f"{view}: {one['id']}: {node['html'][:160]} {node['failureSummary']}"
            for one in found
            for node in one["nodes"]
        ]
        assert told == [], "\n".join(told)

    return check


@pytest.mark.parametrize("look", LOOKS)
def test_every_view(
    visit: Visit, server: Server, world: World, tmp_path: Path, no_complaints: Callable[[Page, str], None], look: str
) -> None:
    box = world.query(tmp_path / "query.jpg", "cat")
    page = visit(server.address, **LOOKS[look])
    page.wait_for_selector(".sample")
    no_complaints(page, "landing")
    search_with(page, tmp_path / "query.jpg", box)
    no_complaints(page, "results")
    page.click("#weak-summary")
    page.locator("[data-testid=hit-info]").first.click()
    no_complaints(page, "weak matches and facts")
    page.locator("[data-testid=facts-close]").click()
    page.click("#filters-open")
    expect(page.locator("#where")).to_be_visible()
    no_complaints(page, "filters")
    page.locator("#where").press("Escape")
    page.click("#export-open")
    no_complaints(page, "export")
    page.keyboard.press("Escape")
    dialog = open_first(page)
    expect(dialog.locator("#compare-levels")).to_be_visible()
    expect(dialog.locator("#compare-search")).to_contain_text("refined")
    no_complaints(page, "side by side")
    dialog.locator("#compare-close").click()
    expect(dialog).to_be_hidden()
    page.click("#view-browse")
    expect(page.locator("[data-testid=tile] img").first).to_be_visible()
    no_complaints(page, "browse")
    page.locator("[data-testid=tile]").first.hover()
    page.locator("[data-testid=tile-remove]").first.click()
    no_complaints(page, "a question")
    page.click("#confirm-no")
    page.click("#add-pictures")
    no_complaints(page, "adding")


@pytest.mark.parametrize("look", LOOKS)
def test_an_empty_gallery_and_the_question_for_the_token(
    visit: Visit,
    empty_server: Server,
    guarded_server: Server,
    no_complaints: Callable[[Page, str], None],
    look: str,
) -> None:
    page = visit(empty_server.address, **LOOKS[look])
    expect(page.locator("[data-testid=landing]")).to_contain_text("This gallery is empty")
    no_complaints(page, "empty gallery")
    page.click("#view-browse")
    expect(page.locator("#browse-message")).to_contain_text("This gallery is empty")
    no_complaints(page, "empty gallery, browse")
    guarded = visit(guarded_server.address, started=False, allow=(r"\b401\b",), **LOOKS[look])
    expect(guarded.locator("#token-dialog")).to_be_visible()
    no_complaints(guarded, "token")
