"""patchwise serve: the HTTP API and the page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from patchwise.cli.encoder_options import Device
from patchwise.cli.options import DEFAULT_GALLERY, MaxPixels, print_json, say


def serve(
    gallery: Annotated[
        list[str] | None,
        typer.Option(
            "--gallery",
            "-g",
            metavar="[NAME=]DIR",
            # Not by `envvar`: several values would be parted at spaces, which paths may hold.
            help="A gallery's directory, and its name in addresses; may be repeated. Made where there is none.",
            show_default="PATCHWISE_GALLERY, or .patchwise",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(envvar="PATCHWISE_HOST", help="Where to listen; beyond this machine a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="PATCHWISE_PORT", min=0, max=65535, help="0 takes one that is free.")
    ] = 8799,
    token: Annotated[
        str | None,
        typer.Option(envvar="PATCHWISE_TOKEN", help="What every request has to bring along; better by the variable."),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Images below this folder may be added by path; may be repeated."),
    ] = None,
    uploads: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where uploaded images are kept.", show_default="beside each gallery: DIR-uploads"
        ),
    ] = None,
    max_upload: Annotated[int, typer.Option(metavar="MB", min=1, help="Refuse larger requests.")] = 50,
    max_pixels: MaxPixels = None,
    queue: Annotated[int, typer.Option(min=1, help="How many requests may wait before others are refused.")] = 64,
    device: Device = "auto",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when it listens: address, galleries, process.")
    ] = False,
) -> None:
    """Serve galleries: a page to search with, and an HTTP API, until Ctrl-C or SIGTERM."""
    # Its threads wait for each other without sleeping, which under many requests takes most of the processors. This is
    # read when numpy is imported, so not later.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from patchwise.images import DEFAULT_MAX_PIXELS
    from patchwise.server.running import run
    from patchwise.server.settings import Settings, named_galleries

    settings = Settings(
        named_galleries(gallery or [os.environ.get("PATCHWISE_GALLERY") or str(DEFAULT_GALLERY)]),
        token=token or None,
        host=host,
        port=port,
        roots=tuple(root or ()),
        uploads=uploads,
        max_upload=max_upload * 2**20,
        max_pixels=max_pixels or DEFAULT_MAX_PIXELS,
        queue=queue,
        device=device,
    )
    run(settings, say, announce=print_json if as_json else None, open_page=open_page)
