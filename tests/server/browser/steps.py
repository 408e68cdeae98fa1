"""What a person does with the page, and what they see there."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import JSHandle, Locator, Page, expect

Edges = tuple[float, float, float, float]

_TRANSFER = """files => {
  const transfer = new DataTransfer();
  for (const [name, type, content] of files)
    transfer.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name, { type }));
  return transfer;
}"""
_PASTE = """transfer => document.dispatchEvent(
  new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }))"""
_SEARCHED = """before => {
  const { dataset, ariaBusy } = document.getElementById("results");
  const over = dataset.state === "ready" || dataset.state === "error";
  return over && ariaBusy === null && dataset.turn !== before;
}"""


@contextmanager
def searched(page: Page) -> Iterator[None]:
    """What is done inside starts a search; goes on when its results are shown."""
    before = page.evaluate("document.getElementById('results').dataset.turn ?? ''")
    yield
    page.wait_for_function(_SEARCHED, arg=before)


def _transfer(page: Page, files: Sequence[Path]) -> JSHandle:
    given = [[file.name, "image/jpeg", base64.b64encode(file.read_bytes()).decode()] for file in files]
    return page.evaluate_handle(_TRANSFER, given)


def drop(page: Page, *files: Path, on: str = "body") -> None:
    """Drag files from the desktop onto an element and let go."""
    transfer = _transfer(page, files)
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event(on, event, {"dataTransfer": transfer})


def paste(page: Page, file: Path) -> None:
    """Paste a file."""
    page.evaluate(_PASTE, _transfer(page, [file]))


def choose(page: Page, selector: str, *files: Path) -> None:
    """Pick files in the device's own dialog."""
    page.set_input_files(selector, [str(file) for file in files])


def rectangle(place: Locator) -> Edges:
    """Where an element is on the screen, as a box."""
    found = place.evaluate(
        "node => { const r = node.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; }"
    )
    return tuple(found)


def on_screen(box: Sequence[float], size: Sequence[float], picture: Edges) -> Edges:
    """Where a box of a picture of `size` lies when the picture is shown at `picture`."""
    across, down = (picture[2] - picture[0]) / size[0], (picture[3] - picture[1]) / size[1]
    return (
        picture[0] + box[0] * across,
        picture[1] + box[1] * down,
        picture[0] + box[2] * across,
        picture[1] + box[3] * down,
    )


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Move the mouse with its button pressed, as a hand does: in several steps."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=3)
    page.mouse.move(*end, steps=3)
    page.mouse.up()


def query_size(page: Page) -> tuple[int, int]:
    """Size of the picture on the stage, as the page knows it."""
    return tuple(int(page.get_attribute(f"#box-{edge}", "max") or 0) for edge in ("x1", "y1"))


def draw(page: Page, box: Sequence[float]) -> None:
    """Draw a box on the query picture with the mouse."""
    frame = page.locator("#stage-frame")
    frame.scroll_into_view_if_needed()
    x0, y0, x1, y1 = on_screen(box, query_size(page), rectangle(frame))
    drag(page, (x0, y0), (x1, y1))


def drawn_box(page: Page) -> Edges:
    """The box that the page searches with, in pixels of the query."""
    return tuple(float(page.input_value(f"#box-{edge}")) for edge in ("x0", "y0", "x1", "y1"))


def hits(page: Page) -> list[dict[str, Any]]:
    """What is shown as found, best first: path, image, score, verdict, and the box in pixels of the original."""
    return page.locator("[data-testid=hit]").evaluate_all(
        """cards => cards.map((card) => ({
          path: card.dataset.path, image: card.dataset.image, rank: Number(card.dataset.rank),
          score: Number(card.dataset.score), verdict: card.dataset.verdict,
          box: card.querySelector(".box.best").dataset.box.split(",").map(Number),
        }))"""
    )


def search_with(page: Page, file: Path, box: Sequence[float] | None = None) -> None:
    """Drop a picture and draw a box on it; goes on when the results are shown."""
    with searched(page):
        drop(page, file)
    if box is not None:
        with searched(page):
            draw(page, box)


def open_first(page: Page) -> Locator:
    """Open the best hit side by side with the query; returns the dialog."""
    page.locator("[data-testid=hit-open]").first.click()
    dialog = page.locator("#compare")
    expect(dialog).to_be_visible()
    return dialog


def loaded(picture: Locator) -> None:
    """Wait until an image is there with its pixels."""
    picture.wait_for(state="visible")
    picture.evaluate("image => image.complete && image.naturalWidth ? null : image.decode()")
