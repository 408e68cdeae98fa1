"""Errors as answers: application/problem+json (RFC 9457), which says what is wrong and never where the server lives."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

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
    StorageFull,
    UsageError,
)
from patchwise.server.limits import Overloaded
from patchwise.wire import shown_text

__all__ = ["PROBLEM_JSON", "Problem", "install_handlers", "problem_of", "problem_response", "problems"]

PROBLEM_JSON = "application/problem+json"
_BUSY_SECONDS = 5
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_log = logging.getLogger("patchwise.server")


class Problem(HTTPException):
    """A request that cannot be answered.

    Args:
        status: the HTTP status.
        detail: what is wrong, and what to do.
        kind: the last part of the problem's type, such as "box".
        headers: further headers of the answer.
        more: further members of the answer.
    """

    def __init__(
        self, status: int, detail: str, kind: str = "about", headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.kind, self.more = kind, more


def problem_of(error: PatchwiseError) -> Problem:
    """What a caller is told of an error of the library; messages that name places of the server stay in its log."""
    if isinstance(error, ImageError):
        kind = {ImageUnreadable: "image-unreadable", ImageTooLarge: "image-too-large"}.get(type(error), "image")
        return Problem(422, str(error), kind)
    if isinstance(error, UsageError):
        kind = {BoxError: "box", RegionsError: "regions"}.get(type(error), "usage")
        return Problem(422, str(error), kind)
    if isinstance(error, MissingExtra):
        return Problem(501, str(error), "missing-extra")
    _log.warning("%s", shown_text(str(error)))
    if isinstance(error, GalleryBusy):
        detail = "the gallery is being written to by somebody else; try again when that has finished"
        return Problem(409, detail, "gallery-busy", {"Retry-After": str(_BUSY_SECONDS)})
    if isinstance(error, StorageFull):
        return Problem(507, "the server's disk refused a write; what was kept before is safe", "storage-full")
    if isinstance(error, GalleryNotFound):
        return Problem(404, "the gallery is not there any more", "gallery-not-found")
    if isinstance(error, GalleryError):
        return Problem(500, "the gallery cannot be used; the server's log says why", "gallery")
    if isinstance(error, EncoderError):
        return Problem(500, "the gallery's encoder cannot be used; the server's log says why", "encoder")
    return Problem(500, "the request failed; the server's log says why", "error")


def problem_response(
    status: int, detail: str, kind: str = "about", headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The answer that a problem makes."""
    type_ = "about:blank" if kind == "about" else f"urn:patchwise:{kind}"
    content = {"type": type_, "title": _title(status), "status": status, "detail": shown_text(detail), **more}
    return JSONResponse(content, status, dict(headers or {}), PROBLEM_JSON)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says of these statuses; those that any route may answer with are added by the app."""
    return {
        status: {
            "description": _title(status),
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install_handlers(
    app: FastAPI, allowed: Callable[[FastAPI, str], Sequence[str]], unforeseen_headers: Mapping[str, str]
) -> None:
    """Answer every error that a route raises by a problem.

    Args:
        app: the application.
        allowed: names the methods of a path.
        unforeseen_headers: of the answers to errors of ours, which are made outside of all that completes answers.
    """

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        kind, more = (error.kind, error.more) if isinstance(error, Problem) else ("about", {})
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _FULL:  # where uploads come in
            return await library(request, StorageFull(f"an upload cannot be received ({cause.strerror})"))
        headers = dict(error.headers or {})
        if error.status_code == 405 and (methods := allowed(app, request.url.path)):
            headers["Allow"] = ", ".join(methods)  # the framework names those of one route alone
        return problem_response(error.status_code, str(error.detail), kind, headers, **more)

    async def library(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, PatchwiseError)
        problem = problem_of(error)
        return problem_response(problem.status_code, str(problem.detail), problem.kind, problem.headers)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = [
            {
                "location": [shown_text(str(place)) for place in found["loc"]],
                "message": shown_text(str(found["msg"])),
            }
            for found in error.errors()
        ]
        first = "; ".join(f"{'.'.join(found['location'])}: {found['message']}" for found in errors[:3])
        return problem_response(422, first or "the request is not as described", "invalid", errors=errors)

    async def overloaded(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Overloaded)
        headers = {"Retry-After": str(error.retry_after)}
        return problem_response(503, "too many requests are waiting; try again shortly", "overloaded", headers)

    async def unforeseen(_: Request, __: Exception) -> JSONResponse:  # it is raised again, and logged with its trace
        return problem_response(500, "the request failed; the server's log says why", "error", unforeseen_headers)

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(PatchwiseError, library)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Overloaded, overloaded)
    app.add_exception_handler(Exception, unforeseen)


def _title(status: int) -> str:
    return HTTPStatus(status).phrase
