"""Searching, explaining and exporting over HTTP."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from conftest import FakeEncoder, make_picture
from patchwise import Gallery, QueryPart
from patchwise.images import digest_of, read_picture
from patchwise.report import result_to_json
from patchwise.server import Settings
from patchwise.server.limits import StillWanted
from patchwise.server.problems import Problem
from patchwise.server.routes.search import _unless_gone

from .conftest import png

G = "/api/v1/galleries/g"
BOX = [0, 0, 20, 16]


@pytest.fixture
def image(pictures: Path) -> str:
    """The id of an image of the gallery."""
    return digest_of((pictures / "03.png").read_bytes())


def test_a_box_on_an_image_of_the_gallery_gives_what_the_library_gives(
    served: TestClient, gallery: Gallery, pictures: Path, image: str
) -> None:
    answer = served.post(f"{G}/search", json={"parts": [{"picture": image, "box": BOX}], "k": 3}).json()
    hits = gallery.search(pictures / "03.png", box=BOX, k=3)
    expected = result_to_json("", None, hits)["hits"]
    for found, wanted in zip(answer["hits"], expected, strict=True):
        assert found.pop("image") == digest_of(Path(found["path"]).read_bytes())
        assert found.pop("metadata") == {}
        assert found == wanted
    assert answer["box"] == BOX
    assert answer["parts"] == [{"picture": image, "text": None, "box": BOX, "weight": 1.0, "small": False, "name": ""}]
    assert (answer["images"], answer["verdict"]) == (6, "unknown")
    assert answer["version"] == served.get(G).json()["version"]


def test_a_picture_is_decoded_once_for_all_boxes_on_it(served: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []

    def counted(*arguments: object, **options: object) -> object:
        decoded.append(arguments)
        return read_picture(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("patchwise.server.contents.read_picture", counted)
    monkeypatch.setattr("patchwise.server.routes.pictures.read_picture", counted)
    kept = served.post(f"{G}/pictures", files={"picture": ("mug.png", png(make_picture(50, (64, 64))))})
    assert kept.status_code == 201
    for edge in (20, 30, 40):
        parts = [{"picture": kept.json()["image"], "box": [0, 0, edge, edge]}]
        assert served.post(f"{G}/search", json={"parts": parts}).status_code == 200
    assert len(decoded) == 1


def test_a_picture_of_a_link_is_described_without_sending_it_again(served: TestClient, image: str) -> None:
    kept = served.post(f"{G}/pictures", files={"picture": ("mug.png", png(make_picture(50, (64, 48))))}).json()
    assert served.get(f"{G}/pictures/{kept['image']}").json() == kept
    assert kept["size"] == [64, 48] and not kept["in_gallery"]
    assert served.get(f"{G}/pictures/{image}").json()["in_gallery"]
    gone = served.get(f"{G}/pictures/{'0' * 32}")
    assert (gone.status_code, gone.headers["content-type"]) == (404, "application/problem+json")


def test_kept_pictures_can_be_searched_with_after_a_restart(
    serving: Callable[..., TestClient], settings: Settings, pictures: Path
) -> None:
    content = png(make_picture(50, (64, 48)))
    kept = serving(settings).post(f"{G}/pictures", files={"picture": ("mug.png", content, "text/html")}).json()
    assert kept == {"image": digest_of(content), "size": [64, 48], "format": "PNG", "in_gallery": False}
    again = serving(settings)
    assert again.post(f"{G}/search", json={"parts": [{"picture": kept["image"]}]}).status_code == 200
    assert again.get(f"{G}/images/{kept['image']}/full").content == content
    assert again.get(f"{G}/images/{kept['image']}/thumbnail").status_code == 200
    assert again.get(f"{G}/images/{kept['image']}").status_code == 404
    same = again.post(f"{G}/pictures", files={"picture": ("x", (pictures / "00.png").read_bytes())}).json()
    assert same["in_gallery"] is True


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"<html>", "not an image"), (png(make_picture(1))[:400], "corrupt or truncated")],
)
def test_what_is_no_picture_is_refused_with_its_reason(
    served: TestClient, settings: Settings, content: bytes, said: str
) -> None:
    answer = served.post(f"{G}/pictures", files={"picture": ("mug.png", content)})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"].startswith("mug.png: ")
    assert said in answer.json()["detail"]
    assert not settings.queries_folder.exists()


def test_too_many_pixels_are_refused(serving: Callable[..., TestClient], gallery: Gallery, tmp_path: Path) -> None:
    client = serving(Settings({"g": gallery.path}, queries=tmp_path / "q", max_pixels=1000))
    answer = client.post(f"{G}/pictures", files={"picture": ("big.png", png(make_picture(1, (64, 64))))})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:patchwise:image-too-large")


def test_several_pictures_are_one_query(served: TestClient, gallery: Gallery, pictures: Path, image: str) -> None:
    other = digest_of((pictures / "01.png").read_bytes())
    parts = [{"picture": image, "weight": 2, "name": "a"}, {"picture": other, "weight": -1, "name": "b"}]
    answer = served.post(f"{G}/search", json={"parts": parts, "k": 6}).json()
    asked = [QueryPart(pictures / "03.png", weight=2), QueryPart(pictures / "01.png", weight=-1)]
    hits = gallery.search(asked, k=6)
    assert [hit["path"] for hit in answer["hits"]] == [hit.path for hit in hits]
    assert answer["hits"][0]["part_scores"] == pytest.approx(hits[0].part_scores, abs=1e-5)
    assert answer["query"] == "2*a - b"
    assert answer["box"] is None


def test_options_reach_the_library(served: TestClient, pictures: Path, image: str) -> None:
    def paths(**options: object) -> list[str]:
        answer = served.post(f"{G}/search", json={"parts": [{"picture": image}], **options})
        assert answer.status_code == 200, answer.text
        return [Path(hit["path"]).name for hit in answer.json()["hits"]]

    everything = paths()
    assert len(everything) == 6
    assert paths(k=2, offset=1) == everything[1:3]
    assert paths(min_score=0.9) == everything[:1]
    assert paths(under=[str(pictures / "01.png")]) == ["01.png"]
    assert sorted(paths(rerank="refine:2", exact=True, recall=1, collapse=True)) == sorted(everything)
    answer = served.post(f"{G}/search", json={"parts": [{"picture": image}], "under": [str(pictures / "01.png")]})
    assert answer.json()["images"] == 1


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"parts": []}, 422, "parts"),
        ({"parts": [{"text": "a mug"}]}, 422, "reads no texts"),
        ({"parts": [{}]}, 422, "either a picture or a text"),
        ({"parts": [{"picture": "0" * 32}]}, 404, "no image"),
        ({"parts": [{"picture": "../../etc/passwd"}]}, 422, "pattern"),
        ({"k": 0}, 422, "k"),
        ({"k": 1001}, 422, "k"),
        ({"unknown": 1}, 422, "unknown"),
        ({"under": ["relative"]}, 422, "whole path"),
        ({"under": ["/no/such/folder"]}, 422, "the gallery 'g' holds no image from there"),
        ({"rerank": "ames"}, 422, "files of the server's"),
        ({"rerank": "ames:5:/etc"}, 422, "files of the server's"),
        ({"rerank": "geometric:5:/etc/passwd"}, 422, "files of the server's"),
        ({"rerank": "refine:99999"}, 422, "1,000 hits in all here, not at 99,999"),
        ({"rerank": "refine:600,zoom:401"}, 422, "1,000 hits in all here, not at 1,001"),
        ({"rerank": ",".join(["zoom:1"] * 5)}, 422, "at most 4 second looks"),
        ({"rerank": "nonsense"}, 422, "expected refine"),
        ({"expand": "nonsense"}, 422, "nonsense"),
        ({"fuse": "nonsense"}, 422, "nonsense"),
        ({"where": "no_such_column = 1"}, 422, "no_such_column"),
        ({"where": "(("}, 422, ""),
    ],
)
def test_requests_that_make_no_sense_are_refused_with_the_reason(
    served: TestClient, gallery: Gallery, image: str, change: dict[str, object], status: int, said: str
) -> None:
    answer = served.post(f"{G}/search", json={"parts": [{"picture": image}], **change})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert said in problem["detail"]
    assert str(gallery.path) not in answer.text
    assert "Traceback" not in answer.text


def test_each_part_that_is_asked_for_by_itself_has_its_second_looks(served: TestClient, image: str) -> None:
    wanted = {"parts": [{"picture": image}] * 3, "rerank": "zoom:334"}
    assert served.post(f"{G}/search", json=wanted).status_code == 200
    refused = served.post(f"{G}/search", json={**wanted, "fuse": "max"})
    assert refused.status_code == 422 and "not at 1,002 (zoom:334, 3 parts each)" in refused.json()["detail"]


def test_every_page_of_an_answer_says_the_same_of_it(served: TestClient, image: str) -> None:
    def verdicts(*offsets: int) -> list[str]:
        wanted = {"parts": [{"picture": image, "box": BOX}], "k": 2}
        return [served.post(f"{G}/search", json={**wanted, "offset": each}).json()["verdict"] for each in offsets]

    assert verdicts(2, 6, 0, 4, 1000) == ["unknown"] * 5


def test_a_search_ends_with_the_server_and_says_so(
    served: TestClient, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patchwise.server.routes.search.StillWanted", lambda stopping: StillWanted(stopping, 0))
    wanted = {"parts": [{"picture": image}], "rerank": "refine:2"}
    assert served.post(f"{G}/search", json=wanted).status_code == 200
    served.app.state.server.stopping.set()  # type: ignore[attr-defined]
    for place in ("search", "search/export/csv", "search/export/html"):
        answer = served.post(f"{G}/{place}", json=wanted)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:patchwise:ending")
        assert answer.headers["retry-after"] == "5"
    assert served.post(f"{G}/search", json={"parts": wanted["parts"]}).status_code == 200  # it takes no second look


def test_work_is_told_when_whoever_asked_has_gone(served: TestClient) -> None:
    class Leaving:
        async def is_disconnected(self) -> bool:
            return True

    told = threading.Event()

    def endless(still_wanted: Callable[[], bool]) -> None:
        while still_wanted():
            time.sleep(0.01)
        told.set()

    state = served.app.state.server  # type: ignore[attr-defined]
    with pytest.raises(Problem, match="nobody waits"):
        asyncio.run(_unless_gone(Leaving(), state, endless))  # type: ignore[arg-type]
    assert told.wait(10)


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [9, 9, 1, 1], [100, 100, 120, 120]])
def test_a_box_that_fits_no_picture_is_said_so(served: TestClient, image: str, box: list[float]) -> None:
    answer = served.post(f"{G}/search", json={"parts": [{"picture": image, "box": box}]})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:patchwise:box")


def test_numbers_that_are_none_are_refused(served: TestClient, image: str) -> None:
    for body in (
        f'{{"parts": [{{"picture": "{image}", "weight": NaN}}]}}',
        f'{{"parts": [{{"picture": "{image}", "box": [0, 0, Infinity, 5]}}]}}',
        f'{{"parts": [{{"picture": "{image}", "weight": 1e400}}]}}',
        "{",
        "[]",
        "",
    ):
        answer = served.post(f"{G}/search", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, body


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_bodies_must_be_sent_as_what_they_are(served: TestClient, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = served.post(f"{G}/search", content=b'{"parts": []}', headers=headers)
    assert answer.status_code in ((415,) if kind != "multipart/form-data" else (400, 415))
    answer = served.post(f"{G}/pictures", content=b"{}", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:patchwise:content-type")


def test_an_empty_gallery_finds_nothing(tmp_path: Path, serving: Callable[..., TestClient]) -> None:
    Gallery.create(tmp_path / "empty", encoder=FakeEncoder(), regions="whole").close()
    client = serving(Settings({"e": tmp_path / "empty"}, queries=tmp_path / "q"))
    kept = client.post("/api/v1/galleries/e/pictures", files={"picture": ("x", png(make_picture(1)))}).json()
    answer = client.post("/api/v1/galleries/e/search", json={"parts": [{"picture": kept["image"]}]})
    assert (answer.status_code, answer.json()["hits"], answer.json()["verdict"]) == (200, [], "no match")
    described = client.get("/api/v1/galleries").json()["galleries"][0]
    assert (described["images"], described["folders"]) == (0, [])
    assert client.get("/api/v1/galleries/e/images").json() == {"total": 0, "images": []}


def test_one_request_with_pictures_at_hand(served: TestClient, gallery: Gallery, pictures: Path) -> None:
    files = [("picture", (name, (pictures / name).read_bytes())) for name in ("03.png", "04.png")]
    answer = served.post(f"{G}/search/upload", files=files, data={"box": ["0,0,20,16", "whole"], "k": "2"})
    assert answer.status_code == 200, answer.text
    asked = [QueryPart(pictures / "03.png", box=BOX), QueryPart(pictures / "04.png")]
    assert [hit["path"] for hit in answer.json()["hits"]] == [hit.path for hit in gallery.search(asked, k=2)]
    assert answer.json()["query"] == "03.png[0,0,20,16] + 04.png"
    assert answer.json()["parts"][0]["picture"] == digest_of((pictures / "03.png").read_bytes())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"box": "1,2,3"}, "x0,y0,x1,y1"),
        ({"box": ["whole", "whole"]}, "2 boxes for 1 pictures"),
        ({"box": "0,0,nan,5"}, "box"),
        ({"k": "0"}, "k"),
    ],
)
def test_uploads_that_make_no_sense_are_refused(served: TestClient, data: dict[str, str], said: str) -> None:
    answer = served.post(f"{G}/search/upload", files={"picture": ("a.png", png(make_picture(1)))}, data=data)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_text_that_is_none_is_refused_and_not_repeated_as_it_came(served: TestClient, image: str) -> None:
    picture = f'{{"picture": "{image}"}}'
    for body in (
        f'{{"parts": [{picture}], "\\ud800": 1}}',
        f'{{"parts": [{picture}], "where": "\\ud800"}}',
        '{"parts": [{"picture": "\\udc80"}]}',
        b'{"parts": "\xff"}',
        "[" * 100_000,
    ):
        answer = served.post(f"{G}/search", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), body[:60]
        assert answer.headers["content-type"] == "application/problem+json"


def test_uploads_have_weights_as_parts_have(served: TestClient, pictures: Path) -> None:
    contents = [(pictures / f"{seed:02d}.png").read_bytes() for seed in (2, 4)]
    ids = [digest_of(content) for content in contents]
    files = [("picture", (f"{name}.png", content)) for name, content in zip("ab", contents, strict=True)]
    for weights in ([1.0, 0.2], [0.2], [1.0, -0.5]):
        answer = served.post(f"{G}/search/upload", files=files, data={"weight": [str(each) for each in weights]})
        assert answer.status_code == 200, answer.text
        parts = [{"picture": one, "weight": each} for one, each in zip(ids, [*weights, 1.0][:2], strict=True)]
        wanted = served.post(f"{G}/search", json={"parts": parts}).json()
        assert [hit["score"] for hit in answer.json()["hits"]] == [hit["score"] for hit in wanted["hits"]]
        assert [part["weight"] for part in answer.json()["parts"]] == [*weights, 1.0][:2]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"weight": ["1", "1"]}, "2 weights for 1"),
        ({"weight": "nan"}, "finite"),
        ({"limit": "5"}, "field 'limit': expected box, collapse"),
        ({"minscore": "1", "k": "2"}, "field 'minscore'"),
    ],
)
def test_fields_that_are_not_known_are_refused(served: TestClient, data: dict[str, str], said: str) -> None:
    answer = served.post(f"{G}/search/upload", files={"picture": ("a.png", png(make_picture(1)))}, data=data)
    assert answer.status_code == 422 and said in answer.json()["detail"], answer.text


def test_an_upload_may_have_any_name(served: TestClient) -> None:
    content = png(make_picture(1))
    for name in (b"\xff\xfe.png", b"x" * 3000, b'a\\"b.png', b"../../etc/passwd"):
        body = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="%s"\r\n\r\n%s\r\n--b--\r\n'
        for path in ("search/upload", "pictures"):
            answer = served.post(
                f"{G}/{path}",
                content=body % (name, content),
                headers={"Content-Type": "multipart/form-data; boundary=b"},
            )
            assert answer.status_code in (200, 201), (name[:20], answer.text)


def test_an_upload_without_anything_to_search_for_is_refused(served: TestClient) -> None:
    answer = served.post(f"{G}/search/upload", files={"picture": ("", b"")}, data={"k": "5"})
    assert answer.status_code == 422


def test_every_region_is_explained(served: TestClient, gallery: Gallery, pictures: Path, image: str) -> None:
    other = digest_of((pictures / "01.png").read_bytes())
    parts = [{"picture": image, "box": BOX}, {"picture": other}]
    answer = served.post(f"{G}/explain", json={"parts": parts, "image": other}).json()
    asked = [QueryPart(pictures / "03.png", box=BOX), QueryPart(pictures / "01.png")]
    explained = gallery.explain(asked, pictures / "01.png")
    assert (answer["image"], answer["path"], answer["size"]) == (other, str(pictures / "01.png"), [32, 24])
    assert [region["score"] for region in answer["regions"]] == pytest.approx(
        [region.score for region in explained.regions], abs=1e-5
    )
    assert [len(part) for part in answer["parts"]] == [5, 5]
    for missing in ({"image": "0" * 32}, {"image": other, "path": str(pictures / "02.png")}):
        assert served.post(f"{G}/explain", json={"parts": parts, **missing}).status_code == 404


@pytest.mark.parametrize("fuse", ["max", "mean", "rank"])
def test_the_heat_map_of_parts_asked_for_one_by_one_is_hottest_where_the_hit_is(
    served: TestClient, pictures: Path, image: str, fuse: str
) -> None:
    other = digest_of((pictures / "01.png").read_bytes())
    parts = [{"picture": image, "box": BOX}, {"picture": other, "box": [10, 8, 30, 24]}]
    found = served.post(f"{G}/search", json={"parts": parts, "fuse": fuse}).json()["hits"]
    assert len(found) == 6
    for hit in found:
        asked = {"parts": parts, "image": hit["image"], "fuse": fuse}
        answer = served.post(f"{G}/explain", json=asked).json()
        hottest = max(answer["regions"], key=lambda region: region["score"])
        assert hottest["box"] == hit["box"]
        assert hottest["score"] == pytest.approx(max(hit["part_scores"]), abs=1e-5)
        if fuse == "max":
            assert hottest["score"] == pytest.approx(hit["score"], abs=1e-5)
        assert [len(part) for part in answer["parts"]] == [5, 5]
    wrong = served.post(f"{G}/explain", json={"parts": parts, "image": other, "fuse": "nonsense"})
    assert wrong.status_code == 422 and "expected one of" in wrong.json()["detail"]
    page = served.post(f"{G}/search/export/html", json={"parts": parts, "fuse": fuse})
    assert page.status_code == 200 and page.text.count("data:image/jpeg") == 8


def test_a_query_is_encoded_once_for_all_heat_maps(
    settings: Settings, serving: Callable[..., TestClient], pictures: Path, image: str
) -> None:
    encoder = FakeEncoder()
    client = serving(settings, encoder=encoder)
    others = [digest_of((pictures / f"{seed:02d}.png").read_bytes()) for seed in range(6)]

    def explained(box: list[int]) -> None:
        for other in others:
            answer = client.post(f"{G}/explain", json={"parts": [{"picture": image, "box": box}], "image": other})
            assert answer.status_code == 200

    explained(BOX)
    once = encoder.encoded_regions
    explained(BOX)
    assert encoder.encoded_regions == once
    explained([0, 0, 10, 10])
    assert encoder.encoded_regions == once + 1


def test_what_is_still_in_memory_of_a_forgotten_image_is_not_searched_with(served: TestClient, image: str) -> None:
    wanted = {"parts": [{"picture": image, "box": BOX}]}
    other = served.post(f"{G}/search", json=wanted).json()["hits"][1]["image"]
    assert served.post(f"{G}/explain", json={**wanted, "image": other}).status_code == 200
    assert served.delete(f"{G}/images/{image}").status_code == 204
    assert served.post(f"{G}/search", json=wanted).status_code == 404
    assert served.post(f"{G}/explain", json={**wanted, "image": other}).status_code == 404


def test_answers_are_taken_away_as_files(served: TestClient, pictures: Path, image: str) -> None:
    wanted = {"parts": [{"picture": image, "box": BOX, "name": "<mug>"}], "k": 2}
    searched = served.post(f"{G}/search", json=wanted).json()

    def export(kind: str) -> bytes:
        answer = served.post(f"{G}/search/export/{kind}", json=wanted)
        assert answer.status_code == 200
        assert answer.headers["content-disposition"].startswith('attachment; filename="patchwise-g.')
        return answer.content

    paths = [hit["path"] for hit in searched["hits"]]
    assert export("paths").decode().splitlines() == paths
    rows = list(csv.DictReader(io.StringIO(export("csv").decode())))
    assert [(row["query"], row["path"]) for row in rows] == [("<mug>", path) for path in paths]
    page = export("html").decode()
    assert "&lt;mug&gt;" in page
    assert "<mug>" not in page
    assert page.count("data:image/jpeg") == 3
    assert b'"hits"' in export("json")
    assert served.post(f"{G}/search/export/html", json={**wanted, "k": 500}).status_code == 200  # six are found
    assert served.post(f"{G}/search/export/exe", json=wanted).status_code == 422


def test_a_table_is_text_whatever_names_and_queries_are(served: TestClient, gallery: Gallery, pictures: Path) -> None:
    (pictures / os.fsdecode(b"caf\xe9.png")).write_bytes((pictures / "03.png").read_bytes())
    gallery.add(pictures)
    image = digest_of((pictures / "03.png").read_bytes())
    wanted = {"parts": [{"picture": image, "name": '=cmd|"/C calc"!A0'}], "k": 2}
    rows = list(csv.DictReader(io.StringIO(served.post(f"{G}/search/export/csv", json=wanted).content.decode())))
    assert {row["query"] for row in rows} == {'\'=cmd|"/C calc"!A0'}
    assert {row["path"] for row in rows} == {str(pictures / "03.png"), f"{pictures}/caf\\udce9.png"}


def test_a_page_shows_no_file_that_is_another_by_now(served: TestClient, pictures: Path, image: str) -> None:
    (pictures / "01.png").unlink()
    (pictures / "01.png").symlink_to(pictures / "02.png")
    wanted = {"parts": [{"picture": image}], "under": [str(pictures / "01.png")]}
    page = served.post(f"{G}/search/export/html", json=wanted).text
    assert "changed since it was indexed" in page
    assert page.count("data:image/jpeg") == 1


def test_more_requests_than_the_queue_holds_are_refused_with_when_to_come_back(
    served: TestClient, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = served.app.state.server.pool  # type: ignore[attr-defined]
    monkeypatch.setattr(pool, "waiting", pool.threads + pool.queue)
    answer = served.post(f"{G}/search", json={"parts": [{"picture": image}]})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:patchwise:overloaded")
    assert answer.headers["retry-after"] == "1"


def test_an_error_of_ours_shows_no_trace(
    gallery: Gallery,
    serving: Callable[..., TestClient],
    settings: Settings,
    image: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = serving(settings)
    client._transport.raise_server_exceptions = False  # type: ignore[attr-defined]

    def fails(*_: object, **__: object) -> np.ndarray:
        raise RuntimeError(f"secret {gallery.path}")

    monkeypatch.setattr("patchwise.server.searching.pixels_of", fails)
    answer = client.post(f"{G}/search", json={"parts": [{"picture": image}]})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text
