"""The images of a gallery: listed, shown, given out, forgotten."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from patchwise.metadata import MOST_CHARACTERS
from patchwise.server import schemas
from patchwise.server.answers import FileAnswer
from patchwise.server.contents import THUMBNAIL_SIZES, media_type, open_file, thumbnail_of
from patchwise.server.dependencies import ImageId, Served, Server
from patchwise.server.galleries import ServedGallery
from patchwise.server.problems import Problem, problems
from patchwise.server.searching import own_words, places
from patchwise.store import StoredImage
from patchwise.wire import path_of_text, text_of_path

router = APIRouter(tags=["images"])

_IMAGE = "/galleries/{gallery}/images/{image}"
_FOREVER = "private, max-age=31536000, immutable"
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_UNCHANGED = {"description": "What the client has is still right"}


@router.get(
    "/galleries/{gallery}/images",
    operation_id="list_images",
    summary="List images",
    responses=problems(404, 422, 503),
)
async def list_images(
    served: Served,
    server: Server,
    under: Annotated[
        list[str], Query(description="Only files that are one of these or below one", max_length=100)
    ] = [],  # noqa: B006
    where: Annotated[str, Query(max_length=MOST_CHARACTERS, description="An expression on metadata")] = "",
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 60,
) -> schemas.Images:
    """Files that are indexed, by path; those that hold the same picture have the same image id."""

    def listed() -> schemas.Images:
        with own_words(served):
            found = served.gallery.images(places(under), where, offset, limit)
        return schemas.Images(total=found.total, images=[_described(stored) for stored in found.images])

    return await server.pool.run(listed)


@router.get(_IMAGE, operation_id="get_image", summary="Describe an image", responses=problems(404, 422, 503))
async def get_image(served: Served, server: Server, image: ImageId) -> schemas.ImageWithPaths:
    """An image and all files that hold it."""
    files = await server.pool.run(_files, served, image)
    paths = [text_of_path(stored.path) for stored in files]
    return schemas.ImageWithPaths(**_described(files[0]).model_dump(), paths=paths)


@router.head(f"{_IMAGE}/thumbnail", include_in_schema=False)
@router.get(
    f"{_IMAGE}/thumbnail",
    operation_id="get_thumbnail",
    summary="A small picture of an image",
    response_class=Response,
    responses={
        200: {"description": "A JPEG", "content": {"image/jpeg": _PICTURE}},
        304: _UNCHANGED,
        **problems(404, 410, 422, 503),
    },
)
async def get_thumbnail(
    served: Served,
    server: Server,
    image: ImageId,
    request: Request,
    size: Annotated[
        int,
        Query(
            ge=64, le=2048, description=f"Its longer side at most, rounded up to {', '.join(map(str, THUMBNAIL_SIZES))}"
        ),
    ] = 320,
) -> Response:
    """Upright, and never larger than the image; also of query pictures."""
    headers = {"ETag": f'"{image}-{size}"', "Cache-Control": _FOREVER}
    if _has(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    content = await server.pool.run(thumbnail_of, server, served, image, size)
    return Response(content, media_type="image/jpeg", headers=headers)


@router.head(f"{_IMAGE}/full", include_in_schema=False)
@router.get(
    f"{_IMAGE}/full",
    operation_id="get_full_image",
    summary="An image's file",
    response_class=Response,
    responses={
        200: {"description": "The bytes as they are", "content": {"image/*": _PICTURE}},
        304: _UNCHANGED,
        **problems(404, 410, 422, 503),
    },
)
async def get_full(served: Served, server: Server, image: ImageId, request: Request) -> Response:
    """The file's bytes, of the type that they really are; also of query pictures."""
    headers = {
        "ETag": f'"{image}"',
        "Cache-Control": _FOREVER,
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if _has(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)

    def opened() -> Response:
        files = served.gallery.image(image)
        name = os.path.basename(files[0].path) if files else image
        headers["Content-Disposition"] = f"inline; filename*=UTF-8''{quote(os.fsencode(name), safe='')}"
        file = open_file(server, served, image)
        return FileAnswer(file, media_type(file), headers)

    return await server.pool.run(opened)


@router.delete(
    _IMAGE,
    status_code=204,
    operation_id="delete_image",
    summary="Forget an image",
    responses=problems(403, 404, 409, 422, 503, 507),
)
async def delete_image(
    served: Served,
    server: Server,
    image: ImageId,
    path: Annotated[
        str | None, Query(max_length=4096, description="Only this file; otherwise all that hold it")
    ] = None,
) -> Response:
    """Forget the files that hold an image. Only those that were uploaded here are deleted from disk as well."""

    def forgotten() -> None:
        paths = [stored.path for stored in _files(served, image)]
        if path is not None:
            paths = [known for known in paths if known == path_of_text(path)]
        if not paths:
            raise Problem(404, f"{path}: not a file of this image", "image-not-found")
        if not served.writable:
            raise Problem(403, f"the gallery {served.name!r} may not be written to", "read-only")
        with server.adding.uploads_of(served).removing(paths):
            served.gallery.remove(*paths)

    await server.pool.run(forgotten)
    return Response(status_code=204)


def _has(request: Request, tag: str) -> bool:
    """Whether the client has what carries this tag, as it says by one or several, weak or strong."""
    sent = ",".join(request.headers.getlist("if-none-match")).split(",")
    return any(each.strip().removeprefix("W/") == tag for each in sent)


def _files(served: ServedGallery, image: str) -> Sequence[StoredImage]:
    files = served.gallery.image(image)
    if not files:
        raise Problem(404, f"no image {image} in the gallery {served.name!r}", "image-not-found")
    return files


def _described(stored: StoredImage) -> schemas.Image:
    return schemas.Image(
        image=stored.digest, path=text_of_path(stored.path), size=stored.size, metadata=dict(stored.metadata)
    )
