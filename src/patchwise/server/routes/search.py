"""Searching, explaining, and taking the answer away as a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile
from fastapi import Path as InPath
from pydantic import ValidationError

from patchwise.metadata import MOST_CHARACTERS
from patchwise.server import schemas
from patchwise.server.dependencies import Served, Server, State, json_only, multipart_only
from patchwise.server.exports import EXPORTS, exported
from patchwise.server.limits import StillWanted
from patchwise.server.problems import Problem, problems
from patchwise.server.routes.pictures import keep
from patchwise.server.searching import answer_of, explain, search
from patchwise.wire import shown_text

router = APIRouter(tags=["search"])

_R = TypeVar("_R")
_FAILURES = problems(404, 409, 410, 415, 422, 500, 501, 503)
_POLL_SECONDS = 0.05
_FIELDS = {"picture", "box", "text", "weight", "small"} | (schemas.SearchRequest.model_fields.keys() - {"parts"})


@router.post(
    "/galleries/{gallery}/search",
    operation_id="search",
    summary="Search",
    responses=_FAILURES,
    response_model_exclude_unset=True,
    dependencies=[Depends(json_only)],
)
async def search_gallery(
    served: Served, server: Server, wanted: schemas.SearchRequest, request: Request
) -> schemas.SearchAnswer:
    """Find the images that show what the query shows or says, best first."""
    return await _unless_gone(
        request, server, lambda still_wanted: answer_of(served, search(server, served, wanted, still_wanted))
    )


@router.post(
    "/galleries/{gallery}/search/upload",
    operation_id="search_upload",
    summary="Search with uploaded pictures",
    responses={**_FAILURES, **problems(507)},
    response_model_exclude_unset=True,
    dependencies=[Depends(multipart_only)],
)
async def search_upload(
    served: Served,
    server: Server,
    request: Request,
    picture: Annotated[list[UploadFile] | None, File(description="Pictures of the query", max_length=16)] = None,
    box: Annotated[
        list[str] | None,
        Form(description="x0,y0,x1,y1 of the first picture, of the next ..., or whole", examples=[["40,30,210,260"]]),
    ] = None,
    text: Annotated[list[str] | None, Form(description="What the images shall show", max_length=16)] = None,
    weight: Annotated[
        list[float] | None, Form(description="Of the pictures in order, then of the texts; otherwise 1", max_length=16)
    ] = None,
    small: Annotated[bool, Form(description="The object may be small")] = False,
    k: Annotated[int, Form(ge=1, le=1000)] = 20,
    offset: Annotated[int, Form(ge=0, le=1_000_000)] = 0,
    min_score: Annotated[float | None, Form(allow_inf_nan=False)] = None,
    under: Annotated[list[str] | None, Form(max_length=100)] = None,
    where: Annotated[str, Form(max_length=MOST_CHARACTERS)] = "",
    recall: Annotated[float, Form(gt=0, le=1)] = 0.99,
    exact: Annotated[bool, Form()] = False,
    rerank: Annotated[str, Form(max_length=200)] = "",
    expand: Annotated[str, Form(max_length=40)] = "",
    fuse: Annotated[str, Form(max_length=40)] = "",
    collapse: Annotated[bool, Form()] = False,
) -> schemas.SearchAnswer:
    """One request for pictures at hand: they are kept as by `pictures`, and searched with at once."""
    unknown = sorted({*(await request.form())} - _FIELDS)
    if unknown:
        raise Problem(422, f"field {shown_text(unknown[0])!r}: expected {', '.join(sorted(_FIELDS))}", "invalid")
    uploads = [(shown_text(upload.filename or "picture")[:255], upload) for upload in picture or []]
    boxes = [_edges(each) for each in box or []]
    if len(boxes) > len(uploads):
        raise Problem(422, f"{len(boxes)} boxes for {len(uploads)} pictures", "box")
    boxes += [None] * (len(uploads) - len(boxes))
    texts, weights = text or [], weight or []
    if len(weights) > len(uploads) + len(texts):
        raise Problem(422, f"{len(weights)} weights for {len(uploads) + len(texts)} pictures and texts", "invalid")

    def kept() -> list[dict[str, Any]]:  # bytes are read when it is their turn
        return [
            {"picture": keep(server, served, name, file.file.read()).image, "box": edges, "name": name, "small": small}
            for (name, file), edges in zip(uploads, boxes, strict=True)
        ]

    parts = [*(await server.intake.run(kept)), *({"text": each} for each in texts)]
    for part, each in zip(parts, weights, strict=False):
        part["weight"] = each

    def found(still_wanted: Callable[[], bool]) -> schemas.SearchAnswer:
        try:
            wanted = schemas.SearchRequest.model_validate(
                {
                    "parts": parts,
                    "k": k,
                    "offset": offset,
                    "min_score": min_score,
                    "under": under or [],
                    "where": where,
                    "recall": recall,
                    "exact": exact,
                    "rerank": rerank,
                    "expand": expand,
                    "fuse": fuse,
                    "collapse": collapse,
                }
            )
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
            raise Problem(422, said, "invalid") from error
        return answer_of(served, search(server, served, wanted, still_wanted))

    return await _unless_gone(request, server, found)


@router.post(
    "/galleries/{gallery}/search/export/{format}",
    operation_id="export_search",
    summary="Search, and take the answer away as a file",
    response_class=Response,
    responses={
        200: {
            "description": "The file, as an attachment",
            "content": {
                **{kind.media_type: {"schema": {"type": "string"}} for kind in EXPORTS.values()},
                "application/json": {"schema": {"$ref": "#/components/schemas/SearchAnswer"}},
            },
        },
        **_FAILURES,
    },
    dependencies=[Depends(json_only)],
)
async def export_search(
    served: Served,
    server: Server,
    wanted: schemas.SearchRequest,
    format: Annotated[Literal["json", "csv", "html", "paths"], InPath(description="Kind of file")],
    request: Request,
) -> Response:
    """The hits as JSON, as CSV, as a page that needs no other file, or as a list of paths."""
    content = await _unless_gone(
        request,
        server,
        lambda still_wanted: exported(
            server, served, search(server, served, wanted, still_wanted), format, still_wanted
        ),
    )
    kind = EXPORTS[format]
    disposition = f'attachment; filename="patchwise-{served.name}.{kind.suffix}"'
    return Response(content, media_type=kind.media_type, headers={"Content-Disposition": disposition})


@router.post(
    "/galleries/{gallery}/explain",
    operation_id="explain",
    summary="Explain a hit",
    responses=_FAILURES,
    dependencies=[Depends(json_only)],
)
async def explain_hit(
    served: Served, server: Server, wanted: schemas.ExplainRequest, request: Request
) -> schemas.Explanation:
    """Every region of one image with its score for a query: the numbers behind the heat map."""
    return await _unless_gone(request, server, lambda _: explain(server, served, wanted))


async def _unless_gone(request: Request, server: State, work: Callable[[Callable[[], bool]], _R]) -> _R:
    """The result of `work`, which leaves the queue, or is told, when whoever asked has gone: drawing asks anew."""
    still_wanted = StillWanted(server.stopping)
    asked = asyncio.ensure_future(server.pool.run(work, still_wanted))
    try:
        while not (await asyncio.wait([asked], timeout=_POLL_SECONDS))[0]:
            if await request.is_disconnected():
                raise Problem(503, "nobody waits for this answer any more", "gone")
        return await asked
    finally:
        still_wanted.gone.set()
        asked.cancel()


def _edges(text: str) -> list[float] | None:
    if text.strip() == "whole":
        return None
    try:
        edges = [float(edge) for edge in text.split(",")]
    except ValueError:
        edges = []
    if len(edges) != 4:
        raise Problem(422, f"box {text!r}: expected x0,y0,x1,y1 or whole", "box")
    return edges
