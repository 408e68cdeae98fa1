"""patchwise search: find the images that show what a picture, a box in it, or a text shows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from patchwise.cli.encoder_options import Device
from patchwise.cli.hits import AnswerPrinter, copy_hits, matching
from patchwise.cli.options import DEFAULT_GALLERY, AsJson, GalleryPath, MaxPixels, Rerank, say
from patchwise.cli.queries import parts_of_options, read_queries
from patchwise.errors import UsageError

if TYPE_CHECKING:
    from patchwise.gallery import QueryResult


def search(
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="[QUERY]...", help="Image files, or - to read one from stdin; several are one query."),
    ] = None,
    gallery: GalleryPath = DEFAULT_GALLERY,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X0,Y0,X1,Y1",
            help="Search for this part of the picture, in upright pixels. Again for the next one; whole for all of it.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="What the images shall show, alone or with QUERY; may be repeated."),
    ] = None,
    unwanted: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="PICTURE", help="Not what this picture shows; may be repeated."),
    ] = None,
    unwanted_text: Annotated[
        list[str] | None, typer.Option("--not-text", metavar="TEXT", help="Not what this says; may be repeated.")
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="The object may be small even beside the regions of the gallery.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="W,W,...",
            help="How much each part counts: a number for each QUERY, --text, --not and --not-text, in this order.",
            show_default="1 each",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits at most.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Leave out this many of the best.")] = 0,
    min_score: Annotated[float | None, typer.Option(help="Leave out hits below this score.")] = None,
    under: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", help="Find only what lies in this folder, or this file; may be repeated.", readable=False
        ),
    ] = None,
    where: Annotated[
        str,
        typer.Option(
            metavar="CONDITION",
            help="Find only what your metadata say fits, such as \"brand = 'Acme' and year >= 2019\".",
            show_default=False,
        ),
    ] = "",
    recall: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="In a compressed gallery: the share of the true best images to find, above 0 and at most 1.",
            show_default="0.99",
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Look at every vector, compressed or not.")] = False,
    refine: Annotated[
        int | None,
        typer.Option(metavar="HITS", min=1, help="Look for tighter boxes in the first hits: --rerank refine:HITS."),
    ] = None,
    rerank: Rerank = "",
    expand: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="Ask again with the hits that match beside the query: average, or alpha:A by a power of their scores.",
            show_default=False,
        ),
    ] = "",
    fuse: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="Ask for each of several pictures by itself, and put the answers together: by the mean or max of "
            "scores, or by rank.",
            show_default=False,
        ),
    ] = "",
    collapse: Annotated[
        bool, typer.Option("--collapse", help="Show near-duplicates as one hit, with how many are alike.")
    ] = False,
    verdict: Annotated[
        bool, typer.Option("--verdict", help="Show what matches, and fold the rest: what may as well be chance.")
    ] = False,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Many queries: a CSV file with columns path,x0,y0,x1,y1,text,text_weight, of which a path or a text "
            "is enough, or -."
        ),
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Allow pictures to be http(s) addresses.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print hits as CSV.")] = False,
    as_paths: Annotated[bool, typer.Option("--paths", "-f", help="Print only the paths, one a line.")] = False,
    null: Annotated[bool, typer.Option("--null", "-0", help="With --paths: end each with NUL, for xargs -0.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page to look at: hits, boxes, heat maps.")] = None,
    copy_to: Annotated[Path | None, typer.Option(help="Copy the images found into this folder.")] = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Find the images that show the same object as QUERY, or what --text says, and where in each of them.

    Pictures and texts given together are one query: the region that fits all of them at once wins.
    """
    from patchwise.gallery import Gallery, QueryResult
    from patchwise.images import DEFAULT_MAX_PIXELS
    from patchwise.indexing.parts import query_parts

    shapes = [name for name, chosen in (("json", as_json), ("csv", as_csv), ("paths", as_paths)) if chosen]
    if len(shapes) > 1:
        raise UsageError("choose one of --json, --csv and --paths")
    if queries is None and not (query or text):
        raise UsageError("give a QUERY picture or --text, or many queries by --queries FILE.csv")
    if queries is not None and (query or text or box or unwanted or unwanted_text or weights or html):
        raise UsageError("--queries goes without QUERY, --html and what is in columns of the file")
    if exact and recall not in (None, 1):
        raise UsageError(f"--exact finds all, so it does not go with --recall {recall:g}")
    limits: dict[str, Any] = {"k": k, "offset": offset, "min_score": min_score, "exact": exact}
    limits |= {"under": under or (), "where": where}
    if recall is not None:
        limits["recall"] = recall
    limits |= {"rerank": ",".join(filter(None, ("" if refine is None else f"refine:{refine}", rerank)))}
    limits |= {"expand": expand, "fuse": fuse, "collapse": collapse}
    reading: dict[str, Any] = {"fetch": fetch, "max_pixels": max_pixels or DEFAULT_MAX_PIXELS}
    end = b"\0" if null else b"\n"
    with Gallery.open(gallery, device=device) as opened:
        if queries is not None:
            answers = opened.search_many(
                (query_parts(each, small=small) for each in read_queries(queries)), **limits, **reading
            )
            _print_many(answers, AnswerPrinter(shapes[0] if shapes else "json", end, verdict), copy_to)
            return
        given = parts_of_options(query or [], text or [], unwanted or [], unwanted_text or [], box or [], weights)
        parts = query_parts(given, small=small)
        hits = opened.search(parts, **limits, **reading)
        answer = QueryResult.of(parts, hits)
        AnswerPrinter(shapes[0] if shapes else "table", end, verdict).print(answer)
        if html is not None:
            from patchwise.report.page import write_search_page

            write_search_page(html, opened, parts, None, hits, title=answer.query, verdict=verdict, **reading)
            say(f"wrote {html}")
        found = matching(hits) if verdict else hits
        if copy_to is not None:
            copy_hits(found, copy_to)
        if not hits:
            say("nothing matched" if len(opened) else f"the gallery {gallery} is empty; run: patchwise index FOLDER")
        elif verdict and hits[0].matches is None:
            say("the gallery is too small to tell matches from chance; all hits are shown")
        elif not found:
            say("nothing matched")
        if not found:
            raise typer.Exit(3)


def _print_many(answers: Iterable[QueryResult], printer: AnswerPrinter, copy_to: Path | None) -> None:
    failed = found = 0
    for answer in answers:
        if answer.error is not None:
            failed += 1
            say(f"skipping {answer.error}")
        hits = matching(answer.hits) if printer.verdict else answer.hits
        found += len(hits)
        printer.print(answer)
        if copy_to is not None:
            copy_hits(hits, copy_to)
    if failed:
        raise typer.Exit(1)
    if not found:
        raise typer.Exit(3)
