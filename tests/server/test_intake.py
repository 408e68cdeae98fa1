"""How much may come in at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from patchwise.server.intake import INTAKE_THREADS, Intake
from patchwise.server.limits import Overloaded

from .conftest import png

G = "/api/v1/galleries/g"


def test_bodies_wait_until_there_is_room() -> None:
    async def main() -> list[str]:
        intake, said = Intake(100), []

        async def body(name: str, size: int, seconds: float) -> None:
            async with intake.taking(size):
                said.append(f"{name} begins")
                await asyncio.sleep(seconds)
                said.append(f"{name} ends")

        await asyncio.gather(body("a", 60, 0.05), body("b", 60, 0.05), body("none", 0, 0), body("huge", 1000, 0))
        async with intake.taking(100):  # all that was taken was given back
            return said

    assert asyncio.run(main()) == [
        "a begins",
        "none begins",
        "none ends",
        "a ends",
        "b begins",
        "b ends",
        "huge begins",
        "huge ends",
    ]


def test_those_that_wait_too_long_are_asked_to_come_again() -> None:
    async def main() -> None:
        intake = Intake(100, patience=0.05)
        async with intake.taking(60):
            with pytest.raises(Overloaded) as full:
                async with intake.taking(60):
                    pass
            assert full.value.retry_after > 0
            async with intake.taking(40):
                pass
        with pytest.raises(ZeroDivisionError):
            async with intake.taking(100):
                raise ZeroDivisionError
        async with intake.taking(100):
            pass

    asyncio.run(main())


def test_a_server_that_has_no_room_says_when_to_come_again(
    served: TestClient, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., Image.Image]
) -> None:
    form = {"picture": ("a.png", png(picture(20)))}
    assert served.post(f"{G}/pictures", files=form).status_code == 201

    async def full(waiting: object, _: float) -> None:
        waiting.close()  # type: ignore[attr-defined]
        raise asyncio.TimeoutError

    monkeypatch.setattr(Intake, "_take", lambda self, size: False)
    monkeypatch.setattr("patchwise.server.intake.asyncio.wait_for", full)
    answer = served.post(f"{G}/pictures", files=form)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:patchwise:overloaded")
    assert int(answer.headers["retry-after"]) > 0 and answer.headers["x-content-type-options"] == "nosniff"
    assert served.get(G).status_code == 200  # without a body


def test_few_uploads_are_decoded_at_a_time_and_searches_do_not_wait_for_them(
    served: TestClient, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., Image.Image]
) -> None:
    from patchwise.server.routes import pictures

    gate, lock, inside, most = threading.Event(), threading.Lock(), 0, 0
    really = pictures.read_picture

    def slow(*args: object, **options: object) -> object:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        assert gate.wait(20)
        with lock:
            inside -= 1
        return really(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures, "read_picture", slow)
    contents = [png(picture(seed)) for seed in range(30, 40)]
    statuses: list[int] = []

    def send(content: bytes) -> None:
        statuses.append(served.post(f"{G}/pictures", files={"picture": ("a.png", content)}).status_code)

    threads = [threading.Thread(target=send, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    assert served.get(f"{G}/images").json()["total"] == 6  # while they are at it
    gate.set()
    for thread in threads:
        thread.join()
    assert statuses == [201] * len(contents) and 1 <= most <= INTAKE_THREADS
