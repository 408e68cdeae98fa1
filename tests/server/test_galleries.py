"""Which galleries are served, and what is said of them."""

from __future__ import annotations

import gc
import io
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fastapi.testclient import TestClient

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.encoders import Encoder
from patchwise.errors import EncoderError, GalleryError, GalleryNotFound
from patchwise.images import digest_of
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
    assert "g: made with another encoder" in caplog.text


def test_a_damaged_gallery_does_not_hide_the_others(
    gallery: Gallery, tmp_path: Path, serving: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    with Gallery.create(tmp_path / "h", encoder=FakeEncoder(), regions="whole"):
        pass
    client = serving(Settings({"h": tmp_path / "h", "g": gallery.path}, queries=tmp_path / "queries"))
    with (tmp_path / "h" / "catalogue.sqlite").open("r+b") as catalogue:
        catalogue.write(b"no database at all" * 2000)
    (gallery_, *others) = client.get("/api/v1/galleries").json()["galleries"]
    assert (gallery_["name"], others) == ("g", [])
    metrics = client.get("/api/v1/metrics").text
    assert 'patchwise_images{gallery="g"} 6.0' in metrics and 'patchwise_images{gallery="h"}' not in metrics
    assert client.get("/api/v1/galleries/h").status_code == 500
    assert "h: " in caplog.text and "not a usable catalogue" in caplog.text


def test_where_no_gallery_can_be_used_that_is_said(
    gallery: Gallery, settings: Settings, serving: Callable[..., TestClient]
) -> None:
    client = serving(settings)
    with (gallery.path / "catalogue.sqlite").open("r+b") as catalogue:
        catalogue.write(b"no database at all" * 2000)
    answer = client.get("/api/v1/galleries")
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:patchwise:gallery")
    assert str(gallery.path) not in answer.text
    assert client.get("/api/v1/metrics").status_code == 200


def test_galleries_that_were_opened_are_closed_when_another_cannot_be(gallery: Gallery, tmp_path: Path) -> None:
    opened: list[Gallery] = []

    def opening(folder: Path) -> Gallery:
        opened.append(Gallery.open(folder, encoder=FakeEncoder()))
        return opened[-1]

    with pytest.raises(GalleryNotFound):
        Galleries(Settings({"a": gallery.path, "b": tmp_path / "none"}), opening)
    with pytest.raises(Exception, match="closed"):
        len(opened[0])


def _made_anew(folder: Path, pictures: Path, *names: str) -> None:
    shutil.rmtree(folder)
    with Gallery.create(folder, encoder=FakeEncoder()) as made:
        made.add(*(pictures / name for name in names))


def test_a_gallery_that_was_made_anew_is_opened_again_and_left_whole(
    served: TestClient, gallery: Gallery, pictures: Path
) -> None:
    place = "/api/v1/galleries/g"
    image = digest_of((pictures / "03.png").read_bytes())
    wanted = {"parts": [{"picture": image}]}
    assert len(served.post(f"{place}/search", json=wanted).json()["hits"]) == 6
    before = served.get(place).json()["version"]
    _made_anew(gallery.path, pictures, "03.png", "04.png")
    answer = served.post(f"{place}/search", json=wanted).json()
    assert [Path(hit["path"]).name for hit in answer["hits"]] == ["03.png", "04.png"]
    assert served.get(place).json()["images"] == 2 and answer["version"] != before
    buffer = io.BytesIO()
    make_picture(77, (32, 24)).save(buffer, "PNG")
    job = served.post(f"{place}/images", files={"pictures": ("new.png", buffer.getvalue())}).json()["job"]
    until = time.monotonic() + 20
    while (state := served.get(f"/api/v1/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert (state["state"], state["added"]) == ("done", 1)
    with Gallery.open(gallery.path, encoder=FakeEncoder()) as now:
        assert len(now) == 3 and now.verify().problems == []


def test_the_old_one_is_closed_when_nobody_uses_it_any_more(
    gallery: Gallery, settings: Settings, pictures: Path
) -> None:
    galleries = Galleries(settings, lambda folder: Gallery.open(folder, encoder=FakeEncoder()))
    in_use = galleries.get("g")
    old = in_use.gallery
    _made_anew(gallery.path, pictures, "03.png")
    now = galleries.get("g")
    assert now is not in_use and galleries.get("g") is now
    assert (len(old), len(now.gallery)) == (6, 1)
    del in_use
    gc.collect()
    with pytest.raises(GalleryError, match="closed"):
        len(old)
    assert len(now.gallery) == 1
    galleries.close()


def test_a_gallery_that_was_deleted_is_not_found_nor_made_again(
    serving: Callable[..., TestClient], gallery: Gallery, pictures: Path, tmp_path: Path
) -> None:
    with Gallery.create(tmp_path / "h", encoder=FakeEncoder()) as other:
        other.add(pictures / "01.png")
    client = serving(Settings({"g": gallery.path, "h": tmp_path / "h"}, queries=tmp_path / "q"))
    image = digest_of((pictures / "03.png").read_bytes())
    shutil.rmtree(gallery.path)
    place = "/api/v1/galleries/g"
    for answer in (
        client.get(place),
        client.get(f"{place}/images"),
        client.get(f"{place}/images/{image}/full"),
        client.post(f"{place}/search", json={"parts": [{"picture": image}]}),
        client.post(f"{place}/images", files={"pictures": ("03.png", (pictures / "03.png").read_bytes())}),
        client.delete(f"{place}/images/{image}"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:patchwise:gallery-not-found")
    assert [each["name"] for each in client.get("/api/v1/galleries").json()["galleries"]] == ["h"]
    assert 'patchwise_images{gallery="h"} 1.0' in client.get("/api/v1/metrics").text
    assert not gallery.path.exists()
    with Gallery.create(gallery.path, encoder=FakeEncoder()) as made:
        made.add(pictures / "03.png")
    assert client.get(place).json()["images"] == 1


def test_an_encoder_that_cannot_be_loaded_is_no_excuse_for_mistakes(
    gallery: Gallery, settings: Settings, pictures: Path
) -> None:
    tried: list[str] = []

    class Broken(Gallery):
        @property
        def encoder(self) -> Encoder:
            tried.append("once more")
            raise EncoderError(f"{self.path}: its encoder cannot be loaded: no such file")

    client = TestClient(create_app(settings, Broken.open), base_url="http://localhost")
    with client:
        place = "/api/v1/galleries/g"
        image = digest_of((pictures / "03.png").read_bytes())
        parts = {"parts": [{"picture": image}]}
        for where in ("no_such = 1", "(("):
            listed = client.get(f"{place}/images", params={"where": where})
            assert listed.status_code == 422 and str(gallery.path) not in listed.text
        for change in ({"where": "(("}, {"fuse": "nonsense"}, {"rerank": "nonsense"}):
            refused = client.post(f"{place}/search", json={**parts, **change})
            assert (refused.status_code, refused.json()["type"]) == (422, "urn:patchwise:usage")
        broken = client.post(f"{place}/search", json=parts)
        assert (broken.status_code, broken.json()["type"]) == (500, "urn:patchwise:encoder")
        assert client.get(place).json()["reads_text"] is False
        before = len(tried)
        assert client.get("/api/v1/galleries").json()["galleries"][0]["reads_text"] is False
        assert len(tried) == before, "it was tried again within seconds"
