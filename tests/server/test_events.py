"""Progress as server-sent events."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fastapi import sse
from fastapi.testclient import TestClient
from filelock import FileLock
from PIL import Image

from conftest import FakeEncoder
from patchwise.indexing import run
from patchwise.server import Settings

from .conftest import png
from .test_adding import by_path, ended, found, upload

API = "/api/v1"
Picture = Callable[..., Image.Image]


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(event, data) of a stream, without its comments."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_events_end_with_the_job(served: TestClient, settings: Settings, picture: Picture) -> None:
    roots = settings.roots[0]
    for seed in range(20, 32):
        (roots / f"{seed}.png").write_bytes(png(picture(seed)))
    lock = FileLock(settings.galleries["g"] / "lock", thread_local=False)
    with lock:
        job = by_path(served, roots).json()["job"]
        threading.Timer(0.4, lock.release, [True]).start()  # it can only begin while it is watched
        answer = served.get(f"{API}/jobs/{job}/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    seen = events(answer.text)
    assert [event for event, _ in seen] == ["progress"] * (len(seen) - 1) + ["end"]
    assert len(seen) > 1 and seen[0][1]["state"] in ("queued", "running")
    last = seen[-1][1]
    assert (last["state"], last["done"], last["total"], last["added"]) == ("done", 12, 12, 12)
    assert last == served.get(f"{API}/jobs/{job}").json()
    assert any("another process" in (data["note"] or "") for _, data in seen)
    assert events(served.get(f"{API}/jobs/{job}/events").text) == [("end", last)]  # and once more, when all is over
    assert served.get(f"{API}/jobs/{'0' * 16}/events").status_code == 404


def test_too_many_watchers_are_asked_to_come_again(served: TestClient, picture: Picture) -> None:
    jobs = served.app.state.server.adding.jobs  # type: ignore[attr-defined]
    jobs._watchers = 0
    job = ended(served, upload(served, ("a.png", png(picture(20)))))["job"]
    answer = served.get(f"{API}/jobs/{job}/events")
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_job_that_does_not_move_is_kept_alive_by_comments(
    served: TestClient, settings: Settings, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "_PING_INTERVAL", 0.05)
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.05)
    lock = FileLock(settings.galleries["g"] / "lock", thread_local=False)
    with lock:
        job = upload(served, ("a.png", png(picture(20)))).json()["job"]
        threading.Timer(0.6, lock.release, [True]).start()
        text = served.get(f"{API}/jobs/{job}/events").text
    assert text.count(": ping") >= 3
    assert events(text)[-1][1]["state"] == "done"


def test_additions_are_found_while_the_job_still_runs(
    serving: Callable[..., TestClient], settings: Settings, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(FakeEncoder):
        def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            time.sleep(0.02)
            return super().encode(pixels)

    monkeypatch.setattr(run, "_COMMIT_PICTURES", 1)
    client = serving(settings, encoder=Slow())
    roots = settings.roots[0]
    for seed in range(20, 60):
        (roots / f"{seed}.png").write_bytes(png(picture(seed)))
    answer = by_path(client, roots)
    first = png(picture(20))
    while not found(client, first):
        time.sleep(0.01)
    job = client.get(f"{API}/jobs/{answer.json()['job']}").json()
    assert job["state"] == "running" and job["done"] < 40
    assert ended(client, answer)["added"] == 40
    assert client.get(f"{API}/galleries/g").json()["images"] == 46
