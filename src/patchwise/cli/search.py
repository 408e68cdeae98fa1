"""patchwise search: find the images that show what a picture, or a box in it, shows."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchwise.cli.options import DEFAULT_GALLERY, AsJson, GalleryPath, MaxPixels, print_json, say
from patchwise.errors import BoxError, ImageError, UsageError

if TYPE_CHECKING:
    from patchwise.boxes import Box
    from patchwise.gallery import Gallery
    from patchwise.search import Hit


def search(
    query: Annotated[str | None, typer.Argument(help="An image file, or - to read one from stdin.")] = None,
    gallery: GalleryPath = DEFAULT_GALLERY,
    box: Annotated[
        str | None,
        typer.Option(help="Search for this part of the query: x0,y0,x1,y1 in pixels of the upright picture."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits at most.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Leave out this many of the best.")] = 0,
    min_score: Annotated[float | None, typer.Option(help="Leave out hits below this cosine.")] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="Many queries: a CSV file with columns path,x0,y0,x1,y1 (box may be empty), or -."),
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Allow QUERY to be an http(s) address.")] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print hits as CSV.")] = False,
    as_paths: Annotated[bool, typer.Option("--paths", "-f", help="Print only the paths, one a line.")] = False,
    null: Annotated[bool, typer.Option("--null", "-0", help="With --paths: end each with NUL, for xargs -0.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page to look at: hits, boxes, heat maps.")] = None,
    copy_to: Annotated[Path | None, typer.Option(help="Copy the images found into this folder.")] = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Find the images that show the same object as QUERY, and where in each of them."""
    from patchwise.boxes import parse_box
    from patchwise.gallery import Gallery
    from patchwise.images import DEFAULT_MAX_PIXELS

    if (query is None) == (queries is None):
        raise UsageError("give either one QUERY or --queries FILE.csv")
    if sum((as_json, as_csv, as_paths)) > 1:
        raise UsageError("choose one of --json, --csv and --paths")
    if queries is not None and (box is not None or html is not None):
        raise UsageError("--box and --html go with one QUERY; in --queries the boxes are columns of the file")
    limit = max_pixels or DEFAULT_MAX_PIXELS
    with Gallery.open(gallery) as opened:
        if queries is not None:
            _search_many(opened, queries, k, offset, min_score, fetch, limit, as_csv, as_paths, null, copy_to)
            return
        source = sys.stdin.buffer.read() if query == "-" else str(query)
        parsed = parse_box(box) if box is not None else None
        hits = opened.search(source, box=parsed, k=k, offset=offset, min_score=min_score, fetch=fetch, max_pixels=limit)
        _print_hits(str(query), parsed, hits, as_json, as_csv, as_paths, null)
        if html is not None:
            from patchwise.report.page import write_search_page

            write_search_page(html, opened, source, parsed, hits, title=str(query), fetch=fetch, max_pixels=limit)
            say(f"wrote {html}")
        if copy_to is not None:
            _copy(hits, copy_to)
        if not hits:
            say("nothing matched" if len(opened) else f"the gallery {gallery} is empty; run: patchwise index FOLDER")
            raise typer.Exit(3)


def _search_many(
    opened: Gallery,
    queries: Path,
    k: int,
    offset: int,
    min_score: float | None,
    fetch: bool,
    max_pixels: int,
    as_csv: bool,
    as_paths: bool,
    null: bool,
    copy_to: Path | None,
) -> None:
    failed = found = 0
    first = True
    for answer in opened.search_many(
        _read_queries(queries), k=k, offset=offset, min_score=min_score, fetch=fetch, max_pixels=max_pixels
    ):
        if answer.error is not None:
            failed += 1
            say(f"skipping {answer.error}")
        found += len(answer.hits)
        if as_csv or as_paths:
            _print_hits(answer.query, answer.box, list(answer.hits), False, as_csv, as_paths, null, header=first)
        else:
            from patchwise.report import result_to_json

            print_json(result_to_json(answer.query, answer.box, answer.hits, answer.error))
        if copy_to is not None:
            _copy(list(answer.hits), copy_to)
        first = False
    if failed:
        raise typer.Exit(1)
    if not found:
        raise typer.Exit(3)


def _read_queries(file: Path) -> Iterator[tuple[str, Box | None]]:
    from patchwise.boxes import parse_box

    try:
        how: dict[str, Any] = {"newline": "", "encoding": "utf-8-sig"}  # with or without a byte order mark
        stream = os.fdopen(sys.stdin.fileno(), closefd=False, **how) if str(file) == "-" else file.open(**how)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from error
    with stream:
        try:
            rows = csv.DictReader(stream)
            if "path" not in (rows.fieldnames or []):
                raise UsageError(
                    f"{file}: the first line must name the columns path,x0,y0,x1,y1 (the last four may be left out)"
                )
            for number, row in enumerate(rows, start=2):
                edges = [(row.get(name) or "").strip() for name in ("x0", "y0", "x1", "y1")]
                if not row["path"]:
                    raise UsageError(f"{file}, line {number}: path is empty")
                try:
                    box = parse_box(",".join(edges)) if any(edges) else None
                except BoxError as error:
                    raise BoxError(f"{file}, line {number}: {error}") from error
                yield row["path"], box
        except (UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{file}: not a CSV file in UTF-8 ({error})") from error


def _print_hits(
    query: str,
    box: Box | None,
    hits: list[Hit],
    as_json: bool,
    as_csv: bool,
    as_paths: bool,
    null: bool,
    *,
    header: bool = True,
) -> None:
    from patchwise.report import CSV_HEADER, csv_rows, result_to_json, table_lines

    if as_json:
        print_json(result_to_json(query, box, hits))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if header:
            writer.writerow(CSV_HEADER)
        writer.writerows(csv_rows(query, hits))
    elif as_paths:
        end = b"\0" if null else b"\n"
        for hit in hits:
            sys.stdout.buffer.write(os.fsencode(hit.path) + end)
        sys.stdout.flush()
    elif hits:
        for line in table_lines(hits):
            typer.echo(line)


def _copy(hits: list[Hit], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for hit in hits:
            source = Path(hit.path)
            if not source.is_file():
                say(f"not copied: {source} is gone; run: patchwise index {source.parent}")
                continue
            target = folder / f"{hit.rank:04d}_{source.name}"
            number = 1
            while target.exists() and not _same_content(source, target):
                number += 1
                target = folder / f"{hit.rank:04d}_{number}_{source.name}"
            shutil.copy2(source, target)
    except OSError as error:
        raise ImageError(str(folder), f"the hits cannot be copied there ({error.strerror or error})") from error


def _same_content(a: Path, b: Path) -> bool:
    import filecmp

    return filecmp.cmp(a, b, shallow=False)
