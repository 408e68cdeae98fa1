"""What a gallery holds is changed from the page: pictures added, watched while they are indexed, and removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from patchwise import Gallery

from .conftest import Visit
from .serving import Server, World
from .steps import choose, drop, hits, open_first, search_with, searched

pytestmark = pytest.mark.slow


def _added(page: Page, words: str) -> None:
    job = page.locator("[data-testid=job]")
    expect(job).to_have_attribute("data-state", "over", timeout=60_000)
    expect(job).to_contain_text(words)


def test_an_empty_gallery_says_what_to_do_and_takes_pictures(visit: Visit, serve, world: World, tmp_path: Path) -> None:
    server: Server = serve(tmp_path / "new.pw")
    page = visit(server.address)
    landing = page.locator("[data-testid=landing]")
    expect(landing).to_contain_text("This gallery is empty")
    expect(landing).to_contain_text("patchwise index")
    names = ["cat", "flower", "astronaut"]
    for name in names:
        world.objects.queries[name].save(tmp_path / f"{name}.png")
    drop(page, *(tmp_path / f"{name}.png" for name in names))
    _added(page, "3 pictures added.")
    expect(page.locator("#gallery-choice")).to_contain_text("3 pictures")

    with searched(page):
        drop(page, tmp_path / "flower.png")
    best = hits(page)[0]
    assert Path(best["path"]).name.startswith("flower")
    assert Path(best["path"]).read_bytes() == (tmp_path / "flower.png").read_bytes()
    assert best["verdict"] == "unknown", "three pictures are too few to judge by"
    with Gallery.open(tmp_path / "new.pw") as gallery:
        assert len(gallery.images().images) == 3


def test_pictures_are_added_and_found_at_once(visit: Visit, changeable: tuple[Server, World], tmp_path: Path) -> None:
    server, world = changeable
    # More than the page sends at a time, so that there is progress to be seen.
    flower = world.objects.queries["flower"]
    files = []
    for number in range(40):
        scene = Image.effect_noise((480, 360), 30 + 5 * number).convert("RGB")
        if number == 5:
            scene.paste(flower.resize((160, 164)), (300, 150))
        scene.save(tmp_path / f"new_{number}.jpg")
        files.append(tmp_path / f"new_{number}.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no picture at all")
    page = visit(server.address)
    page.click("#add-pictures")
    expect(page.locator("#add-dialog")).to_be_visible()
    page.evaluate(
        """() => {
          window.seen = [];
          new MutationObserver(() => {
            const job = document.querySelector("[data-testid=job]");
            const bar = job?.querySelector("progress");
            const share = bar?.hasAttribute("value") ? bar.value / bar.max : null;
            if (bar && !bar.hidden) window.seen.push([job.dataset.state, share]);
          }).observe(document.getElementById("jobs"), { subtree: true, childList: true, attributes: true });
        }"""
    )
    choose(page, "#add-files", *files, tmp_path / "broken.jpg")
    _added(page, "40 pictures added.")
    job = page.locator("[data-testid=job]")
    expect(job).to_contain_text("1 file could not be used")
    expect(job).to_contain_text("broken.jpg")
    seen = page.evaluate("window.seen")
    assert "indexing" in {state for state, _ in seen}
    sent = [share for state, share in seen if state == "uploading" and share is not None]
    assert sent == sorted(sent) and any(0 < share < 1 for share in sent)
    indexed = [share for state, share in seen if state == "indexing" and share is not None]
    assert indexed == sorted(indexed)

    expect(page.locator("#gallery-choice")).to_contain_text("70 pictures")
    flower.save(tmp_path / "flower.png")
    search_with(page, tmp_path / "flower.png")
    new = next(hit for hit in hits(page) if Path(hit["path"]).name.startswith("new_5"))
    assert new["rank"] <= 3
    page.click("#view-browse")
    expect(page.locator("#browse-count")).to_have_text("70 pictures")


def test_a_card_that_was_closed_leaves_the_next_one_alone(
    visit: Visit, changeable: tuple[Server, World], tmp_path: Path
) -> None:
    server, world = changeable
    for name in ("cat", "flower"):
        world.objects.queries[name].save(tmp_path / f"{name}.png")
    page = visit(server.address)
    page.clock.install()
    drop(page, tmp_path / "cat.png")
    with searched(page):
        pass
    page.click("#add-pictures")
    choose(page, "#add-files", tmp_path / "cat.png")
    _added(page, "1 picture added.")
    page.locator("[data-testid=job-close]").click()
    expect(page.locator("[data-testid=job]")).to_have_count(0)
    page.route("**/images", lambda route: None)  # on its way for as long as this test takes
    page.click("#add-pictures")
    choose(page, "#add-files", tmp_path / "flower.png")
    page.clock.fast_forward(20_000)
    expect(page.locator("[data-testid=job]")).to_have_attribute("data-state", "uploading")
    page.unroute_all(behavior="ignoreErrors")


def test_filters_that_are_being_typed_stay_while_the_gallery_grows(
    visit: Visit, changeable: tuple[Server, World], tmp_path: Path
) -> None:
    server, world = changeable
    page = visit(server.address)
    page.click("#view-browse")
    page.click("#filters-open")
    page.locator("#where").press_sequentially("shows = 'c")
    world.objects.queries["cat"].save(tmp_path / "new.png")
    with Gallery.open(world.gallery) as gallery:
        gallery.add(tmp_path / "new.png")
    with page.expect_response("**/galleries/scenes.pw"):
        page.evaluate("document.dispatchEvent(new Event('patchwise:removed'))")  # a look at what there is now
    expect(page.locator("#gallery-choice")).to_contain_text("31 pictures")
    expect(page.locator("#where")).to_be_focused()
    expect(page.locator("#where")).to_have_value("shows = 'c")
    page.locator("#where").press_sequentially("at'")
    page.keyboard.press("Enter")
    expect(page.locator("#browse-count")).to_have_text("2 pictures")
    page.keyboard.press("Escape")
    expect(page.locator("#filters-panel")).to_be_hidden()
    page.click("#filters-open")
    expect(page.locator(".folder", has_text=tmp_path.name)).to_be_visible()


def test_files_of_the_server_are_added_by_their_path(visit: Visit, serve, world: World, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    for name in ("cat", "rocket"):
        world.objects.queries[name].save(allowed / f"{name}.png")
    server: Server = serve(tmp_path / "by-path.pw", options=("--root", str(allowed)))
    page = visit(server.address, allow=(r"\b403\b.*images/paths",))
    page.click("#add-pictures")
    page.fill("#add-path", str(tmp_path))
    page.keyboard.press("Enter")
    expect(page.locator("#add-path-problem")).not_to_be_empty()
    page.fill("#add-path", str(allowed))
    page.click("#add-path-send")
    _added(page, "2 pictures added.")
    expect(page.locator("#gallery-choice")).to_contain_text("2 pictures")


def test_a_picture_is_removed_and_gone(visit: Visit, changeable: tuple[Server, World], tmp_path: Path) -> None:
    server, world = changeable
    world.objects.queries["cat"].save(tmp_path / "cat.png")
    page = visit(server.address)
    search_with(page, tmp_path / "cat.png")
    first, second = (Path(hit["path"]) for hit in hits(page)[:2])
    dialog = open_first(page)
    dialog.locator("#compare-delete").click()
    expect(page.locator("[data-testid=confirm]")).to_contain_text(first.name)
    page.click("#confirm-no")
    expect(dialog.locator("#compare-title")).to_have_text(first.name)
    dialog.locator("#compare-delete").click()
    page.click("#confirm-yes")
    expect(dialog.locator("#compare-title")).to_have_text(second.name)
    page.keyboard.press("Escape")
    expect(page.locator(f"[data-testid=hit][data-path='{first}']")).to_have_count(0)
    with searched(page):
        drop(page, tmp_path / "cat.png")
        page.check("#collapse")
    assert str(first) not in [hit["path"] for hit in hits(page)]
    assert hits(page)[0]["path"] == str(second)
    assert first.is_file(), "a file that was not uploaded here stays where it is"

    page.click("#view-browse")
    expect(page.locator("#browse-count")).to_have_text("29 pictures")
    tile = page.locator("[data-testid=tile][data-image]").first
    name = (tile.locator(".tile").get_attribute("aria-label") or "").removeprefix("Search with ")
    tile.hover()
    tile.locator("[data-testid=tile-remove]").click()
    page.click("#confirm-yes")
    expect(page.locator("#browse-count")).to_have_text("28 pictures")
    expect(page.get_by_role("button", name=f"Search with {name}", exact=True)).to_have_count(0)
    assert len(list(world.folder.rglob(name))) == 1


def test_an_uploaded_picture_is_deleted_for_good(
    visit: Visit, changeable: tuple[Server, World], tmp_path: Path
) -> None:
    server, world = changeable
    world.objects.queries["rocket"].save(tmp_path / "uploaded.png")
    page = visit(server.address)
    page.click("#add-pictures")
    drop(page, tmp_path / "uploaded.png", on="#add-dialog")
    _added(page, "1 picture added.")
    search_with(page, tmp_path / "uploaded.png")
    best = hits(page)[0]
    assert best["score"] == pytest.approx(1, abs=1e-3)
    assert os.path.exists(best["path"])
    dialog = open_first(page)
    dialog.locator("#compare-delete").click()
    page.click("#confirm-yes")
    expect(page.locator(f"[data-testid=hit][data-image='{best['image']}']")).to_have_count(0)
    assert not os.path.exists(best["path"])
