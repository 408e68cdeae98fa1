"""Adding images over HTTP: kept safely, found without a restart, and nothing from outside the allowed folders."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fastapi.testclient import TestClient
from filelock import FileLock
from PIL import Image

from conftest import FakeEncoder
from patchwise import Gallery
from patchwise.errors import EncoderError
from patchwise.images import digest_of
from patchwise.server import Settings, create_app

from .conftest import ADDRESS, png

Picture = Callable[..., Image.Image]
API = "/api/v1"


def upload(client: TestClient, *pictures: tuple[str, bytes], gallery: str = "g") -> Any:
    files = [("pictures", (name, content, "image/png")) for name, content in pictures]
    return client.post(f"{API}/galleries/{gallery}/images", files=files)


def by_path(client: TestClient, *paths: object) -> Any:
    return client.post(f"{API}/galleries/g/images/paths", json={"paths": [str(path) for path in paths]})


def ended(client: TestClient, answer: Any) -> dict[str, Any]:
    """The job once it has ended."""
    assert answer.status_code == 202, answer.text
    until = time.monotonic() + 20
    while time.monotonic() < until:
        job: dict[str, Any] = client.get(f"{API}/jobs/{answer.json()['job']}").json()
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.01)
    raise AssertionError(f"{job} did not end")


def found(client: TestClient, content: bytes) -> list[str]:
    """Paths of the best hit's image for a query by these bytes."""
    answer = client.post(
        f"{API}/galleries/g/search/upload", files={"picture": ("q.png", content)}, data={"k": 1, "min_score": 0.999}
    )
    assert answer.status_code == 200, answer.text
    return [hit["path"] for hit in answer.json()["hits"]]


def once(settings: Settings) -> TestClient:
    """A client whose server runs within a `with` block."""
    app = create_app(settings, lambda folder: Gallery.open(folder, encoder=FakeEncoder()))
    return TestClient(app, base_url=ADDRESS)


@pytest.fixture
def uploads(settings: Settings) -> Path:
    return settings.uploads_folder("g")


def test_uploads_are_found_without_a_restart(served: TestClient, uploads: Path, picture: Picture) -> None:
    contents = [png(picture(seed)) for seed in (20, 21)]
    version = served.get(f"{API}/galleries/g").json()["version"]
    assert found(served, contents[0]) == []
    job = ended(served, upload(served, ("one.png", contents[0]), ("../../two.png", contents[1])))
    assert (job["state"], job["done"], job["total"], job["added"], job["failures"]) == ("done", 2, 2, 2, 0)
    assert (job["kind"], job["gallery"], job["refused"], job["failed"]) == ("add", "g", [], [])
    for name, content in zip(("one", "two"), contents, strict=True):
        kept = uploads / f"{name}-{digest_of(content)[:12]}.png"
        assert found(served, content) == [str(kept)]
        assert kept.read_bytes() == content
        assert served.get(f"{API}/galleries/g/images/{digest_of(content)}").json()["paths"] == [str(kept)]
    gallery = served.get(f"{API}/galleries/g").json()
    assert gallery["images"] == 8 and gallery["version"] != version
    assert served.get(f"{API}/galleries/g/jobs").json() == {"jobs": [job]}


def test_what_cannot_be_decoded_is_refused_with_its_reason(served: TestClient, uploads: Path, picture: Picture) -> None:
    good = png(picture(20))
    job = ended(served, upload(served, ("cut.png", good[:100]), ("good.png", good), ("text.png", b"hello")))
    assert [refused["name"] for refused in job["refused"]] == ["cut.png", "text.png"]
    assert "corrupt or truncated" in job["refused"][0]["reason"] and "not an image" in job["refused"][1]["reason"]
    assert (job["state"], job["added"], job["total"]) == ("done", 1, 1)
    assert len([name for name in os.listdir(uploads) if not name.startswith(".")]) == 1


def test_if_nothing_can_be_decoded_nothing_is_kept(served: TestClient, uploads: Path, picture: Picture) -> None:
    answer = upload(served, ("a.png", png(picture(20))[:100]), ("b.png", b""))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == "urn:patchwise:image-unreadable"
    assert "a.png: corrupt or truncated" in problem["detail"] and "b.png: the file is empty" in problem["detail"]
    assert problem["refused"] == [
        {"name": "a.png", "reason": problem["refused"][0]["reason"]},
        {"name": "b.png", "reason": "the file is empty"},
    ]
    assert problem["refused"][0]["reason"].startswith("corrupt or truncated")
    assert not uploads.exists() and served.get(f"{API}/galleries/g/jobs").json() == {"jobs": []}


def test_pictures_of_too_many_pixels_are_refused(
    serving: Callable[..., TestClient], settings: Settings, picture: Picture
) -> None:
    client = serving(replace(settings, max_pixels=2000))
    answer = upload(client, ("large.png", png(picture(20, (50, 41)))))
    assert answer.status_code == 422 and "50 x 41 pixels exceed the limit of 2,000" in answer.json()["detail"]
    assert ended(client, upload(client, ("small.png", png(picture(20, (50, 40))))))["added"] == 1


def test_the_same_picture_twice_is_one_file(served: TestClient, uploads: Path, picture: Picture) -> None:
    content = png(picture(20))
    assert ended(served, upload(served, ("a.png", content), ("b.png", content)))["added"] == 1
    again = ended(served, upload(served, ("c.png", content)))
    assert (again["state"], again["added"], again["done"], again["total"]) == ("done", 0, 1, 1)
    assert [name for name in os.listdir(uploads) if not name.startswith(".")] == [f"a-{digest_of(content)[:12]}.png"]
    assert served.get(f"{API}/galleries/g").json()["images"] == 7


def test_a_deleted_upload_is_gone_from_disk_and_can_come_again(
    served: TestClient, uploads: Path, picture: Picture
) -> None:
    content = png(picture(20))
    image = digest_of(content)
    for _ in range(2):
        ended(served, upload(served, ("a.png", content)))
        (path,) = found(served, content)
        assert served.delete(f"{API}/galleries/g/images/{image}").status_code == 204
        assert not os.path.exists(path) and found(served, content) == []
        assert [name for name in os.listdir(uploads) if not name.startswith(".")] == []
    assert os.listdir(uploads / ".jobs") == []


def test_a_deletion_that_fails_leaves_the_upload(
    served: TestClient, settings: Settings, picture: Picture, tmp_path: Path
) -> None:
    content = png(picture(20))
    ended(served, upload(served, ("a.png", content)))
    (path,) = found(served, content)
    with FileLock(settings.galleries["g"] / "lock"):
        answer = served.delete(f"{API}/galleries/g/images/{digest_of(content)}")
    assert answer.status_code == 409 and "retry-after" in answer.headers
    assert os.path.exists(path) and found(served, content) == [path]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_only_forms_with_files_are_taken(served: TestClient, kind: str) -> None:
    answer = served.post(f"{API}/galleries/g/images", content=b"{}", headers={"content-type": kind})
    assert answer.status_code == 415


def test_a_form_without_pictures_and_a_gallery_that_is_not_there(served: TestClient, picture: Picture) -> None:
    assert served.post(f"{API}/galleries/g/images", files={"other": ("a.png", b"")}).status_code == 422
    assert upload(served, ("a.png", png(picture(1))), gallery="h").status_code == 404
    assert served.post(f"{API}/galleries/h/images/paths", json={"paths": ["/"]}).status_code == 404


# By path


@pytest.fixture
def roots(settings: Settings) -> Path:
    return settings.roots[0]


def test_folders_below_a_root_are_indexed_where_they_are(served: TestClient, roots: Path, picture: Picture) -> None:
    (roots / "in").mkdir()
    content = png(picture(20))
    (roots / "in" / "a.png").write_bytes(content)
    (roots / "in" / "b.png").write_bytes(png(picture(21))[:90])
    (roots / "in" / ".hidden.png").write_bytes(png(picture(22)))
    job = ended(served, by_path(served, roots / "in"))
    assert (job["state"], job["added"], job["total"], job["failures"]) == ("done", 1, 2, 1)
    assert [failed["path"] for failed in job["failed"]] == [str(roots / "in" / "b.png")]
    assert found(served, content) == [str(roots / "in" / "a.png")]
    assert found(served, png(picture(22))) == []
    assert ended(served, by_path(served, roots / "in" / "a.png", roots))["added"] == 0


def test_nothing_outside_the_roots_can_be_told_from_nothing_at_all(
    served: TestClient, roots: Path, tmp_path: Path, picture: Picture
) -> None:
    outside = tmp_path / "roots-outside"  # begins as the root does
    outside.mkdir()
    (outside / "secret.png").write_bytes(png(picture(20)))
    (roots / "out").symlink_to(outside)
    (roots / "inner").mkdir()
    answers = [
        by_path(served, path)
        for path in (
            outside / "secret.png",
            outside / "nothing.png",
            outside,
            "/",
            tmp_path,
            f"{roots}/../roots-outside/secret.png",
            f"{roots}/inner/../../roots-outside/nothing.png",
            roots / "out",
            roots / "out" / "secret.png",
            roots / "out" / "nothing.png",
            f"{roots}//../../../../etc/passwd",
        )
    ]
    for answer in answers:
        assert answer.status_code == 403, answer.text
        problem = answer.json()
        assert problem["type"] == "urn:patchwise:path"
        assert problem["detail"].endswith(": below none of the folders that images may be added from (--root)")
    mixed = by_path(served, roots / "inner", outside)
    assert mixed.status_code == 403
    assert served.get(f"{API}/galleries/g/jobs").json() == {"jobs": []}


@pytest.mark.parametrize(
    "path", ["relative.png", "", "~/a.png", "/a\0.png", "file:///etc", "http://127.0.0.1/a.png", "/a\ud800.png"]
)
def test_only_whole_paths_are_taken(served: TestClient, path: str) -> None:
    body = json.dumps({"paths": [path]})  # half a surrogate pair can be sent, though it names no file
    answer = served.post(f"{API}/galleries/g/images/paths", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and answer.json()["type"] == "urn:patchwise:path"


@pytest.mark.parametrize("name", ["nothing.png", "x" * 300, "x/" * 10_000, "file.tar/a.png", "a\nb"])
def test_a_path_below_a_root_that_is_not_there_is_said(served: TestClient, roots: Path, name: str) -> None:
    answer = by_path(served, roots / name)
    assert answer.status_code == 422 and "no such file or folder" in answer.json()["detail"]


def test_what_is_neither_a_file_nor_a_folder_fails_its_job(served: TestClient, roots: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no such files here")
    os.mkfifo(roots / "pipe.png")
    job = ended(served, by_path(served, roots / "pipe.png"))
    assert job["state"] == "failed" and "neither a file nor a folder" in job["error"]


@pytest.mark.parametrize("name", ["a\nb.png", "\u202e.png", "x" * 2000, "é.png", "a;b=c.png", ".png"])
def test_pictures_may_be_called_anything(served: TestClient, uploads: Path, picture: Picture, name: str) -> None:
    content = png(picture(20))
    assert ended(served, upload(served, (name, content), ("broken", b"")))["added"] == 1
    (kept,) = [entry for entry in os.listdir(uploads) if not entry.startswith(".")]
    assert kept.endswith(f"-{digest_of(content)[:12]}.png")


def test_without_roots_nothing_is_added_by_path(
    serving: Callable[..., TestClient], settings: Settings, pictures: Path
) -> None:
    assert by_path(serving(replace(settings, roots=())), pictures).status_code == 403


def test_links_that_lead_out_are_left_out_and_said(
    served: TestClient, roots: Path, tmp_path: Path, picture: Picture
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(picture(20)))
    (roots / "link.png").symlink_to(secret)
    (roots / "a.png").write_bytes(png(picture(21)))
    (roots / "inside.png").symlink_to(roots / "a.png")
    job = ended(served, by_path(served, roots))
    assert job["state"] == "done" and job["added"] == 2
    assert job["failed"] == [
        {"path": str(roots / "link.png"), "reason": "leads out of the folders that may be indexed"}
    ]
    assert found(served, png(picture(20))) == []


def test_links_among_the_uploads_are_left_out(
    serving: Callable[..., TestClient], settings: Settings, uploads: Path, tmp_path: Path, picture: Picture
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(picture(20)))
    uploads.mkdir()
    (uploads / "link.png").symlink_to(secret)
    (uploads / "a.png").write_bytes(png(picture(21)))
    client = serving(settings)  # what lies there is brought up to date at the start
    until = time.monotonic() + 20
    while not found(client, png(picture(21))):
        assert time.monotonic() < until
    assert found(client, png(picture(20))) == []


def test_paths_of_bytes_that_are_no_text(served: TestClient, roots: Path, picture: Picture) -> None:
    folder = os.fsencode(roots) + b"/\xff"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes no such names")
    content = png(picture(20))
    with open(folder + b"/a.png", "wb") as file:
        file.write(content)
    assert ended(served, by_path(served, f"{roots}/\\udcff"))["added"] == 1
    assert found(served, content) == [f"{roots}/\\udcff/a.png"]


# Limits, and what goes wrong


def test_a_full_queue_is_answered_by_when_to_come_again(
    served: TestClient, settings: Settings, uploads: Path, picture: Picture
) -> None:
    jobs = served.app.state.server.adding.jobs  # type: ignore[attr-defined]
    jobs._waiting = 2
    with FileLock(settings.galleries["g"] / "lock"):  # another process is writing
        first = upload(served, ("0.png", png(picture(20))))
        until = time.monotonic() + 10
        while not served.get(f"{API}/jobs/{first.json()['job']}").json()["note"]:
            assert time.monotonic() < until
        rest = [upload(served, (f"{seed}.png", png(picture(seed)))) for seed in (21, 22, 23)]
        assert [answer.status_code for answer in rest] == [202, 202, 503]
        assert int(rest[-1].headers["retry-after"]) > 0
        assert rest[-1].headers["content-type"] == "application/problem+json"
        assert len([name for name in os.listdir(uploads) if not name.startswith(".")]) == 3
    for seed, answer in zip((20, 21, 22), [first, *rest[:2]], strict=True):
        assert ended(served, answer)["state"] == "done"
        assert len(found(served, png(picture(seed)))) == 1


def test_a_cancelled_upload_is_not_kept_unless_another_job_needs_it(
    served: TestClient, settings: Settings, uploads: Path, picture: Picture
) -> None:
    contents = [png(picture(seed)) for seed in (20, 21, 22)]
    with FileLock(settings.galleries["g"] / "lock"):
        jobs = [
            upload(served, ("a.png", contents[0])),
            upload(served, ("b.png", contents[1]), ("c.png", contents[2])),
            upload(served, ("c.png", contents[2])),
        ]
        answer = served.delete(f"{API}/jobs/{jobs[1].json()['job']}")
        assert answer.status_code == 202 and answer.json()["state"] == "cancelled"
        kept = {name.partition("-")[0] for name in os.listdir(uploads) if not name.startswith(".")}
        assert kept == {"a", "c"}
    assert [ended(served, job)["state"] for job in jobs] == ["done", "cancelled", "done"]
    assert [len(found(served, content)) for content in contents] == [1, 0, 1]
    assert os.listdir(uploads / ".jobs") == []
    assert served.get(f"{API}/jobs/{'0' * 16}").status_code == 404
    assert served.delete(f"{API}/jobs/{'0' * 16}").status_code == 404
    assert served.get(f"{API}/jobs/nothing").status_code == 422


def test_what_was_left_undone_goes_on_at_the_next_start(
    serving: Callable[..., TestClient], settings: Settings, roots: Path, uploads: Path, picture: Picture
) -> None:
    (roots / "r.png").write_bytes(png(picture(21)))
    with FileLock(settings.galleries["g"] / "lock"):
        with once(settings) as first:  # it ends while somebody else writes
            jobs = [upload(first, ("u.png", png(picture(20)))), by_path(first, roots)]
            assert [job.status_code for job in jobs] == [202, 202]
        assert len(os.listdir(uploads / ".jobs")) == 2
    client = serving(settings)
    for job, seed in zip(jobs, (20, 21), strict=True):
        again = ended(client, job)
        assert (again["state"], again["added"]) == ("done", 1)
        assert again["created"] == job.json()["created"]
        assert len(found(client, png(picture(seed)))) == 1
    assert os.listdir(uploads / ".jobs") == []


def test_a_root_that_is_allowed_no_more_is_not_indexed_by_what_was_left_undone(
    serving: Callable[..., TestClient], settings: Settings, roots: Path, uploads: Path, picture: Picture
) -> None:
    (roots / "r.png").write_bytes(png(picture(21)))
    with FileLock(settings.galleries["g"] / "lock"), once(settings) as first:
        job = by_path(first, roots)
    client = serving(replace(settings, roots=()))
    again = ended(client, job)
    assert again["added"] == 0 and again["failed"][0]["reason"] == "leads out of the folders that may be indexed"
    assert found(client, png(picture(21))) == []


def test_a_disk_that_refuses_is_said_without_saying_where(
    served: TestClient, uploads: Path, picture: Picture, tmp_path: Path
) -> None:
    uploads.write_bytes(b"a file where the folder should be")
    answer = upload(served, ("a.png", png(picture(20))))
    assert answer.status_code == 507 and answer.json()["type"] == "urn:patchwise:storage-full"
    assert str(tmp_path) not in answer.text
    assert served.get(f"{API}/galleries/g/jobs").json() == {"jobs": []}


def test_a_disk_without_room_for_what_comes_in_is_said(
    served: TestClient, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("starlette.datastructures.UploadFile.write", full)
        for path in ("images", "pictures", "search/upload"):
            answer = served.post(
                f"{API}/galleries/g/{path}", files={"pictures": ("a.png", b"x"), "picture": ("a.png", b"x")}
            )
            assert (answer.status_code, answer.json()["type"]) == (507, "urn:patchwise:storage-full")
    assert ended(served, upload(served, ("a.png", png(picture(20)))))["added"] == 1


class Failing(FakeEncoder):
    """Cannot be loaded until it is mended."""

    mended = False

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if not self.mended:
            raise EncoderError("its weights are not there")
        return super().encode(pixels)


def test_uploads_whose_job_failed_are_indexed_with_the_next_ones(
    serving: Callable[..., TestClient], settings: Settings, uploads: Path, picture: Picture
) -> None:
    encoder = Failing()
    client = serving(settings, encoder=encoder)
    contents = [png(picture(seed)) for seed in (20, 21, 22)]
    failed = [upload(client, (f"{number}.png", content)) for number, content in enumerate(contents[:2])]
    assert [ended(client, job)["state"] for job in failed] == ["failed", "failed"]
    assert len(os.listdir(uploads / ".jobs")) == 2
    encoder.mended = True
    assert ended(client, upload(client, ("2.png", contents[2])))["state"] == "done"
    until = time.monotonic() + 20
    while os.listdir(uploads / ".jobs"):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert [len(found(client, content)) for content in contents] == [1, 1, 1]


def test_uploads_whose_job_failed_are_indexed_at_the_next_start(
    serving: Callable[..., TestClient], settings: Settings, uploads: Path, picture: Picture
) -> None:
    content = png(picture(20))
    app = create_app(settings, lambda folder: Gallery.open(folder, encoder=Failing()))
    with TestClient(app, base_url=ADDRESS) as first:
        job = upload(first, ("a.png", content))
        assert ended(first, job)["state"] == "failed"
    client = serving(settings)
    assert ended(client, job)["added"] == 1
    assert len(found(client, content)) == 1 and os.listdir(uploads / ".jobs") == []


def test_two_servers_over_one_gallery_leave_each_other_alone(
    served: TestClient, settings: Settings, uploads: Path, picture: Picture
) -> None:
    content = png(picture(20))
    ended(served, upload(served, ("before.png", png(picture(21)))))
    with FileLock(settings.galleries["g"] / "lock"):  # neither gets anything done
        job = upload(served, ("a.png", content))
        presence = served.app.state.server.adding.uploads_of(  # type: ignore[attr-defined]
            served.app.state.server.galleries.get("g")  # type: ignore[attr-defined]
        ).presence
        (uploads / f".{presence.name}-0123.new").write_bytes(b"being written")
        with once(settings) as second:
            assert second.get(f"{API}/galleries/g/jobs").json() == {"jobs": []}
            also = upload(second, ("a.png", content))
            assert also.status_code == 202
            assert second.delete(f"{API}/jobs/{also.json()['job']}").status_code == 202
            assert (uploads / f".{presence.name}-0123.new").exists()
            kept = sorted(name for name in os.listdir(uploads) if name.endswith(f"-{digest_of(content)[:12]}.png"))
            assert f"a-{digest_of(content)[:12]}.png" in kept
            until = time.monotonic() + 10
            while len(kept) > 1:  # only what the second server kept itself is dropped with its job
                assert time.monotonic() < until
                kept = [name for name in os.listdir(uploads) if name.endswith(f"-{digest_of(content)[:12]}.png")]
    assert ended(served, job)["added"] == 1
    assert found(served, content) == [str(uploads / f"a-{digest_of(content)[:12]}.png")]
    assert os.listdir(uploads / ".jobs") == []
