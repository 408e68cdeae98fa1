"""A browser's session: the token once, then a cookie that no script can read, so that pictures can be shown."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from patchwise.server import schemas
from patchwise.server.dependencies import Server, json_only
from patchwise.server.problems import Problem, problems

router = APIRouter(tags=["session"])


@router.get("/session", operation_id="get_session", summary="Whether a token is needed")
async def get_session(server: Server, request: Request) -> schemas.SessionState:
    """Whether a token is needed, and whether this request brought one along."""
    valid = server.token.brought_by(request.headers)
    if not valid and request.headers.get("authorization"):
        await server.token.discourage()
    return schemas.SessionState(required=server.token.required, valid=valid)


@router.post(
    "/session",
    status_code=204,
    operation_id="begin_session",
    summary="Begin a session",
    responses=problems(401, 415, 422),
    dependencies=[Depends(json_only)],
)
async def begin_session(server: Server, given: schemas.SessionRequest, request: Request) -> Response:
    """Exchange the token for a cookie."""
    if server.token.required and not server.token.matches(given.token):
        await server.token.discourage()
        raise Problem(401, "this is not the token", "token", {"WWW-Authenticate": "Bearer"})
    response = Response(status_code=204)
    if server.token.required:
        response.set_cookie(
            server.token.cookie,
            server.token.session,
            httponly=True,
            samesite="strict",
            secure=_by_https(request),
        )
    return response


@router.delete("/session", status_code=204, operation_id="end_session", summary="End a session")
async def end_session(server: Server, request: Request) -> Response:
    """Forget the cookie, if there is one."""
    response = Response(status_code=204)
    if server.token.required and server.token.brought_by(request.headers):  # its name is derived from the token
        response.delete_cookie(server.token.cookie, httponly=True, samesite="strict")
    return response


def _by_https(request: Request) -> bool:
    """Whether the browser speaks HTTPS, be it only with a proxy."""
    return request.url.scheme == "https" or request.headers.get("origin", "").lower().startswith("https://")
