"""The same query by a gallery and by a client of its server gives the same answer."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.conftest import Requests
from conftest import make_picture
from patchwise import Client, Gallery, Hit, Hits, PatchwiseError, QueryPart
from patchwise.errors import BoxError, EncoderError, ImageUnreadable, UsageError
from patchwise.report import result_to_json
from report.test_notebook import shown


def plain(hits: list[Hit]) -> list[dict[str, object]]:
    """Hits as they are written: the numbers rounded, which is all that is sent."""
    found: list[dict[str, object]] = json.loads(json.dumps(result_to_json("", None, hits)))["hits"]
    return found


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"box": (4, 6, 20, 24)},
        {"k": 2, "offset": 1},
        {"min_score": 0.2},
        {"exact": True, "small": True},
        {"collapse": True},
        {"expand": "average"},
        {"rerank": "refine:3"},
    ],
    ids=str,
)
def test_a_search(gallery: Gallery, client: Client, pictures: Path, wanted: dict[str, object]) -> None:
    here = gallery.search(pictures / "02.png", **wanted)  # type: ignore[arg-type]
    there = client.search(pictures / "02.png", **wanted)  # type: ignore[arg-type]
    assert plain(there) == plain(here) and len(here) > 0
    assert isinstance(there, Hits) and there.parts == here.parts
    assert [hit.matches for hit in there] == [hit.matches for hit in here]


def test_a_search_within_a_folder(gallery: Gallery, client: Client, pictures: Path) -> None:
    under = [pictures / "03.png", str(pictures / "04.png")]
    assert plain(client.search(pictures / "02.png", under=under)) == plain(
        gallery.search(pictures / "02.png", under=under)
    )
    with pytest.raises(UsageError, match="whole path"):
        client.search(pictures / "02.png", under=["pictures"])


def test_a_search_by_metadata(gallery: Gallery, client: Client, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"path,brand,year\n{pictures}/01.png,Acme,2019\n{pictures}/03.png,Acme,2021\n")
    gallery.add(pictures, metadata=tmp_path / "m.csv")
    here = gallery.search(pictures / "02.png", where="brand = 'Acme' and year >= 2019")
    there = client.search(pictures / "02.png", where="brand = 'Acme' and year >= 2019")
    assert plain(there) == plain(here) and len(there) == 2
    assert there[0].metadata == here[0].metadata and there[0].metadata["brand"] == "Acme"
    assert client.images(where="year > 2020") == gallery.images(where="year > 2020")
    assert client.info().metadata == gallery.metadata_columns()
    with pytest.raises(UsageError, match="colour"):
        client.search(pictures / "02.png", where="colour = 'red'")


def test_every_kind_of_picture(gallery: Gallery, client: Client, pictures: Path) -> None:
    path, picture = pictures / "02.png", Image.open(pictures / "02.png")
    expected = plain(gallery.search(path))
    turned = make_picture(5, (40, 30)).convert("CMYK")
    for source in (path, str(path), path.read_bytes(), picture, np.asarray(picture)):
        assert plain(client.search(source)) == expected
    assert plain(client.search(turned)) == plain(gallery.search(turned))
    with pytest.raises(ImageUnreadable, match="array"):
        client.search(np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(UsageError, match="fetches no web addresses"):
        client.search("https://example.org/a.jpg")


def test_several_parts(gallery: Gallery, client: Client, pictures: Path) -> None:
    parts = [
        QueryPart(pictures / "02.png", box=(4, 6, 20, 24), weight=2),
        QueryPart(make_picture(9, (30, 30)), weight=-0.5),
    ]
    here, there = gallery.search(parts), client.search(parts)
    assert plain(there) == plain(here) and len(there[0].part_scores) == 2
    fused = [parts[0], QueryPart(pictures / "01.png", weight=2)]
    assert plain(client.search(fused, fuse="max")) == plain(gallery.search(fused, fuse="max"))


def test_a_picture_is_uploaded_once_and_only_if_it_is_not_there(
    client: Client, requests: Requests, pictures: Path, address: str
) -> None:
    client.search(pictures / "02.png")
    assert requests.uploads() == 0, "the gallery holds it"
    new = make_picture(50, (40, 30))
    client.search(new)
    client.search(new, box=(0, 0, 20, 20))
    assert requests.uploads() == 1
    with Client(address, token="an-ordinary-token", http=requests) as other:
        other.search(new)
    assert requests.uploads() == 1, "nor by another client"
    client.search([QueryPart(new), QueryPart(make_picture(51, (40, 30)))])
    assert requests.uploads() == 2


def test_a_picture_that_the_server_forgot_is_uploaded_again(client: Client, requests: Requests, tmp_path: Path) -> None:
    new = make_picture(50, (40, 30))
    client.search(new)
    (kept,) = (tmp_path / "queries").iterdir()
    kept.unlink()
    assert client.search(new) == client.search([QueryPart(new)])
    assert requests.uploads() == 2
    assert list((tmp_path / "queries").iterdir()) == [kept]


def test_only_the_last_part_of_a_name_is_sent(client: Client, requests: Requests, tmp_path: Path) -> None:
    secret = tmp_path / "where I keep things"
    secret.mkdir()
    (secret / "mug.png").write_bytes(b"no picture")
    bodies: list[bytes] = []
    requests.event_hooks = {"request": [lambda request: bodies.append(request.read())]}
    with pytest.raises(ImageUnreadable) as caught:
        client.search(secret / "mug.png")
    assert caught.value.name == str(secret / "mug.png"), "the error names the file as it is called here"
    assert "not an image" in caught.value.reason
    assert any(b"mug.png" in body for body in bodies) and not any(b"where I keep" in body for body in bodies)


def test_many_queries(gallery: Gallery, client: Client, pictures: Path) -> None:
    queries = [(pictures / f"{seed:02d}.png", None if seed % 2 else (0, 0, 16, 16)) for seed in range(6)]
    queries.insert(3, (pictures / "none.png", None))
    here = list(gallery.search_many(queries, k=3))
    there = list(client.search_many(iter(queries), k=3))
    assert [plain(list(one.hits)) for one in there] == [plain(list(one.hits)) for one in here]
    assert [one.error for one in there] == [one.error for one in here] and there[3].error is not None
    assert [(one.query, one.box, one.parts) for one in there] == [(one.query, one.box, one.parts) for one in here]
    assert list(client.search_many([])) == []
    first = client.search_many((picture, None) for picture in [pictures / "00.png"] * 50)
    assert len(next(first).hits) == 6
    first.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "wanted",
    [
        {"k": 0},
        {"min_score": float("nan")},
        {"where": "nope = 1"},
        {"where": "brand ="},
        {"under": ["/nowhere"]},
        {"rerank": "typo:3"},
        {"expand": "x"},
        {"fuse": "x"},
    ],
)
def test_what_is_wrong_with_all_of_many_queries_is_no_fault_of_each(
    gallery: Gallery, client: Client, pictures: Path, wanted: dict[str, Any]
) -> None:
    for asked in (gallery, client):
        with pytest.raises(UsageError):
            list(asked.search_many([(pictures / "00.png", None)], **wanted))


def test_an_explanation(gallery: Gallery, client: Client, pictures: Path) -> None:
    hits = client.search(pictures / "02.png", box=(4, 6, 20, 24))
    for asked in (hits[1], hits[1].path, Path(hits[1].path), gallery.search(pictures / "02.png")[1]):
        here = gallery.explain(pictures / "02.png", asked, box=(4, 6, 20, 24))
        there = client.explain(pictures / "02.png", asked, box=(4, 6, 20, 24))
        assert (there.path, there.size) == (here.path, here.size)
        assert [region.box for region in there.regions] == [region.box for region in here.regions]
        assert np.allclose(there.heat_map(), here.heat_map(), atol=1e-5)
    parts = [QueryPart(pictures / "02.png"), QueryPart(make_picture(60, (30, 20)), weight=0.5)]
    assert len(client.explain(parts, hits[0]).parts) == 2
    for missing in ("/no/such.png", str(pictures)):
        with pytest.raises(UsageError, match="not in the gallery"):
            client.explain(pictures / "02.png", missing)


def test_an_explanation_of_what_has_gone(gallery: Gallery, client: Client, pictures: Path) -> None:
    hits = client.search(pictures / "02.png")
    gallery.remove(hits[1].path)
    with pytest.raises(UsageError, match="not in the gallery"):
        client.explain(make_picture(61, (30, 20)), hits[1])


def test_errors_are_the_library_s(client: Client, pictures: Path) -> None:
    with pytest.raises(BoxError, match="inside out"):
        client.search(pictures / "02.png", box=(20, 20, 4, 4))
    with pytest.raises(BoxError, match="outside the image"):
        client.search(pictures / "02.png", box=(200, 200, 400, 400))
    with pytest.raises(EncoderError, match="reads no texts"):
        client.search(text="a mug")
    with pytest.raises(UsageError, match="k must be"):
        client.search(pictures / "02.png", k=0)
    for box in ((1, 2, 3), (1, 2, 3, 4, 5), (0, 0, float("nan"), 10), (0, 0, float("inf"), 10)):
        with pytest.raises(BoxError, match="four finite numbers"):
            client.search(pictures / "02.png", box=box)
        with pytest.raises(BoxError, match="four finite numbers"):
            client.explain(pictures / "02.png", pictures / "03.png", box=box)
    for score in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="min_score"):
            client.search(pictures / "02.png", min_score=score)
    with pytest.raises(UsageError, match="not finite"):
        client.search(pictures / "02.png", recall=float("nan"))
    with pytest.raises(UsageError, match="nothing to search for"):
        client.search()
    with pytest.raises(PatchwiseError, match="fuse"):
        client.search(pictures / "02.png", fuse="sum")
    with pytest.raises(ImageUnreadable, match="no such file"):
        client.search(pictures / "none.png")


def test_pictures_of_hits_come_through_the_server(client: Client, pictures: Path, gallery: Gallery) -> None:
    hits = client.search(pictures / "02.png")
    content = (pictures / "02.png").read_bytes()
    assert client.image_bytes(hits[0]) == content
    assert client.image_bytes(client.images().images[2]) == content
    assert client.image_bytes(client.images().images[2].digest) == content
    assert client.image_bytes(hits[0].path) == content
    with pytest.raises(UsageError, match="not in the gallery"):
        client.thumbnail("/nowhere.png")
    small = client.thumbnail(hits[0], size=64)
    assert small.mode == "RGB" and small.size == (32, 24)
    for name in ("00.png", "01.png", "02.png", "03.png", "04.png", "05.png"):
        (pictures / name).rename(pictures / f"{name}.away")
    (pictures / "02.png.away").rename(pictures / "02.png")
    page = shown(hits[:1])
    assert len(page.all("img")) == 2 and page.all("rect", class_="best")
    assert hits[:1].plot().axes[1].images
    page = shown(hits[1])
    assert "changed since it was indexed" in page.text("p")[0]
    with pytest.raises(ImageUnreadable, match="changed"):
        client.image_bytes(hits[1])
    explanation = client.explain(pictures / "02.png", hits[0])
    assert len(shown(explanation).all("img")) == 1 and explanation.source is not None


def test_hits_can_be_copied_and_kept(client: Client, pictures: Path) -> None:
    hits = client.search(pictures / "02.png")
    assert copy.deepcopy(hits) == hits and asdict(hits[0])["path"] == hits[0].path
    with pytest.raises(TypeError, match="your own"):
        pickle.dumps(hits)


def test_hits_that_are_pickled_leave_the_token_behind(address: str, pictures: Path) -> None:
    with Client(address, token="an-ordinary-token") as client:
        hits = client.search(pictures / "02.png")
        written = pickle.dumps(hits)
    assert b"an-ordinary-token" not in written
    back = pickle.loads(written)
    assert back == hits
    assert "a token is needed" in shown(back[0]).text("p")[0]


def test_images(client: Client, gallery: Gallery, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.images() == gallery.images() and client.images().total == 6
    assert client.images(offset=2, limit=3) == gallery.images(offset=2, limit=3)
    assert client.images(limit=0).images == () and client.images(limit=0).total == 6
    assert client.images([pictures / "01.png"]) == gallery.images([pictures / "01.png"])
    assert client.images(["/elsewhere"]).total == 0
    monkeypatch.setattr("patchwise.client.contents._PAGE", 4)
    assert client.images() == gallery.images() and len(client.images(limit=5).images) == 5
    for asked in (client, gallery):
        assert asked.images(str(pictures / "01.png")).total == asked.images(pictures / "01.png").total == 1
        assert len(asked.search(pictures / "02.png", under=str(pictures / "01.png"))) == 1
    with pytest.raises(UsageError, match="whole path"):
        client.images(["pictures"])
    with pytest.raises(UsageError, match="too much asked for"):
        client.images(where=f"path = '{'ä' * 15_000}'")
    with pytest.raises(UsageError, match="at least 0"):
        client.images(limit=-1)


def test_numbers_of_metadata_are_those_of_the_gallery(client: Client, gallery: Gallery, pictures: Path) -> None:
    file = pictures.parent / "m.csv"
    file.write_text(f"path,year,large\n{pictures}/01.png,2019,9007199254740993\n{pictures}/02.png,2021,1\n")
    gallery.add_metadata(file)
    there = client.info().metadata
    assert there == tuple(gallery.metadata_columns())
    assert [type(one.minimum) for one in there] == [int, int] and there[1].maximum == 9007199254740993


def test_a_long_condition(client: Client, gallery: Gallery, pictures: Path) -> None:
    where = f"name in ({', '.join(repr(f'{number:02d}.png') for number in range(1500))})"
    assert len(where) > 10_000
    found = client.search(pictures / "02.png", where=where)
    assert plain(list(found)) == plain(list(gallery.search(pictures / "02.png", where=where))) and len(found) == 6
    assert client.images(where=where).total == 6


def test_what_a_server_holds(client: Client, gallery: Gallery, pictures: Path) -> None:
    info = client.info()
    assert client.galleries() == (info,) and client.gallery == info.name == "g"
    assert (info.images, info.regions_strategy, info.encoder, info.reads_text) == (6, "pyramid:1", "fake", False)
    assert info.folders == tuple(gallery.folders()) == ((str(pictures), 6),)
    assert info.can_add and info.roots
    assert client.health()["status"] == "ok"
    assert repr(client).startswith("Client('http://127.0.0.1:") and "token" not in repr(client)


def test_names_that_are_no_text(client: Client, gallery: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    odd = os.fsdecode(os.fsencode(folder) + b"/\xff\xfe \xc3\xbc.png")
    buffer = io.BytesIO()
    make_picture(70, (30, 20)).save(buffer, "PNG")
    Path(odd).write_bytes(buffer.getvalue())
    gallery.add(folder)
    there = client.search(odd, under=[odd], k=1)
    assert [hit.path for hit in there] == [odd]
    assert client.images([folder]).images[0].path == odd
    assert client.explain(odd, there[0]).path == odd
    assert client.image_bytes(there[0]) == buffer.getvalue()
    assert client.remove(odd) == 1
