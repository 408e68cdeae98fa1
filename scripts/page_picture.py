"""Take docs/images/page.jpg and page-compare.jpg: the page over the demo's gallery, in a real browser.

    pip install 'patchwise[demo,server]' playwright      # and a Chromium
    python scripts/page_picture.py

The demo's scenes are composed and indexed in a temporary folder, `patchwise serve` is started over them, a query is
chosen, and a box is drawn on it with the mouse, as a person would.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from patchwise.demo import run_demo

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WINDOW = {"width": 1440, "height": 900}
# The piece of the query to ask for, as shares of its width and height.
DRAWN = (0.06, 0.08, 0.94, 0.94)


def draw_box(page: Page, edges: tuple[float, float, float, float]) -> None:
    """Draw a box on the query by the mouse; the search that starts then is waited for."""
    frame = page.locator("#stage-picture").bounding_box()
    assert frame is not None
    turn = page.locator("#results").get_attribute("data-turn")
    corners = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (edges[:2], edges[2:])]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=8)
    page.mouse.up()
    page.wait_for_function(
        "before => { const it = document.querySelector('#results');"
        " return it.dataset.turn !== before && it.dataset.state === 'ready'; }",
        arg=turn,
    )


def settle(page: Page) -> None:
    """Wait until what is shown is loaded and nothing moves."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function("() => [...document.images].filter(i => i.checkVisibility()).every(i => i.complete)")
    page.mouse.move(2, 2)
    page.wait_for_timeout(500)


def save(page: Page, name: str) -> None:
    """The window as a JPEG that a README can hold."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(IMAGES / name, quality=86, optimize=True)
    print(f"wrote {IMAGES / name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--query", default="motorcycle", help="one of the demo's photographs")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="the browser's program")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = run_demo(Path(folder) / "demo")
        gallery = made.galleries["pyramid:3"]
        server = subprocess.Popen(
            [sys.executable, "-m", "patchwise", "serve", "--gallery", f"demo={gallery}", "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stderr is not None
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
                page = browser.new_page(viewport=WINDOW, color_scheme="light")
                page.goto(address)
                page.set_input_files("input[type=file]", Path(folder) / "demo" / "queries" / f"{options.query}.png")
                page.wait_for_selector("#results[data-state=ready]")
                draw_box(page, DRAWN)
                settle(page)
                save(page, "page.jpg")
                page.locator("[data-testid=hit]").nth(1).locator("[data-testid=hit-open]").click()
                page.wait_for_selector("dialog[open]")
                settle(page)
                save(page, "page-compare.jpg")
                browser.close()
        finally:
            server.terminate()
            server.wait(60)


if __name__ == "__main__":
    main()
