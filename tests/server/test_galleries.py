"""Which galleries are served, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fastapi.testclient import TestClient

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.errors import GalleryNotFound
from patchwise.server import Settings, create_app
from patchwise.server.galleries import Galleries


class FakeTextEncoder(FakeEncoder):
    """Reads texts too: "seed 3" lies where the picture of that seed does."""

    id = "/models/fake-text"

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        pictures = [np.asarray(make_picture(int(text.split()[-1]), (16, 16))) for text in texts]
        return self.encode(np.stack(pictures))


def test_the_first_gallery_is_the_default_and_each_is_searched_by_itself(
    gallery: Gallery, tmp_path: Path, serving: Callable[..., TestClient]
) -> None:
    (tmp_path / "others").mkdir()
    make_picture(3, (32, 24)).save(tmp_path / "others" / "same.png")
    with Gallery.create(tmp_path / "h", encoder=FakeEncoder(), regions="whole") as other:
        other.add(tmp_path / "others")
    client = serving(Settings({"zebra": gallery.path, "alpha": tmp_path / "h"}, queries=tmp_path / "q"))
    listed = client.get("/api/v1/galleries").json()["galleries"]
    assert [(each["name"], each["images"]) for each in listed] == [("zebra", 6), ("alpha", 1)]
    image = client.get("/api/v1/galleries/alpha/images").json()["images"][0]["image"]
    answer = client.post("/api/v1/galleries/alpha/search", json={"parts": [{"picture": image}]}).json()
    assert [hit["path"] for hit in answer["hits"]] == [str(tmp_path / "others" / "same.png")]
    for path in ("/api/v1/galleries/beta", "/api/v1/galleries/beta/images"):
        problem = client.get(path)
        assert (problem.status_code, problem.json()["type"]) == (404, "urn:patchwise:gallery-not-found")


def test_a_gallery_is_described(served: TestClient, gallery: Gallery, pictures: Path) -> None:
    described = served.get("/api/v1/galleries/g").json()
    version, created = described.pop("version"), described.pop("created")
    assert version
    assert created == gallery.info().created
    assert described == {
        "name": "g",
        "images": 6,
        "distinct_images": 6,
        "regions": 30,
        "unreadable": 0,
        "encoder": "fake",
        "dimension": 48,
        "regions_strategy": "pyramid:1",
        "reads_text": False,
        "can_add": True,
        "can_remove": True,
        "roots": True,
        "folders": [{"path": str(pictures), "images": 6}],
        "metadata": [],
    }


def test_metadata_is_described_listed_found_and_searched_with(
    gallery: Gallery, pictures: Path, tmp_path: Path, serving: Callable[..., TestClient], settings: Settings
) -> None:
    rows = [f"{seed:02d}.png,{'Acme' if seed % 2 else 'Umbrella'},{2015 + seed}" for seed in range(5)]
    (tmp_path / "m.csv").write_text("\n".join(["path,brand,year", *rows]) + "\n", encoding="utf-8")
    gallery.add(pictures, metadata=tmp_path / "m.csv")
    client = serving(settings)
    brand, year = client.get("/api/v1/galleries/g").json()["metadata"]
    assert (brand["name"], brand["kind"], brand["images"]) == ("brand", "text", 5)
    assert brand["values"] == ["Umbrella", "Acme"]
    assert (year["kind"], year["minimum"], year["maximum"]) == ("number", 2015, 2019)
    where = "brand = 'Acme' and year > 2016"
    listed = client.get("/api/v1/galleries/g/images", params={"where": where}).json()
    assert listed["total"] == 1
    assert listed["images"][0]["metadata"] == {"brand": "Acme", "year": 2018}
    image = listed["images"][0]["image"]
    answer = client.post("/api/v1/galleries/g/search", json={"parts": [{"picture": image}], "where": "year < 2017"})
    assert [Path(hit["path"]).name for hit in answer.json()["hits"]] in (["00.png", "01.png"], ["01.png", "00.png"])
    assert answer.json()["images"] == 2
    assert {hit["metadata"]["brand"] for hit in answer.json()["hits"]} == {"Umbrella", "Acme"}
    for condition in ("nothing = 1", "brand = ", "__import__('os')", "year > 'x", "1; DROP TABLE file"):
        refused = client.get("/api/v1/galleries/g/images", params={"where": condition})
        assert refused.status_code == 422, condition


def test_texts_are_searched_for_where_the_encoder_reads_them(
    pictures: Path, tmp_path: Path, serving: Callable[..., TestClient]
) -> None:
    with Gallery.create(tmp_path / "t", encoder=FakeTextEncoder(), regions="whole") as made:
        made.add(pictures)
    client = serving(Settings({"t": tmp_path / "t"}, queries=tmp_path / "q"), encoder=FakeTextEncoder())
    described = client.get("/api/v1/galleries/t").json()
    assert (described["reads_text"], described["encoder"]) == (True, "fake-text")
    answer = client.post("/api/v1/galleries/t/search", json={"parts": [{"text": "seed 4"}], "k": 1}).json()
    assert answer["hits"][0]["path"] == str(pictures / "04.png")
    assert (answer["query"], answer["box"]) == ("seed 4", None)
    upload = client.post("/api/v1/galleries/t/search/upload", files={"text": (None, "seed 2")}, data={"k": "1"})
    assert upload.json()["hits"][0]["path"] == str(pictures / "02.png")
    page = client.post("/api/v1/galleries/t/search/export/html", json={"parts": [{"text": "seed 4"}], "k": 1})
    assert "seed 4" in page.text


def test_a_gallery_is_counted_only_when_it_has_changed(
    settings: Settings, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    galleries = Galleries(settings, lambda folder: Gallery.open(folder, encoder=FakeEncoder()))
    served, counted = galleries.get("g"), []
    info = served.gallery.info
    monkeypatch.setattr(served.gallery, "info", lambda: counted.append(1) or info())
    assert [served.info().images for _ in range(3)] == [6, 6, 6]
    assert len(counted) == 1
    (pictures / "bad.png").write_bytes(b"no picture")
    served.gallery.add(pictures)
    assert len(served.info().unreadable) == 1
    galleries.close()


def test_what_the_first_search_needs_is_loaded_before_it(gallery: Gallery, settings: Settings) -> None:
    encoder = FakeEncoder()
    galleries = Galleries(settings, lambda folder: Gallery.open(folder, encoder=encoder))
    galleries.warm()
    assert encoder.encoded_regions == 1
    galleries.close()


def test_a_gallery_that_cannot_be_searched_does_not_keep_the_others_from_it(
    gallery: Gallery, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    class Other(FakeEncoder):
        weights_sha256 = "1" * 64

    client = TestClient(
        create_app(settings, lambda folder: Gallery.open(folder, encoder=Other())), base_url="http://localhost"
    )
    with client:
        answer = client.get("/api/v1/galleries/g/images")
        assert answer.json()["total"] == 6
        assert client.get("/api/v1/galleries").json()["galleries"][0]["images"] == 6
        image = answer.json()["images"][0]["image"]
        refused = client.post("/api/v1/galleries/g/search", json={"parts": [{"picture": image}]})
    assert (refused.status_code, refused.json()["type"]) == (500, "urn:patchwise:gallery")
    assert str(gallery.path) not in refused.text
    assert "made with another encoder" in caplog.text


def test_galleries_that_were_opened_are_closed_when_another_cannot_be(gallery: Gallery, tmp_path: Path) -> None:
    opened: list[Gallery] = []

    def opening(folder: Path) -> Gallery:
        opened.append(Gallery.open(folder, encoder=FakeEncoder()))
        return opened[-1]

    with pytest.raises(GalleryNotFound):
        Galleries(Settings({"a": gallery.path, "b": tmp_path / "none"}), opening)
    with pytest.raises(Exception, match="closed"):
        len(opened[0])
