"""Query pictures: uploaded once, and then searched with by their id."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, File, UploadFile

from patchwise.images import digest_of, read_picture
from patchwise.server import schemas
from patchwise.server.contents import bytes_of, format_of, pixels_of
from patchwise.server.dependencies import ImageId, Served, Server, State, multipart_only
from patchwise.server.galleries import ServedGallery
from patchwise.server.pictures import Pixels
from patchwise.server.problems import problems

router = APIRouter(tags=["search"])


@router.post(
    "/galleries/{gallery}/pictures",
    status_code=201,
    operation_id="keep_picture",
    summary="Upload a query picture",
    responses=problems(404, 415, 422, 503, 507),
    dependencies=[Depends(multipart_only)],
)
async def keep_picture(
    served: Served, server: Server, picture: Annotated[UploadFile, File(description="A picture")]
) -> schemas.Picture:
    """Keep a picture to search with; links to searches with it last until newer pictures take its place."""
    return await server.intake.run(lambda: keep(server, served, picture.filename or "picture", picture.file.read()))


@router.get(
    "/galleries/{gallery}/pictures/{image}",
    operation_id="get_picture",
    summary="Describe a query picture",
    responses=problems(404, 410, 422, 503),
)
async def get_picture(served: Served, server: Server, image: ImageId) -> schemas.Picture:
    """A picture that can be searched with: one that was uploaded and is still kept, or an image of the gallery."""

    def described() -> schemas.Picture:
        height, width = pixels_of(server, served, image).shape[:2]
        return schemas.Picture(
            image=image,
            size=(width, height),
            format=format_of(bytes_of(server, served, image)),
            in_gallery=bool(served.gallery.image(image)),
        )

    return await server.pool.run(described)


def keep(server: State, served: ServedGallery, name: str, content: bytes) -> schemas.Picture:
    """Keep what can be decoded.

    Raises:
        ImageError: it cannot.
        StorageFull: the disk refused.
    """

    def decode() -> Pixels:
        return np.asarray(read_picture(content, name=name, max_pixels=server.settings.max_pixels).pixels)

    image = digest_of(content)
    height, width = server.decoded.get(image, decode).shape[:2]
    server.kept.keep(content)
    return schemas.Picture(
        image=image, size=(width, height), format=format_of(content), in_gallery=bool(served.gallery.image(image))
    )
