"""A server that really listens, over a gallery that is at hand as well; and servers made up, for what goes wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from conftest import FakeEncoder, make_picture
from patchwise import Client, Gallery
from patchwise.server import Settings, create_app

TOKEN = "an-ordinary-token"


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The address of a server in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Requests(httpx2.Client):
    """Asks as usual, and notes what was asked: (method, path)."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, str]] = []

    def request(self, method: str, url: object, **options: object) -> httpx2.Response:
        self.sent.append((method, httpx2.URL(str(url)).path.removeprefix("/api/v1")))
        return super().request(method, url, **options)  # type: ignore[arg-type]

    def uploads(self) -> int:
        return sum(method == "POST" and path.endswith(("/pictures", "/images")) for method, path in self.sent)


@pytest.fixture
def settings(gallery: Gallery, tmp_path: Path) -> Settings:
    (tmp_path / "roots").mkdir()
    make_picture(77, (40, 40)).save(tmp_path / "roots" / "77.png")
    return Settings(
        {"g": gallery.path},
        token=TOKEN,
        roots=(tmp_path / "roots",),
        uploads=tmp_path / "uploads",
        queries=tmp_path / "queries",
        threads=2,
        max_upload=2**20,
    )


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    with listening(create_app(settings, lambda folder: Gallery.open(folder, encoder=FakeEncoder()))) as address:
        yield address


@pytest.fixture
def requests() -> Iterator[Requests]:
    with Requests() as requests:
        yield requests


@pytest.fixture
def client(address: str, requests: Requests) -> Iterator[Client]:
    with Client(address, token=TOKEN, http=requests) as client:
        yield client


@pytest.fixture
def made_up() -> Callable[..., Client]:
    """A client of a server that is only a function of a request."""

    def make(answer: Callable[[httpx2.Request], httpx2.Response], **options: object) -> Client:
        http = httpx2.Client(transport=httpx2.MockTransport(answer))
        return Client("http://server.test", http=http, **{"gallery": "g", **options})  # type: ignore[arg-type]

    return make
