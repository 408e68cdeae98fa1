"""Numbers for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from patchwise.server.dependencies import Server
from patchwise.server.metrics import Metrics
from patchwise.server.problems import problems

router = APIRouter(tags=["server"])


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problems(503),
    },
)
async def get_metrics(server: Server) -> Response:
    """Requests by route and status, seconds of searches, what waits, jobs, images, and the server's memory."""
    return Response(await server.pool.run(server.metrics.text), headers={"Content-Type": Metrics.content_type})
