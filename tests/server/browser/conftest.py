"""A real browser before real servers: Chromium, driven by Playwright, over a gallery of scenes that are known."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from patchwise import Gallery

from .serving import Server, World, make_world
from .watching import Watch

TIMEOUT_MS = 20_000
TOKEN = "open-sesame"
DESKTOP = {"width": 1280, "height": 900}

Visit = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        expect.set_options(timeout=TIMEOUT_MS)
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="package")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers of galleries; each has to end well when the tests are over."""
    running: list[Server] = []
    work = tmp_path_factory.mktemp("servers")

    def start(*galleries: Path, options: tuple[str, ...] = ()) -> Server:
        running.append(Server(work, galleries, *options))
        return running[-1]

    yield start
    statuses = [server.stop() for server in running]
    said = "\n".join(server.said for server in running)
    assert statuses == [0] * len(running), said
    assert "Traceback" not in said, said


@pytest.fixture(scope="package")
def server(serve: Callable[..., Server], world: World) -> Server:
    """Serves the gallery of scenes, which no test may change."""
    return serve(world.gallery)


@pytest.fixture(scope="package")
def empty_server(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Serves a gallery without images, which no test may change."""
    return serve(tmp_path_factory.mktemp("nothing") / "empty.pw")


@pytest.fixture(scope="package")
def guarded_server(serve: Callable[..., Server], world: World) -> Server:
    """Serves the scenes to those who know the token."""
    return serve(world.gallery, options=("--token", TOKEN))


@pytest.fixture
def changeable(serve: Callable[..., Server], world: World, tmp_path: Path) -> tuple[Server, World]:
    """A server over a copy of the gallery, for this test alone."""
    copy = world.copy(tmp_path / "copy")
    return serve(copy.gallery), copy


@pytest.fixture(scope="package")
def library(world: World) -> Iterator[Gallery]:
    """The gallery of scenes without a server, to compare with."""
    with Gallery.open(world.gallery) as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens an address in a browser without a past; when the test ends nothing may have gone wrong in the page.

    `visit(address, allow=(patterns, ...), **options of the context)`; with `started=False` it is not waited for until
    the page has asked the server what there is.
    """
    watches: list[Watch] = []
    contexts = []

    def open_page(address: str, *, allow: tuple[str, ...] = (), started: bool = True, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        page = context.new_page()
        watch = Watch(page, address.split("?")[0].split("#")[0])
        for pattern in allow:
            watch.allow(pattern)
        watches.append(watch)
        page.goto(address)
        if started:
            page.wait_for_selector("#results[data-state]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [problem for watch in watches for problem in watch.problems] == []
