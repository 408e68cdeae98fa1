"""Real servers that are killed, stopped and watched while they add images: nothing that was acknowledged is lost."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from patchwise import Gallery
from patchwise.images import digest_of

from .conftest import png
from .test_running import Serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")]

API = "/api/v1"
PHOTOS = 150
Picture = Callable[..., Image.Image]


@pytest.fixture
def photos(tmp_path: Path, picture: Picture) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(PHOTOS):
        picture(seed, (48, 36)).save(folder / f"{seed:03d}.png")
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Serving]]:
    """Starts a server of the gallery `g`, to which images may be added from `photos`."""
    with Gallery.create(tmp_path / "g", regions="whole"):
        pass
    started: list[Serving] = []

    def begin() -> Serving:
        (tmp_path / "photos").mkdir(exist_ok=True)
        started.append(Serving("--port", 0, "--gallery", "g=g", "--root", "photos", cwd=tmp_path))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


def send(serving: Serving, path: str, content: bytes, kind: str) -> Any:
    url = f"{serving.address}api/v1/{path}"
    with urllib.request.urlopen(urllib.request.Request(url, content, {"Content-Type": kind}), timeout=20) as answer:
        assert answer.status == 202
        return json.loads(answer.read())


def send_pictures(serving: Serving, *contents: bytes) -> Any:
    form = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="pictures"; filename="a.png"\r\n\r\n' + content + b"\r\n"
        for content in contents
    )
    return send(serving, "galleries/g/images", form + b"--x--\r\n", "multipart/form-data; boundary=x")


def send_folder(serving: Serving, folder: Path) -> Any:
    body = json.dumps({"paths": [str(folder)]}).encode()
    return send(serving, "galleries/g/images/paths", body, "application/json")


def job_of(serving: Serving, job: str) -> Any:
    status, content = serving.get(f"jobs/{job}")
    assert status == 200
    return json.loads(content)


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def images(serving: Serving) -> int:
    total: int = json.loads(serving.get("galleries/g/images?limit=1")[1])["total"]
    return total


def test_a_server_killed_under_load_loses_nothing_that_it_has_acknowledged(
    start: Callable[[], Serving], picture: Picture, tmp_path: Path
) -> None:
    acknowledged: list[bytes] = []

    def keep_sending(serving: Serving, first: int) -> None:
        for seed in range(first, first + 1000):
            content = png(picture(seed, (48, 36)))
            try:
                send_pictures(serving, content)
            except urllib.error.HTTPError as error:
                with error:
                    assert error.code == 503  # too many jobs wait
                time.sleep(0.02)
            except (OSError, http.client.HTTPException):  # killed
                return
            else:
                acknowledged.append(content)

    for round_ in range(2):
        serving, before = start(), len(acknowledged)
        senders = [
            threading.Thread(target=keep_sending, args=(serving, 10_000 * (4 * round_ + number))) for number in range(4)
        ]
        for sender in senders:
            sender.start()
        wait_until(lambda before=before: len(acknowledged) >= before + 10)  # type: ignore[misc]
        serving.process.kill()
        serving.process.wait()
        for sender in senders:
            sender.join()
    serving = start()
    wait_until(lambda: json.loads(serving.get("galleries/g/images?limit=1")[1])["total"] >= len(acknowledged))
    wait_until(lambda: not os.listdir(tmp_path / "g-uploads" / ".jobs"))
    for content in acknowledged:
        assert serving.get(f"galleries/g/images/{digest_of(content)}")[0] == 200
    assert serving.end(signal.SIGTERM) == (0, "")
    with Gallery.open(tmp_path / "g") as opened:
        assert opened.verify().problems == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_during_a_job_goes_on_with_it_at_its_next_start(
    start: Callable[[], Serving], photos: Path, tmp_path: Path, number: int
) -> None:
    serving = start()
    job = send_folder(serving, photos)["job"]
    wait_until(lambda: job_of(serving, job)["done"] >= 20)
    began = time.monotonic()
    code, said = serving.end(number)
    assert time.monotonic() - began < 10
    assert (code, said) == ((0, "") if number == signal.SIGTERM else (-signal.SIGKILL, ""))
    with Gallery.open(tmp_path / "g") as opened:
        kept = len(opened)
        assert kept < PHOTOS, "the job was over before the signal came"
        if number == signal.SIGTERM:
            assert kept >= 20  # what was done is committed
        assert opened.verify().problems == []
    serving = start()
    wait_until(lambda: job_of(serving, job)["state"] == "done")
    assert images(serving) == PHOTOS
    again = job_of(serving, job)
    assert again["added"] == again["total"] == PHOTOS - kept
    assert serving.end(signal.SIGTERM) == (0, "")


def test_many_watch_some_leave_and_a_cancelled_job_keeps_what_is_committed(
    start: Callable[[], Serving], photos: Path
) -> None:
    serving = start()
    job = send_folder(serving, photos)["job"]
    place = urlsplit(serving.address)
    assert place.hostname is not None

    def watch() -> socket.socket:
        connection = socket.create_connection((place.hostname, place.port), timeout=20)
        request = f"GET {API}/jobs/{job}/events HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        return connection

    watching = [watch() for _ in range(20)]
    leaving = watching[::2]
    for connection in leaving:
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")
        connection.close()
    wait_until(lambda: job_of(serving, job)["done"] >= 20)
    request = urllib.request.Request(f"{serving.address}api/v1/jobs/{job}", method="DELETE")
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 202
    for connection in watching[1::2]:
        received = b""
        while block := connection.recv(65536):
            received += block
        connection.close()
        assert received.count(b"event: end") == 1 and b'"state":"cancelled"' in received
    cancelled = job_of(serving, job)
    assert cancelled["state"] == "cancelled"
    assert 20 <= images(serving) < PHOTOS
    assert serving.end(signal.SIGTERM) == (0, "")
    serving = start()
    time.sleep(0.3)
    assert images(serving) == cancelled["done"]  # it stays cancelled
    assert serving.get(f"jobs/{job}")[0] == 404


def test_whoever_watches_does_not_keep_a_server_from_ending(start: Callable[[], Serving], photos: Path) -> None:
    serving = start()
    job = send_folder(serving, photos)["job"]
    wait_until(lambda: job_of(serving, job)["done"] >= 5)
    with urllib.request.urlopen(f"{serving.address}api/v1/jobs/{job}/events", timeout=20) as stream:
        assert stream.readline().startswith(b"event: progress")
        began = time.monotonic()
        assert serving.end(signal.SIGTERM) == (0, "")
        assert time.monotonic() - began < 8
        rest = stream.read()
    assert b"event: end" not in rest  # the job has not ended: it goes on
