"""How others call it: an HTTP API over galleries, and a page to search with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from patchwise.errors import MissingExtra
from patchwise.server.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from patchwise.gallery import Gallery

__all__ = ["Settings", "create_app"]


def create_app(settings: Settings, open_gallery: Callable[[Path], Gallery] | None = None) -> FastAPI:
    """The application, its galleries opened; they are closed when its lifespan ends.

    Args:
        settings: what is served, and within which limits.
        open_gallery: opens a gallery by its folder, for those made with an encoder of your own; otherwise it is
            opened, or made where there is none.

    Raises:
        MissingExtra: the packages that a server needs are not installed.
        GalleryError: a gallery cannot be used.
    """
    try:
        from patchwise.server.app import build_app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("patchwise"):
            raise
        raise MissingExtra("patchwise serve", "server") from error
    return build_app(settings, open_gallery)
