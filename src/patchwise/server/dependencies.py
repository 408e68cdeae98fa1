"""What routes ask for by their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Path, Request

from patchwise.server.galleries import Galleries, ServedGallery
from patchwise.server.limits import Pool
from patchwise.server.pictures import DecodedPictures, KeptPictures
from patchwise.server.problems import Problem
from patchwise.server.schemas import DIGEST
from patchwise.server.security import Token
from patchwise.server.settings import GALLERY_NAME, Settings

if TYPE_CHECKING:  # these import what imports this
    from patchwise.server.adding import Adding
    from patchwise.server.metrics import Metrics

__all__ = ["ImageId", "Served", "Server", "State", "json_only", "multipart_only"]


@dataclass(frozen=True)
class State:
    """What lives as long as the application, at `app.state.server`.

    `pool` is for searches and all that is quick, `intake` for uploads, few of which are read and decoded at a time.
    `stopping` is set when the server is asked to end: streams then end by themselves.
    """

    settings: Settings
    galleries: Galleries
    token: Token
    pool: Pool
    intake: Pool
    kept: KeptPictures
    decoded: DecodedPictures
    adding: Adding
    metrics: Metrics
    stopping: Event


def _server(request: Request) -> State:
    return cast(State, request.app.state.server)


Server = Annotated[State, Depends(_server)]


def _served(
    server: Server, gallery: Annotated[str, Path(pattern=GALLERY_NAME, description="Name of a gallery")]
) -> ServedGallery:
    return server.galleries.get(gallery)


Served = Annotated[ServedGallery, Depends(_served)]
ImageId = Annotated[str, Path(pattern=DIGEST, description="Image id")]


def json_only(request: Request) -> None:
    """Refuses bodies that are not sent as JSON: browsers send them from other sites' forms without asking."""
    _only(request, "application/json")


def multipart_only(request: Request) -> None:
    """Refuses bodies that are not sent as a form with files."""
    _only(request, "multipart/form-data")


def _only(request: Request, wanted: str) -> None:
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent != wanted:
        raise Problem(415, f"content type {sent or 'missing'}: expected {wanted}", "content-type")
