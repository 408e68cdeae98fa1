"""The routes of the API, one file for each kind of thing."""

from fastapi import APIRouter

from patchwise.server.routes import galleries

__all__ = ["ROUTERS"]

ROUTERS: tuple[APIRouter, ...] = (galleries.router,)
"""All routers; they are put below /api/v1."""
