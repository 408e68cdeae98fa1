"""What a server says went wrong, as the library's own errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from patchwise.errors import (
    BoxError,
    EncoderError,
    GalleryBusy,
    GalleryError,
    GalleryNotFound,
    ImageError,
    ImageTooLarge,
    ImageUnreadable,
    MissingExtra,
    PatchwiseError,
    RegionsError,
    ServerError,
    StorageFull,
    UsageError,
)

if TYPE_CHECKING:
    import httpx2

__all__ = ["NoneTaken", "NotThere", "TooMuch", "error_of"]

_PROBLEM = "application/problem+json"
_KIND = "urn:patchwise:"


class NotThere(ImageUnreadable):
    """The server has no picture of this id, or no longer the one that it indexed."""


class NoneTaken(ImageUnreadable):
    """The server took none of the pictures; `refused` are (name, reason)."""

    refused: tuple[tuple[str, str], ...] = ()


class TooMuch(ServerError):
    """More bytes than the server takes at a time."""


_ERRORS: dict[str, type[PatchwiseError]] = {
    "box": BoxError,
    "encoder": EncoderError,
    "gallery": GalleryError,
    "gallery-busy": GalleryBusy,
    "gallery-not-found": GalleryNotFound,
    "image": ImageError,
    "image-changed": NotThere,
    "image-not-found": NotThere,
    "image-too-large": ImageTooLarge,
    "image-unreadable": ImageUnreadable,
    "invalid": UsageError,
    "job-not-found": UsageError,
    "missing-extra": MissingExtra,
    "no-texts": EncoderError,
    "path": UsageError,
    "regions": RegionsError,
    "storage-full": StorageFull,
    "too-large": TooMuch,
    "usage": UsageError,
}


def error_of(response: httpx2.Response, url: str) -> PatchwiseError:
    """The error that an answer of status 300 or above stands for."""
    if response.is_redirect:
        return ServerError(f"{url}: it leads on to {response.headers.get('location')}; give the address of the server")
    problem = _problem(response)
    if problem is None:
        return ServerError(
            f"{url}: it answers {response.status_code}, and not as a patchwise server does; is this its address?"
        )
    detail, kind = str(problem["detail"]), str(problem["type"]).removeprefix(_KIND)
    if response.status_code == 401:
        return ServerError(f"{url}: {detail}; give it by Client({url!r}, token=...)")
    found = _ERRORS.get(kind, ServerError)
    if issubclass(found, ServerError):
        return found(f"{url}: {detail}")
    refused = _refused(problem)
    if refused:
        none = NoneTaken("pictures", detail)
        none.refused = refused
        return none
    if issubclass(found, ImageError):
        name, colon, reason = detail.partition(": ")
        return found(name, reason) if colon else found("picture", detail)
    if found is MissingExtra:
        extra = re.search(r"\[([\w,-]+)\]", detail)
        error = MissingExtra("", extra[1] if extra else "")
        error.args = (f"the server: {detail}",)
        return error
    return found(detail)


def _problem(response: httpx2.Response) -> dict[str, Any] | None:
    if response.headers.get("content-type", "").partition(";")[0].strip() != _PROBLEM:
        return None
    try:
        found = response.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"type", "detail"} <= set(found) else None


def _refused(problem: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    try:
        return tuple((str(one["name"]), str(one["reason"])) for one in problem.get("refused") or ())
    except (TypeError, KeyError):
        return ()
