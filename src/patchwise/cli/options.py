"""Options that several commands share, and how they talk: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "GalleryPath", "MaxPixels", "print_json", "printable", "progress_bar", "say"]

GalleryPath = Annotated[
    Path,
    typer.Option(
        "--gallery",
        "-g",
        envvar="PATCHWISE_GALLERY",
        help="The gallery's directory.",
        readable=False,  # the library says it better
        show_default=".patchwise",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        help="Refuse larger images (protects against decompression bombs).",
        show_default="89478485",
    ),
]
DEFAULT_GALLERY = Path(".patchwise")


def print_json(value: Any) -> None:
    """One line of JSON on stdout; text that is no valid unicode stays escaped."""
    typer.echo(json.dumps(value, allow_nan=False))


def say(message: str) -> None:
    """A line for the person, on stderr."""
    sys.stderr.write(printable(message) + "\n")
    sys.stderr.flush()


def printable(text: str) -> str:
    """Text on one line: control characters and bytes that are no text are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with time left, on stderr; nothing is drawn where nobody watches.

    Yields a function that takes (done, total).
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
