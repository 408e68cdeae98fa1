"""Whether the server answers."""

from __future__ import annotations

from fastapi import APIRouter

from patchwise import __version__
from patchwise.server import schemas

router = APIRouter(tags=["server"])


@router.get("/health", operation_id="get_health", summary="Whether the server answers")
async def get_health() -> schemas.Health:
    """Needs no token, and waits for nothing."""
    return schemas.Health(status="ok", version=__version__)
