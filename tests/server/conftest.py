"""A server over the gallery of six pictures, asked without a network."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from conftest import FakeEncoder
from patchwise import Gallery
from patchwise.server import Settings, create_app

ADDRESS = "http://127.0.0.1:8799"


@pytest.fixture
def settings(gallery: Gallery, tmp_path: Path) -> Settings:
    """One gallery, `g`, of `pictures`; more may be added from the folder `roots`."""
    (tmp_path / "roots").mkdir()
    return Settings(
        {"g": gallery.path}, roots=(tmp_path / "roots",), queries=tmp_path / "queries", threads=2, max_upload=2**20
    )


@pytest.fixture
def serving() -> Iterator[Callable[..., TestClient]]:
    """Starts servers of given settings; they are stopped when the test ends."""
    clients: list[TestClient] = []

    def serve(settings: Settings, address: str = ADDRESS, encoder: FakeEncoder | None = None) -> TestClient:
        app = create_app(settings, lambda folder: Gallery.open(folder, encoder=encoder or FakeEncoder()))
        clients.append(TestClient(app, base_url=address).__enter__())
        for thread in threading.enumerate():
            if thread.name == "patchwise-warm":  # what it encodes shall not be counted with what tests ask for
                thread.join()
        return clients[-1]

    yield serve
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def served(serving: Callable[..., TestClient], settings: Settings) -> TestClient:
    """A client of a server with one gallery, `g`."""
    return serving(settings)


def png(image: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
