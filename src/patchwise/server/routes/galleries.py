"""Which galleries there are, and what they hold."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fastapi import APIRouter

from patchwise.server import schemas
from patchwise.server.dependencies import Served, Server, State
from patchwise.server.galleries import ServedGallery
from patchwise.server.problems import problems
from patchwise.wire import shown_text, text_of_path

router = APIRouter(tags=["galleries"])

_FOLDERS = 200


@router.get("/galleries", operation_id="list_galleries", summary="List galleries", responses=problems(503))
async def list_galleries(server: Server) -> schemas.Galleries:
    """All galleries that can be used, the default first."""
    found = await server.pool.run(server.galleries.each, lambda served: _described(served, server))
    return schemas.Galleries(galleries=list(found.values()))


@router.get(
    "/galleries/{gallery}", operation_id="get_gallery", summary="Describe a gallery", responses=problems(404, 422, 503)
)
async def get_gallery(served: Served, server: Server) -> schemas.Gallery:
    """What a gallery holds, and what can be done with it."""
    return await server.pool.run(_described, served, server)


def _described(served: ServedGallery, server: State) -> schemas.Gallery:
    info = served.info()
    encoder = str(info.encoder["id"])
    return schemas.Gallery(
        name=served.name,
        images=info.images,
        distinct_images=info.distinct_images,
        regions=info.regions,
        unreadable=len(info.unreadable),
        encoder=shown_text(Path(encoder).name),  # one of your own is named by its file's path
        dimension=int(info.encoder["dimension"]),
        regions_strategy=shown_text(Path(info.regions_strategy).name),
        reads_text=served.reads_text(),
        created=info.created,
        can_add=served.writable,
        can_remove=served.writable,
        roots=served.writable and bool(server.settings.roots),
        folders=[
            schemas.FolderCount(path=text_of_path(path), images=images)
            for path, images in served.gallery.folders()[:_FOLDERS]
        ],
        metadata=[
            schemas.MetadataColumn.model_validate(asdict(column)) for column in served.gallery.metadata_columns()
        ],
        version=served.gallery.version,
    )
