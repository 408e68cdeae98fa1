"""Adding images: uploads, and files and folders of the server."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, File, UploadFile

from patchwise.server import schemas
from patchwise.server.dependencies import Served, Server, json_only, multipart_only
from patchwise.server.jobs import JobStatus
from patchwise.server.problems import problems
from patchwise.server.routes.jobs import described

router = APIRouter(tags=["adding"])

_MOST = 1000


@router.post(
    "/galleries/{gallery}/images",
    status_code=202,
    operation_id="add_images",
    summary="Upload images",
    responses=problems(403, 404, 415, 422, 503, 507),
    dependencies=[Depends(multipart_only)],
)
async def add_images(
    served: Served,
    server: Server,
    pictures: Annotated[list[UploadFile], File(description="Pictures", min_length=1, max_length=_MOST)],
) -> schemas.Job:
    """Keep pictures and index them. Once this is answered they are safe on disk; the job says when they can be found.

    Those that cannot be decoded are listed as refused; if that is all of them, nothing is kept.
    """

    def kept() -> JobStatus:  # bytes are read when it is their turn
        received = [(picture.filename or "picture", picture.file.read()) for picture in pictures]
        return server.adding.add_pictures(served, received)

    return described(await server.intake.run(kept))


@router.post(
    "/galleries/{gallery}/images/paths",
    status_code=202,
    operation_id="add_paths",
    summary="Add files and folders of the server",
    responses=problems(403, 404, 415, 422, 503, 507),
    dependencies=[Depends(json_only)],
)
async def add_paths(served: Served, server: Server, wanted: schemas.PathsRequest) -> schemas.Job:
    """Index images where they are, below the folders that the server was started with as `--root`.

    Links that lead out of these are not followed.
    """
    return described(await server.pool.run(server.adding.add_paths, served, wanted.paths))
