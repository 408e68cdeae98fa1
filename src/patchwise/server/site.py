"""The page: static files that come with the package."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import PurePosixPath

from fastapi import APIRouter, Request, Response

from patchwise.server.problems import Problem

__all__ = ["router"]

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/vnd.microsoft.icon",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page itself."""
    return _file("index.html", request)


@router.api_route("/page/{name:path}", methods=["GET", "HEAD"])
async def page_file(name: str, request: Request) -> Response:
    """A file of the page."""
    return _file(name, request)


def _file(name: str, request: Request) -> Response:
    parts = name.split("/")
    kind = _MEDIA_TYPES.get(PurePosixPath(name).suffix)
    if kind is None or any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        raise Problem(404, "no such file", "not-found")
    file = files("patchwise.server").joinpath("page", *parts)
    if not file.is_file():
        raise Problem(404, "no such file", "not-found")
    content = file.read_bytes()
    # Asked for each time, so that a page and a server of two versions never meet.
    headers = {
        "ETag": f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"',
        "Cache-Control": "no-cache",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
