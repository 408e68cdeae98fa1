"""The routes of the API, one file for each kind of thing."""

from fastapi import APIRouter

from patchwise.server.routes import adding, galleries, health, images, jobs, metrics, pictures, search, session

__all__ = ["ROUTERS"]

ROUTERS: tuple[APIRouter, ...] = (
    galleries.router,
    images.router,
    pictures.router,
    search.router,
    adding.router,
    jobs.router,
    session.router,
    health.router,
    metrics.router,
)
"""All routers; they are put below /api/v1."""
