"""Images of a gallery over HTTP: listed, shown, given out, forgotten."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from fastapi.testclient import TestClient
from filelock import FileLock
from PIL import Image
from starlette.requests import ClientDisconnect
from starlette.types import Message

from conftest import FakeEncoder, make_picture
from patchwise import Gallery
from patchwise.images import digest_of
from patchwise.server import Settings
from patchwise.server.answers import FileAnswer

from .conftest import png

IMAGES = "/api/v1/galleries/g/images"


def test_images_are_listed_by_path_page_by_page(served: TestClient, pictures: Path) -> None:
    found = served.get(IMAGES, params={"offset": 2, "limit": 2}).json()
    assert found["total"] == 6
    assert [image["path"] for image in found["images"]] == [str(pictures / "02.png"), str(pictures / "03.png")]
    content = (pictures / "02.png").read_bytes()
    assert found["images"][0] == {
        "image": digest_of(content),
        "path": str(pictures / "02.png"),
        "size": [32, 24],
        "metadata": {},
    }


def test_images_are_listed_below_folders(served: TestClient, pictures: Path) -> None:
    below = [str(pictures / "01.png"), str(pictures / "04.png")]
    found = served.get(IMAGES, params={"under": below}).json()
    assert [image["path"] for image in found["images"]] == below
    assert served.get(IMAGES, params={"under": "relative"}).status_code == 422


def test_an_image_names_all_files_that_hold_it(serving, settings: Settings, gallery: Gallery, pictures: Path) -> None:
    copy = pictures / "copy.png"
    copy.write_bytes((pictures / "03.png").read_bytes())
    gallery.add(pictures)
    image = digest_of(copy.read_bytes())
    found = serving(settings).get(f"{IMAGES}/{image}").json()
    assert found["paths"] == [str(pictures / "03.png"), str(copy)]
    assert found["path"] == found["paths"][0]


def test_additions_by_others_show_without_a_restart(served: TestClient, gallery: Gallery, pictures: Path) -> None:
    before = served.get("/api/v1/galleries/g").json()
    make_picture(9, (32, 24)).save(pictures / "09.png")
    gallery.add(pictures)  # through a connection of its own, as another process would
    after = served.get("/api/v1/galleries/g").json()
    assert (before["images"], after["images"]) == (6, 7)
    assert before["version"] != after["version"]
    kept = served.post("/api/v1/galleries/g/pictures", files={"picture": png(make_picture(9, (32, 24)))}).json()
    hits = served.post("/api/v1/galleries/g/search", json={"parts": [{"picture": kept["image"]}]}).json()["hits"]
    assert hits[0]["path"] == str(pictures / "09.png")


def test_thumbnails_are_upright_small_and_kept(serving, settings: Settings, gallery: Gallery, pictures: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    make_picture(7, (900, 600)).save(pictures / "turned.jpg", exif=exif)
    gallery.add(pictures)
    image = digest_of((pictures / "turned.jpg").read_bytes())
    client = serving(settings)
    answer = client.get(f"{IMAGES}/{image}/thumbnail", params={"size": 300})
    assert answer.headers["content-type"] == "image/jpeg"
    assert "immutable" in answer.headers["cache-control"]
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert shown.size == (213, 320)
        original = make_picture(7, (900, 600)).rotate(-90, expand=True).resize(shown.size)
        assert np.abs(np.asarray(shown, float) - np.asarray(original, float)).mean() < 6
    again = client.get(f"{IMAGES}/{image}/thumbnail", params={"size": 320})
    assert again.content == answer.content
    same = client.get(
        f"{IMAGES}/{image}/thumbnail", params={"size": 300}, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (same.status_code, same.content) == (304, b"")
    assert any((gallery.path / "remembered").rglob(image))
    assert client.get(f"{IMAGES}/{image}/thumbnail", params={"size": 5000}).status_code == 422


def test_small_pictures_are_not_enlarged(served: TestClient, pictures: Path) -> None:
    image = digest_of((pictures / "00.png").read_bytes())
    with Image.open(io.BytesIO(served.get(f"{IMAGES}/{image}/thumbnail").content)) as shown:
        assert shown.size == (32, 24)


def test_the_file_itself_is_given_out_as_what_it_is(
    serving: Callable[..., TestClient], settings: Settings, gallery: Gallery, pictures: Path
) -> None:
    # A name that says nothing true of its content.
    make_picture(8, (32, 24)).save(pictures / 'a";evil=".png', "GIF")
    gallery.add(pictures)
    content = (pictures / 'a";evil=".png').read_bytes()
    answer = serving(settings).get(f"{IMAGES}/{digest_of(content)}/full")
    assert answer.content == content
    assert answer.headers["content-type"] == "image/gif"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert '"' not in answer.headers["content-disposition"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_is_sent_a_piece_at_a_time_and_closed(tmp_path: Path, method: str) -> None:
    content = np.random.default_rng(0).bytes(1_000_003)
    (tmp_path / "file").write_bytes(content)
    file = (tmp_path / "file").open("rb")
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "asgi": {"spec_version": "2.4"}}
    asyncio.run(FileAnswer(file, "image/png", {"ETag": "x"})(scope, receive, send))
    start, *pieces = sent
    assert dict(start["headers"])[b"content-length"] == b"1000003" and dict(start["headers"])[b"etag"] == b"x"
    assert b"".join(piece["body"] for piece in pieces) == (content if method == "GET" else b"")
    assert max(len(piece["body"]) for piece in pieces) <= 2**18
    assert file.closed


def test_those_who_go_while_a_file_is_sent_leave_it_closed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    file = (tmp_path / "file").open("rb")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("gone")

    with pytest.raises(ClientDisconnect):
        scope = {"type": "http", "method": "GET", "asgi": {"spec_version": "2.4"}}
        asyncio.run(FileAnswer(file, "image/png", {})(scope, receive, send))
    assert file.closed


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM"])
def test_a_file_is_given_out_however_large_it_is_decoded(
    serving: Callable[..., TestClient], settings: Settings, gallery: Gallery, pictures: Path, format: str
) -> None:
    """Its type is known without decoding it."""
    make_picture(8, (300, 200)).save(pictures / "large.png", format)
    gallery.add(pictures)
    content = (pictures / "large.png").read_bytes()
    client = serving(replace(settings, max_pixels=100))
    with patch.object(Image, "MAX_IMAGE_PIXELS", 100):
        answer = client.get(f"{IMAGES}/{digest_of(content)}/full")
    assert (answer.status_code, answer.content) == (200, content)
    kinds = {"JPEG2000": "image/jp2", "PPM": "image/x-portable-anymap"}
    assert answer.headers["content-type"] == kinds.get(format, f"image/{format.lower()}")
    thumbnail = client.get(f"{IMAGES}/{digest_of(content)}/thumbnail")
    assert (thumbnail.status_code, thumbnail.json()["type"]) == (422, "urn:patchwise:image-too-large")


@pytest.mark.parametrize("what", ["full", "thumbnail"])
def test_what_a_client_has_is_not_sent_again(served: TestClient, pictures: Path, what: str) -> None:
    place = f"{IMAGES}/{digest_of((pictures / '00.png').read_bytes())}/{what}"
    whole, head = served.get(place), served.head(place)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag"):
        assert head.headers[name] == whole.headers[name]
    tag = whole.headers["etag"]
    for sent in (tag, f"W/{tag}", f'"other", W/{tag}', f'{tag},"other"'):
        assert served.get(place, headers={"If-None-Match": sent}).status_code == 304
        assert served.head(place, headers={"If-None-Match": sent}).status_code == 304
    for sent in ('"other"', tag.strip('"'), f'"x{tag[1:]}', "W/"):
        assert served.get(place, headers={"If-None-Match": sent}).status_code == 200


@pytest.mark.parametrize("swapped", ["other", "link", "gone", "pipe", "device"])
def test_a_file_that_is_another_by_now_is_never_given_out(served: TestClient, pictures: Path, swapped: str) -> None:
    file = pictures / "00.png"
    image = digest_of(file.read_bytes())
    secret = pictures.parent / "secret.png"
    make_picture(99, (32, 24)).save(secret)
    file.unlink()
    if swapped == "other":
        file.write_bytes(secret.read_bytes())
    elif swapped == "link":
        file.symlink_to(secret)
    elif swapped == "pipe":
        os.mkfifo(file)
    elif swapped == "device":
        file.symlink_to("/dev/zero")
    for what in ("full", "thumbnail"):
        answer = served.get(f"{IMAGES}/{image}/{what}")
        assert answer.status_code == 410
        assert "changed since it was indexed" in answer.json()["detail"]
        assert answer.headers["content-type"] == "application/problem+json"
    answer = served.post("/api/v1/galleries/g/search", json={"parts": [{"picture": image}]})
    assert answer.status_code == 410


def test_another_file_with_the_same_bytes_stands_in(
    serving: Callable[..., TestClient], settings: Settings, gallery: Gallery, pictures: Path
) -> None:
    content = (pictures / "00.png").read_bytes()
    (pictures / "zz.png").write_bytes(content)
    gallery.add(pictures)
    (pictures / "00.png").unlink()
    client = serving(settings)
    assert client.get(f"{IMAGES}/{digest_of(content)}/full").content == content
    assert client.get(f"{IMAGES}/{digest_of(content)}/thumbnail").status_code == 200


def test_deleting_forgets_an_image_and_leaves_its_file(served: TestClient, pictures: Path) -> None:
    image = digest_of((pictures / "00.png").read_bytes())
    assert served.delete(f"{IMAGES}/{image}").status_code == 204
    assert served.get(f"{IMAGES}/{image}").status_code == 404
    assert served.get(f"{IMAGES}/{image}/thumbnail").status_code == 404
    assert served.get(IMAGES).json()["total"] == 5
    assert served.delete(f"{IMAGES}/{image}").status_code == 404
    assert (pictures / "00.png").is_file()


def test_one_of_several_files_can_be_forgotten(
    serving: Callable[..., TestClient], settings: Settings, gallery: Gallery, pictures: Path
) -> None:
    (pictures / "copy.png").write_bytes((pictures / "00.png").read_bytes())
    gallery.add(pictures)
    image = digest_of((pictures / "00.png").read_bytes())
    client = serving(settings)
    assert client.delete(f"{IMAGES}/{image}", params={"path": "/elsewhere.png"}).status_code == 404
    assert client.delete(f"{IMAGES}/{image}", params={"path": str(pictures / "copy.png")}).status_code == 204
    assert client.get(f"{IMAGES}/{image}").json()["paths"] == [str(pictures / "00.png")]


def test_only_uploads_are_deleted_from_disk(
    serving: Callable[..., TestClient], settings: Settings, gallery: Gallery, pictures: Path
) -> None:
    client = serving(settings)  # before there are uploads, which it would bring up to date by itself
    uploads = settings.uploads_folder("g")
    uploads.mkdir()
    make_picture(20, (32, 24)).save(uploads / "mine.png")
    (uploads / "linked.png").symlink_to(pictures / "00.png")
    (uploads / "away").symlink_to(pictures, target_is_directory=True)
    gallery.add(uploads / "mine.png", uploads / "linked.png", uploads / "away" / "01.png", follow_links=True)
    for file in (uploads / "mine.png", pictures / "00.png", pictures / "01.png"):
        assert client.delete(f"{IMAGES}/{digest_of(file.read_bytes())}").status_code == 204
    assert not (uploads / "mine.png").exists()
    assert not (uploads / "linked.png").is_symlink()  # the link was there; what it leads to was not
    assert (pictures / "00.png").is_file()
    assert (pictures / "01.png").is_file()


def test_somebody_else_writing_is_said_with_when_to_try_again(
    served: TestClient, gallery: Gallery, pictures: Path
) -> None:
    image = digest_of((pictures / "00.png").read_bytes())
    with FileLock(gallery.path / "lock"):
        answer = served.delete(f"{IMAGES}/{image}")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:patchwise:gallery-busy")
    assert int(answer.headers["retry-after"]) > 0
    assert str(gallery.path) not in answer.text


def test_names_that_are_no_text_are_listed_and_searched_below(
    tmp_path: Path, serving: Callable[..., TestClient]
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    make_picture(1, (32, 24)).save(folder / os.fsdecode(b"\xff.png"))
    with Gallery.create(tmp_path / "g", encoder=FakeEncoder(), regions="whole") as made:
        made.add(tmp_path / os.fsdecode(b"caf\xe9"))
    client = serving(Settings({"g": tmp_path / "g"}, queries=tmp_path / "q"))
    (image,) = client.get(IMAGES).json()["images"]
    assert image["path"] == f"{tmp_path}/caf\\udce9/\\udcff.png"
    assert client.get(IMAGES, params={"under": f"{tmp_path}/caf\\udce9"}).json()["total"] == 1
    parts = [{"picture": image["image"]}]
    answer = client.post("/api/v1/galleries/g/search", json={"parts": parts, "under": [f"{tmp_path}/caf\\udce9"]})
    assert answer.json()["hits"][0]["path"] == image["path"]
    explained = client.post(
        "/api/v1/galleries/g/explain", json={"parts": parts, "image": image["image"], "path": image["path"]}
    )
    assert explained.json()["path"] == image["path"]
    listed = client.post("/api/v1/galleries/g/search/export/paths", json={"parts": parts}).content
    assert listed == os.fsencode(f"{folder}/") + b"\xff.png\n"
    for kind in ("json", "csv", "html"):
        assert client.post(f"/api/v1/galleries/g/search/export/{kind}", json={"parts": parts}).status_code == 200
    assert client.get(f"{IMAGES}/{image['image']}/full").status_code == 200
    assert client.delete(f"{IMAGES}/{image['image']}", params={"path": image["path"]}).status_code == 204
