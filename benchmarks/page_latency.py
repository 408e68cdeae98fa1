"""How long after the mouse is let go does the page show the first results?

Chromium draws boxes on a picture of camera size. The limit is one second.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

from common import SEED, argument_parser, camera_photographs, photographs, report
from serving import Server, client, large_gallery

_LIMIT_MS = 1_000
_SIZE = (4000, 3000)
_LEAST, _MOST = 0.15, 0.6  # of each side of the picture

# From the release of the mouse: until a card of the new answer is in the page, and until its picture is loaded, decoded
# and painted: a frame after the next one begins when that one was painted.
_WATCH = """() => {
  window.measured = new Promise((resolve) => addEventListener("pointerup", () => {
    const released = performance.now();
    const cards = () => [...document.querySelectorAll("[data-testid=hit]")];
    const before = new Set(cards());
    let card = null;
    const look = async () => {
      card ??= cards().find((each) => !before.has(each) && each.offsetParent !== null);
      if (!card) return requestAnimationFrame(look);
      const shown = performance.now() - released;
      const image = card.querySelector("img.photo");
      await image.decode();
      requestAnimationFrame(() => requestAnimationFrame(() => resolve({
        card: shown, painted: performance.now() - released, image: card.dataset.image, width: image.naturalWidth,
        box: ["x0", "y0", "x1", "y1"].map((edge) => Number(document.getElementById(`box-${edge}`).value)),
      })));
    };
    requestAnimationFrame(look);
  }, { once: true, capture: true }));
}"""


# Nothing moves any more: the answer to a search is shown, and the picture of its first hit.
_SETTLED = """before => {
  const results = document.getElementById("results");
  const { state, turn } = results.dataset;
  const pictures = [...results.querySelectorAll("[data-testid=hit] img.photo")];
  return state === "ready" && results.ariaBusy === null && turn !== before
    && pictures.find((image) => image.offsetParent !== null)?.complete;
}"""


def _turn(page: Page) -> str:
    return str(page.evaluate("document.getElementById('results').dataset.turn ?? ''"))


def _settle(page: Page, before: str) -> None:
    page.wait_for_function(_SETTLED, arg=before)
    page.wait_for_load_state("networkidle")


def draw(page: Page, box: np.ndarray) -> dict[str, Any]:
    """Draw a box, given in shares of the picture's sides; returns what `_WATCH` saw, in milliseconds."""
    frame = page.locator("#stage-frame").bounding_box()
    if frame is None:
        raise SystemExit("the page shows no picture to draw on")
    x0, y0, x1, y1 = box * np.tile([frame["width"], frame["height"]], 2)
    page.evaluate(_WATCH)
    page.mouse.move(frame["x"] + x0, frame["y"] + y0)
    page.mouse.down()
    page.mouse.move(frame["x"] + (x0 + x1) / 2, frame["y"] + (y0 + y1) / 2, steps=3)
    page.mouse.move(frame["x"] + x1, frame["y"] + y1, steps=3)
    page.mouse.up()
    seen: dict[str, Any] = page.evaluate("window.measured")
    expected = box * np.tile(_SIZE, 2)
    if np.abs(np.subtract(seen["box"], expected)).max() > 2 * _SIZE[0] / frame["width"]:
        raise SystemExit(f"drawn {expected.round()}, but the page searches with {seen['box']}")
    return seen


def measure(options: argparse.Namespace, server: Server, picture: Path, chromium: str) -> list[dict[str, Any]]:
    """What was seen of each box that was drawn, after one that is not counted."""
    generator = np.random.default_rng(SEED)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(server.url)
        before = _turn(page)
        page.set_input_files("#pick-picture", str(picture))
        _settle(page, before)
        seen = []
        for number in range(options.repeats + 1):
            if number:
                before = _turn(page)
                page.click("#box-clear")  # so that the next drag draws, and does not move the last box
                _settle(page, before)
            size = generator.uniform(_LEAST, _MOST, 2)
            first = generator.uniform(0.01, 0.99 - size)
            before = _turn(page)
            seen.append(draw(page, np.concatenate([first, first + size])))
            _settle(page, before)
        browser.close()
    return seen[1:]


def main() -> None:
    parser = argument_parser(__doc__ or "", images=10_000, repeats=20)
    parser.add_argument("--cache", type=Path, help="keep the gallery here, and take it from here (default: make it)")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("Chromium is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        kept = options.cache or Path(temporary) / "made"
        kept.mkdir(parents=True, exist_ok=True)
        gallery = large_gallery(kept, options.images, options.data)
        camera_photographs(photographs(options.data)[100:], Path(temporary) / "camera", 1, _SIZE)
        picture = Path(temporary) / "camera" / "camera_0000.jpg"
        with Server(gallery, Path(temporary) / "cache") as server, client(server) as ask:
            images = ask.json("GET", "/galleries/load")["images"]
            seen = measure(options, server, picture, chromium)
    cards, painted = ([each[what] for each in seen] for what in ("card", "painted"))
    rows = [
        [what, f"{statistics.median(times):,.0f}", f"{max(times):,.0f}", f"{_LIMIT_MS:,}"]
        for what, times in (
            ("the first card is in the page", cards),
            ("its picture is loaded, decoded, painted", painted),
        )
    ]
    report(
        "page_latency",
        f"From the release of the mouse to the first result in Chromium, in ms: {options.repeats} boxes drawn on a "
        f"picture of {_SIZE[0]} x {_SIZE[1]} pixels, {images:,} images, the built-in encoder, server and browser "
        "on the same cores.",
        ["until", "median", "worst", "limit"],
        rows,
        card_ms=cards,
        painted_ms=painted,
        boxes=[each["box"] for each in seen],
        limit_ms=_LIMIT_MS,
    )


if __name__ == "__main__":
    main()
