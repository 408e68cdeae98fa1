"""Uploading: each picture once, failures by their names here, and found when the call returns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from client.conftest import Requests
from conftest import make_picture
from patchwise import Client, Gallery
from patchwise.client import AddingFailed
from patchwise.errors import ServerError, UsageError
from patchwise.images import digest_of
from patchwise.indexing import IndexProgress


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Four new pictures, one of them in a folder below, one that is no picture, and one that the gallery has."""
    folder = tmp_path / "new"
    (folder / "below").mkdir(parents=True)
    for seed in (20, 21, 22):
        make_picture(seed, (40, 30)).save(folder / f"{seed}.png")
    make_picture(23, (40, 30)).save(folder / "below" / "20.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    make_picture(3, (32, 24)).save(folder / "known.png")
    (folder / "notes.txt").write_text("no picture, and not named like one")
    return folder


def test_a_folder_is_uploaded_and_found(client: Client, gallery: Gallery, new: Path) -> None:
    told: list[IndexProgress] = []
    report = client.add(new, progress=told.append)
    assert (report.added, report.unchanged) == (4, 1)
    assert [path for path, _ in report.failed] == [str(new / "broken.jpg")]
    assert report.failed[0][1].startswith("not an image")
    assert len(report.jobs) == 2, "files of one name are not sent together"
    assert {client.job(job).state for job in report.jobs} == {"done"}
    assert (told[-1].done, told[-1].total) == (6, 6)
    assert [one.failed for one in told if one.failed] == report.failed
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert client.info().images == 10
    hit = client.search(new / "below" / "20.png", k=1)[0]
    assert hit.score > 0.99 and np.array_equal(
        np.asarray(client.thumbnail(hit)).shape[:2], np.asarray(Image.open(new / "below" / "20.png")).shape[:2]
    )


def test_what_is_there_is_not_sent_again(client: Client, requests: Requests, new: Path) -> None:
    client.add(new / "20.png", new / "21.png")
    assert requests.uploads() == 1
    again = client.add(new / "20.png", new / "21.png")
    assert (again.added, again.unchanged, again.jobs) == (0, 2, []) and requests.uploads() == 1
    (new / "copy.png").write_bytes((new / "22.png").read_bytes())
    report = client.add(new / "22.png", new / "copy.png")
    assert (report.added, report.unchanged) == (1, 1)


def test_batches_are_small(client: Client, requests: Requests, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patchwise.client.adding._BATCH_FILES", 2)
    report = client.add(new)
    assert report.added == 4 and len(report.failed) == 1 and len(report.jobs) >= 2
    assert client.info().images == 10


def test_files_that_all_fail(client: Client, requests: Requests, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(b"no picture: " + name.encode())
    report = client.add(folder)
    assert requests.uploads() == 1, "the server lists them all"
    assert report.added == 0 and [Path(path).name for path, _ in report.failed] == ["a.jpg", "b.jpg", "c.jpg"]
    assert all(reason.startswith("not an image") for _, reason in report.failed)


def test_a_file_that_is_too_much_for_the_server_leaves_the_others_alone(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "big"
    folder.mkdir()
    make_picture(30, (40, 30)).save(folder / "small.png")
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "large.png")
    for seed in range(4):  # together more than a request may have
        Image.fromarray(noise[:400, : 390 + seed]).save(folder / f"some-{seed}.png")
    report = client.add(folder)
    assert report.added == 5
    assert [path for path, _ in report.failed] == [str(folder / "large.png")]
    assert report.failed[0][1].endswith(": a request like this may have at most 1 MB")


def test_of_files_that_are_called_alike_the_right_one_is_blamed(client: Client, tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / "new" / folder).mkdir(parents=True)
    make_picture(40, (40, 30)).save(tmp_path / "new" / "a" / "0.png")
    (tmp_path / "new" / "b" / "0.png").write_bytes(b"no picture")
    make_picture(41, (40, 30)).save(tmp_path / "new" / "c" / "0.png")
    report = client.add(tmp_path / "new")
    assert report.added == 2
    assert [path for path, _ in report.failed] == [str(tmp_path / "new" / "b" / "0.png")]


def test_names_that_forms_write_in_another_way_are_told_as_they_are(client: Client, tmp_path: Path) -> None:
    names = ['a"b.png', "a\\b.png", "tab\tbed.png", "line\nbreak.png", "100%25.png", "ä%22.png"]
    (tmp_path / "new").mkdir()
    for name in names:
        (tmp_path / "new" / name).write_bytes(b"no picture: " + name.encode())
    make_picture(42, (40, 30)).save(tmp_path / "new" / "good.png")
    told: list[IndexProgress] = []
    report = client.add(tmp_path / "new", progress=told.append)
    assert report.added == 1
    assert sorted(path for path, _ in report.failed) == sorted(str(tmp_path / "new" / name) for name in names)
    assert (told[-1].done, told[-1].total) == (7, 7)


def test_not_waiting(client: Client, new: Path) -> None:
    report = client.add(new / "20.png", wait=False)
    assert len(report.jobs) == 1 and report.failed == []
    assert client.jobs()[0].job == report.jobs[0]
    assert client.cancel(report.jobs[0]).job == report.jobs[0]
    with pytest.raises(UsageError, match="no job"):
        client.job("0" * 16)


def test_a_report_says_which_folder_cannot_be_read(client: Client, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from patchwise.indexing import Walk, walk

    def half(paths: tuple[Path, ...]) -> Walk:
        found = walk(paths)
        found.unreadable.append((str(new / "secret"), "permission denied"))
        return found

    monkeypatch.setattr("patchwise.client.adding.walk", half)
    assert client.add(new / "20.png").unreadable_folders == [(str(new / "secret"), "permission denied")]


def test_a_file_that_vanishes(client: Client, new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from patchwise.images import read_bytes

    def gone(path: str) -> bytes:
        if path.endswith("21.png"):
            Path(path).unlink()
        return read_bytes(path)

    monkeypatch.setattr("patchwise.client.adding.read_bytes", gone)
    report = client.add(new / "20.png", new / "21.png")
    assert report.added == 1 and report.failed == [(str(new / "21.png"), "no such file")]


def test_nothing_or_nowhere(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to add"):
        client.add()
    with pytest.raises(UsageError, match="nothing to add"):
        client.add_server_paths()
    with pytest.raises(UsageError, match="no such file or folder"):
        client.add(tmp_path / "none")


def test_paths_of_the_server(client: Client, tmp_path: Path) -> None:
    told: list[IndexProgress] = []
    report = client.add_server_paths(tmp_path / "roots", progress=told.append)
    assert report.added == 1 and report.failed == []
    assert client.images([tmp_path / "roots"]).total == 1
    assert client.add_server_paths(str(tmp_path / "roots"), wait=False).jobs
    with pytest.raises(UsageError, match="--root"):
        client.add_server_paths("/etc")
    with pytest.raises(UsageError, match="whole path"):
        client.add_server_paths("roots")


def test_removing(client: Client, gallery: Gallery, pictures: Path, new: Path, tmp_path: Path) -> None:
    hits = client.search(pictures / "02.png")
    assert client.remove(hits[0]) == 1
    assert client.search(pictures / "02.png")[0].path != hits[0].path
    assert (pictures / "02.png").exists()
    client.add(new / "20.png")
    (kept,) = [one for one in client.images().images if one.size == (40, 30)]
    assert Path(kept.path).exists() and client.remove(kept) == 1 and not Path(kept.path).exists()
    assert client.remove(kept) == 0, "it is gone already"
    assert client.remove("/no/such/folder") == 0
    assert client.remove(pictures) == 5 and client.info().images == 0
    with pytest.raises(UsageError, match="whole path"):
        client.remove("pictures")


def made_up_job(state: str, **more: object) -> dict[str, object]:
    return {
        "job": "0" * 16,
        "gallery": "g",
        "kind": "add",
        "state": state,
        "done": 0,
        "total": 1,
        "added": 0,
        "failed": [],
        "refused": [],
        "created": "2026-01-31T12:00:00+00:00",
        **more,
    }


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (made_up_job("failed", error="the server's disk refused a write"), "disk refused a write"),
        (made_up_job("cancelled"), "cancelled"),
    ],
)
def test_a_job_that_does_not_come_to_its_end(
    made_up: Callable[..., Client], new: Path, job: dict[str, object], said: str
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET" and "/images/" in request.url.path:
            content = {"type": "urn:patchwise:image-not-found", "detail": "no image"}
            return httpx2.Response(404, json=content, headers={"content-type": "application/problem+json"})
        return httpx2.Response(202, json=made_up_job("queued") if request.method == "POST" else job)

    with pytest.raises(ServerError, match=said) as ended:
        made_up(answer).add(new / "20.png", new / "broken.jpg")
    assert isinstance(ended.value, AddingFailed) and ended.value.report.jobs == ["0" * 16]
    assert ended.value.__cause__ is not None


def test_what_came_of_a_folder_by_then_is_told_when_adding_fails(made_up: Callable[..., Client], new: Path) -> None:
    answers = [httpx2.Response(202, json=made_up_job("done", done=1, added=1)), httpx2.ConnectError("gone")]

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET" and "/images/" in request.url.path:
            content = {"type": "urn:patchwise:image-not-found", "detail": "no image"}
            return httpx2.Response(404, json=content, headers={"content-type": "application/problem+json"})
        if request.method == "GET":
            return httpx2.Response(200, json=made_up_job("done", done=1, added=1))
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    with pytest.MonkeyPatch.context() as patched, pytest.raises(AddingFailed, match="cannot be reached") as ended:
        patched.setattr("patchwise.client.adding._BATCH_FILES", 1)
        made_up(answer).add(new / "20.png", new / "21.png")
    assert (ended.value.report.added, ended.value.report.jobs) == (1, ["0" * 16])


def test_only_few_jobs_are_under_way_at_a_time(
    made_up: Callable[..., Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patchwise.client.adding._BATCH_FILES", 1)
    monkeypatch.setattr("patchwise.client.adding.time.sleep", lambda _: None)
    for seed in range(12):
        make_picture(seed + 30, (20, 15)).save(tmp_path / f"{seed}.png")
    looked: dict[str, int] = {}  # at each job, since it was sent
    most = 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal most
        job = request.url.path.rpartition("/")[2]
        if request.method == "POST":
            job = f"{len(looked):016x}"
            looked[job] = 0
            most = max(most, sum(count < 5 for count in looked.values()))
            return httpx2.Response(202, json=made_up_job("queued", job=job))
        if job in looked:
            looked[job] += 1
            state = "done" if looked[job] >= 5 else "running"
            return httpx2.Response(200, json=made_up_job(state, job=job, added=1))
        content = {"type": "urn:patchwise:image-not-found", "detail": "no image"}
        return httpx2.Response(404, json=content, headers={"content-type": "application/problem+json"})

    assert made_up(answer).add(tmp_path).added == 12
    assert most == 4


def test_failures_while_indexing_are_named_as_they_are_here(made_up: Callable[..., Client], new: Path) -> None:
    digest = digest_of((new / "20.png").read_bytes())
    failed = [{"path": f"/data/uploads/g/20-{digest[:12]}.png", "reason": "no such file"}]
    told: list[IndexProgress] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if "/images/" in request.url.path:
            content = {"type": "urn:patchwise:image-not-found", "detail": "no image"}
            return httpx2.Response(404, json=content, headers={"content-type": "application/problem+json"})
        return httpx2.Response(202, json=made_up_job("done", done=1, failed=failed, failures=1, unheard_of=True))

    report = made_up(answer).add(new / "20.png", progress=told.append)
    assert report.added == 0 and report.failed == [(str(new / "20.png"), "no such file")]
    assert told[-1].done == 1 and any(one.failed for one in told)


def test_an_upload_that_is_cut_off(made_up: Callable[..., Client], new: Path) -> None:
    """A server that refuses what is too long may hang up before it has said so."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            content = {"type": "urn:patchwise:image-not-found", "detail": "no image"}
            return httpx2.Response(404, json=content, headers={"content-type": "application/problem+json"})
        raise httpx2.WriteError("connection reset by peer")

    report = made_up(answer).add(new / "20.png", new / "21.png")
    assert [path for path, _ in report.failed] == [str(new / "20.png"), str(new / "21.png")]
    assert "may not take so many" in report.failed[0][1]


def test_several_add_at_once(client: Client, new: Path) -> None:
    names = ["20.png", "21.png", "22.png", "below/20.png"]
    threads = [threading.Thread(target=client.add, args=(new / name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.info().images == 10
