"""Connections over which nothing is asked do not keep others out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from patchwise.server import impatient
from patchwise.server.impatient import ImpatientProtocol

PATIENCE = 0.2
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers after many times the patience, and again for as long in the middle of its answer."""
    assert scope["type"] == "http"
    await asyncio.sleep(5 * PATIENCE)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await asyncio.sleep(5 * PATIENCE)
    await send({"type": "http.response.body", "body": b"b"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(impatient, "_PATIENCE", PATIENCE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(slow, http=ImpatientProtocol, lifespan="off", log_level="error", timeout_keep_alive=60)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: loc"], ids=["nothing", "half a head"])
def test_a_silent_connection_is_closed(port: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
        silent.sendall(said)
        assert silent.recv(100) == b""


def test_one_that_drips_is_closed_too(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as dripping:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            dripping.sendall(b"GET / HTTP/1.1\r\n")
            while time.monotonic() - began < 20:
                dripping.sendall(b"X: y\r\n")
                time.sleep(PATIENCE / 4)
        assert time.monotonic() - began < 10


def test_whoever_waits_for_an_answer_gets_it_and_may_ask_again(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as asking:
        for _ in range(2):
            asking.sendall(ASK)
            answer = b""
            while not answer.endswith(b"ab"):
                piece = asking.recv(1000)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200")
        assert asking.recv(100) == b"", "after that it is silent"
