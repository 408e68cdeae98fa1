"""Options that several commands share, and how they talk: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = [
    "AsJson",
    "GalleryPath",
    "MaxPixels",
    "Rerank",
    "print_json",
    "printable",
    "progress_bar",
    "progress_bars",
    "say",
]

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
Rerank = Annotated[
    str,
    typer.Option(
        metavar="LOOK:HITS,...",
        help="Look again at the first hits, one look after the other: refine:HITS (tighter boxes), zoom:HITS "
        "(small objects), geometric:HITS[:FILE] (outlines by local features), neighbours:HITS (hits support each "
        "other), ames:HITS:FOLDER (a network).",
        show_default=False,
    ),
]
DEFAULT_GALLERY = Path(".patchwise")


def print_json(value: Any) -> None:
    """One line of JSON on stdout; text that is no valid unicode stays escaped."""
    typer.echo(json.dumps(value, allow_nan=False))


def say(message: str) -> None:
    """A line for the person, on stderr, unless that is closed."""
    if sys.stderr is None:
        return
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
    with progress_bars(what) as advance:
        yield lambda done, total: advance(what, done, total)


@contextmanager
def progress_bars(first: str) -> Iterator[Callable[[str, int, int], None]]:
    """The same for work of several stages, one bar each; `first` is under way from the beginning.

    Yields a function that takes (stage, done, total). A stage of a single step has no bar that fills: it moves until
    the step is done.
    """
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _stage, _done, _total: None
        return
    with _watched() as progress:
        bars = {first: progress.add_task(first, total=None)}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                for bar in progress.tasks:  # a stage begins when those before it have ended
                    if not bar.finished:
                        progress.update(bar.id, completed=bar.total or 1, total=bar.total or 1)
                bars[stage] = progress.add_task(stage, total=None)
            steps = None if total == 1 and done == 0 else total
            progress.update(bars[stage], completed=done, total=steps)

        yield advance


def _watched() -> Progress:
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
    return Progress(*columns, console=Console(stderr=True), transient=True)
