"""Who may see the page's pictures, and what the page says when the server does not answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .conftest import TOKEN, Visit
from .serving import Server, World
from .steps import drop, hits, loaded, search_with, searched

pytestmark = pytest.mark.slow


def test_a_token_is_asked_for_once(visit: Visit, guarded_server: Server, world: World, tmp_path: Path) -> None:
    world.objects.queries["cat"].save(tmp_path / "cat.png")
    page = visit(guarded_server.address, started=False, allow=(r"\b401\b.*/session",))
    dialog = page.locator("#token-dialog")
    expect(dialog).to_be_visible()
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-problem")).to_have_text("That is not the token of this server.")
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    page.wait_for_selector("#results[data-state]", state="attached")
    search_with(page, tmp_path / "cat.png")
    loaded(page.locator("[data-testid=hit] img").first)
    page.reload()
    page.wait_for_function("() => document.getElementById('results').dataset.state === 'ready'")
    expect(dialog).to_have_count(0)
    assert [cookie["httpOnly"] and cookie["sameSite"] == "Strict" for cookie in page.context.cookies()] == [True]


def test_a_token_in_the_address_opens_the_page_and_leaves_the_address(visit: Visit, guarded_server: Server) -> None:
    page = visit(f"{guarded_server.address}#token={TOKEN}")
    expect(page.locator("[data-testid=landing]")).to_be_visible()
    assert TOKEN not in page.url


def test_a_server_that_is_gone_is_named_and_one_that_comes_back_is_used(
    visit: Visit, serve, world: World, tmp_path: Path
) -> None:
    copy = world.copy(tmp_path / "copy")
    server: Server = serve(copy.gallery)
    world.objects.queries["cat"].save(tmp_path / "cat.png")
    page = visit(server.address, allow=(r"ERR_CONNECTION_REFUSED", r"ERR_EMPTY_RESPONSE", r"ERR_CONNECTION_RESET"))
    search_with(page, tmp_path / "cat.png")
    assert server.stop() == 0
    with searched(page):
        page.check("#small-object")
    expect(page.locator("[data-testid=results-message]")).to_contain_text("The server does not answer")
    drop(page, tmp_path / "cat.png")
    expect(page.locator("[data-testid=notice]")).to_contain_text("The server does not answer")

    port = re.search(r":(\d+)/", server.address)
    assert port is not None
    serve(copy.gallery, options=("--port", port[1]))
    with searched(page):
        page.locator("[data-testid=results-message] button", has_text="Try again").click()
    assert Path(hits(page)[0]["path"]) in world.places["cat"]
