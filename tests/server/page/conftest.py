"""A real browser over the page's files, for tests of what they compute."""

from __future__ import annotations

import functools
import http.server
import io
import shutil
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")

Call = Callable[..., Any]


class _Files(http.server.SimpleHTTPRequestHandler):
    """The page's folder under /page/, and an empty page to import its modules into."""

    extensions_map: ClassVar = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == "/":
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>modules</title>")
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/page"))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="package")
def page_files() -> Iterator[str]:
    """Address of a server of the page's files and nothing else."""
    handler = functools.partial(_Files, directory=str(files("patchwise.server").joinpath("page")))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# Playwright keeps an event loop in this thread while it lives: it ends with this package, as other tests need theirs.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium without a window; tests that need it are skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def call(browser: Browser, page_files: str) -> Iterator[Call]:
    """Calls a function of a module of the page, as in `call("heat.js", "heatRange", map)`; answers plain data."""
    page = browser.new_page()
    page.goto(page_files)

    def call(module: str, function: str, *arguments: object) -> Any:
        return page.evaluate(
            """async ([module, name, values]) => {
                const plain = (value) => JSON.parse(JSON.stringify(value, (_, one) =>
                    one instanceof Map ? Object.fromEntries(one) : ArrayBuffer.isView(one) ? [...one] : one) ?? "null");
                return plain((await import(`/page/${module}`))[name](...values));
            }""",
            [module, function, list(arguments)],
        )

    yield call
    page.close()


@pytest.fixture
def evaluate(browser: Browser, page_files: str) -> Iterator[Call]:
    """Runs a script in a new, empty page that can import the page's modules."""
    page = browser.new_page()
    page.goto(page_files)
    yield page.evaluate
    page.close()


@pytest.fixture
def page(browser: Browser, page_files: str) -> Iterator[Page]:
    """An empty page whose thumbnails are white; scripts it cannot run are errors."""
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    white = io.BytesIO()
    Image.new("RGB", (320, 240), "white").save(white, "PNG")
    page.route("**/thumbnail*", lambda route: route.fulfill(body=white.getvalue(), content_type="image/png"))
    failed: list[object] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(page_files)
    yield page
    page.close()
    assert failed == []
