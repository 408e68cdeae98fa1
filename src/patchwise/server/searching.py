"""From a search request to its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from patchwise.encoders import TextEncoder
from patchwise.errors import EncoderError, UsageError
from patchwise.images import digest_of
from patchwise.indexing import QueryPart, encode_query
from patchwise.indexing.parts import query_label
from patchwise.report import result_to_json
from patchwise.rerank import RERANKERS, parse_rerankers
from patchwise.search import FUSIONS, Explanation, Hit, RegionScore
from patchwise.second_look import NoLongerWanted, looking_while
from patchwise.server import schemas
from patchwise.server.contents import check_known, pixels_of
from patchwise.server.dependencies import State
from patchwise.server.galleries import ServedGallery
from patchwise.server.problems import Problem, problem_of
from patchwise.server.verdicts import Verdict
from patchwise.wire import is_whole_path, path_of_text, shown_text, text_of_path

__all__ = ["Found", "answer_of", "each_by_itself", "explain", "own_words", "places", "search", "wanted_or_problem"]

_FIRST_PAGE = 20  # hits that tell whether there is a match
_MOST_LOOKS, _MOST_LOOKED_AT = 4, 1000


@dataclass(frozen=True)
class Found:
    """What was found for a request; `label` is the query on one line, `verdict` what the whole answer says."""

    request: schemas.SearchRequest
    parts: tuple[QueryPart, ...]
    hits: list[Hit]
    label: str
    seconds: float
    verdict: Verdict


def search(
    server: State, served: ServedGallery, request: schemas.SearchRequest, still_wanted: Callable[[], bool]
) -> Found:
    """Search as `Gallery.search` does, for as long as the answer is wanted.

    Raises:
        Problem, ImageError: the request cannot be answered.
    """
    began = time.perf_counter()
    _check_rerank(request)
    with server.metrics.searching(served.name), own_words(served), wanted_or_problem(still_wanted):
        parts = _parts(server, served, request.parts)
        version = served.gallery.version
        hits = _page(server, served, request, parts, request.k, request.offset)
        asked = digest_of(f"{version} {request.model_dump_json(exclude={'k', 'offset'})}".encode())
        if request.offset == 0:
            verdict = served.verdicts.first(asked, hits)
        else:
            verdict = served.verdicts.later(
                asked, hits, lambda: _page(server, served, request, parts, min(request.k, _FIRST_PAGE), 0)
            )
    return Found(request, parts, hits, shown_text(query_label(parts)), time.perf_counter() - began, verdict)


@contextmanager
def wanted_or_problem(still_wanted: Callable[[], bool]) -> Iterator[None]:
    """Long work inside ends by a problem when nobody waits for it any more."""
    try:
        with looking_while(still_wanted):
            yield
    except NoLongerWanted as error:
        raise Problem(503, "the server is ending; ask again shortly", "ending", {"Retry-After": "5"}) from error


def _page(
    server: State,
    served: ServedGallery,
    request: schemas.SearchRequest,
    parts: tuple[QueryPart, ...],
    k: int,
    offset: int,
) -> list[Hit]:
    return served.gallery.search(
        parts,
        k=k,
        offset=offset,
        min_score=request.min_score,
        under=places(request.under),
        where=request.where,
        recall=request.recall,
        exact=request.exact,
        rerank=request.rerank,
        expand=request.expand,
        fuse=request.fuse,
        collapse=request.collapse,
        max_pixels=server.settings.max_pixels,
    )


def answer_of(served: ServedGallery, found: Found) -> schemas.SearchAnswer:
    """The answer that is sent."""
    request = found.request
    searched = len(served.gallery)
    if request.under or request.where:
        with own_words(served):
            searched = served.gallery.images(places(request.under), request.where, limit=0).total
    return schemas.SearchAnswer(
        query=found.label,
        box=request.parts[0].box if len(request.parts) == 1 else None,
        parts=[schemas.Part(**part.model_dump()) for part in request.parts],  # what was left out, too
        hits=_hits(served, found.hits),
        verdict=found.verdict,
        seconds=round(found.seconds, 4),
        images=searched,
        version=served.gallery.version,
    )


def explain(server: State, served: ServedGallery, request: schemas.ExplainRequest) -> schemas.Explanation:
    """Every region of an image with its score.

    Raises:
        Problem, ImageError: the request cannot be answered.
    """
    files = [stored.path for stored in served.gallery.image(request.image)]
    path = files[0] if files and request.path is None else path_of_text(request.path or "")
    if path not in files:
        raise Problem(404, f"no such image in the gallery {served.name!r}", "image-not-found")
    for part in request.parts:
        if part.picture is not None:
            check_known(server, served, part.picture)
    if request.fuse and request.fuse not in FUSIONS:
        raise Problem(422, f"fuse {request.fuse!r}: expected one of {', '.join(FUSIONS)}", "usage")
    gallery = served.gallery
    with own_words(served):
        asked = served.encoded.get(
            tuple((part.picture, part.text, part.box, part.weight, part.small) for part in request.parts),
            lambda: encode_query(gallery.encoder, _parts(server, served, request.parts)),
        )
        several = asked.part_vectors if len(request.parts) > 1 else ()
        parts = [gallery.explain_vector(vector, path) for vector in several]
        explained = each_by_itself(parts) if request.fuse and parts else gallery.explain_vector(asked.vector, path)
    return schemas.Explanation(
        image=request.image,
        path=text_of_path(path),
        size=explained.size,
        regions=_regions(explained.regions),
        parts=[_regions(part.regions) for part in parts],
    )


def each_by_itself(parts: Sequence[Explanation]) -> Explanation:
    """What the parts of a query say of an image that were asked for one by one: of each region, what fits it best.

    So the best region is the one that a hit has whose answers were put together, whatever its score was made of.
    """
    regions = [max(scores, key=lambda region: region.score) for scores in zip(*(p.regions for p in parts), strict=True)]
    return replace(parts[0], regions=tuple(regions), parts=tuple(parts))


@contextmanager
def own_words(served: ServedGallery) -> Iterator[None]:
    """Errors of the library that name the gallery by its folder name it as it is served; texts unread are refused."""
    try:
        yield
    except UsageError as error:
        problem = problem_of(error)
        raise Problem(422, _without_places(str(error), served), problem.kind) from error
    except EncoderError as error:
        if isinstance(served.gallery.encoder, TextEncoder):  # or it cannot be loaded, which is raised instead
            raise
        raise Problem(422, _without_places(str(error), served), "no-texts") from error


def places(under: Sequence[str]) -> list[str]:
    """Paths to search below, as they were sent.

    Raises:
        Problem: one is not absolute.
    """
    found = [path_of_text(each) for each in under]
    for path in found:
        if not is_whole_path(path):
            raise Problem(422, f"under {path!r}: expected the whole path of a folder or file", "usage")
    return found


def _parts(server: State, served: ServedGallery, parts: Sequence[schemas.Part]) -> tuple[QueryPart, ...]:
    return tuple(
        QueryPart(text=part.text, box=part.box, weight=part.weight, name=part.name, small=part.small)
        if part.picture is None
        else QueryPart(
            pixels_of(server, served, part.picture),
            box=part.box,
            weight=part.weight,
            name=part.name or _name_of(served, part.picture),
            small=part.small,
        )
        for part in parts
    )


def _name_of(served: ServedGallery, image: str) -> str:
    files = served.gallery.image(image)
    return files[0].path if files else f"picture {image[:8]}"


def _check_rerank(request: schemas.SearchRequest) -> None:
    for name in (part.strip().partition(":")[0] for part in request.rerank.split(",")):
        if name in RERANKERS and RERANKERS[name].needs:
            raise Problem(422, f"rerank {name}: it needs files of the server's, and cannot be asked for here", "usage")
    looks = parse_rerankers(request.rerank)
    for asked in looks:
        if asked.argument:
            raise Problem(422, f"rerank {asked.name}: files of the server's cannot be named here", "usage")
    if len(looks) > _MOST_LOOKS:
        raise Problem(422, f"rerank: at most {_MOST_LOOKS} second looks are taken here, not {len(looks)}", "usage")
    # Each part that is asked for by itself has second looks of its own.
    times = len(request.parts) if request.fuse else 1
    looked_at = times * sum(asked.depth for asked in looks)
    if looked_at > _MOST_LOOKED_AT:
        each = f", {times} parts each" if times > 1 else ""
        raise Problem(
            422,
            f"rerank: second looks are taken at {_MOST_LOOKED_AT:,} hits in all here, not at {looked_at:,} "
            f"({request.rerank}{each}); name fewer behind the colons",
            "usage",
        )


def _hits(served: ServedGallery, hits: Sequence[Hit]) -> list[schemas.Hit]:
    """Hits with the ids of their images; those that have just been removed are left out."""
    paths = [one.path for hit in hits for one in (hit, *hit.alike)]
    images = {stored.path: stored for stored in served.gallery.images(paths).images} if paths else {}

    def identified(plain: dict[str, Any]) -> dict[str, Any]:
        stored = images[plain["path"]]
        plain |= {"path": text_of_path(plain["path"]), "image": stored.digest, "metadata": stored.metadata}
        if "alike" in plain:
            plain["alike"] = [identified(other) for other in plain["alike"] if other["path"] in images]
        return plain

    plain = result_to_json("", None, hits)["hits"]
    return [schemas.Hit.model_validate(identified(hit)) for hit in plain if hit["path"] in images]


def _regions(regions: Sequence[RegionScore]) -> list[schemas.Region]:
    return [
        schemas.Region(box=region.box, level=region.level, cell=region.cell, score=round(region.score, 6))
        for region in regions
    ]


def _without_places(message: str, served: ServedGallery) -> str:
    encoder = str(served.info().encoder["id"])  # not that of the encoder itself, which it may be impossible to load
    shown = message.replace(f"the gallery {served.gallery.path}", f"the gallery {served.name!r}")
    return shown.replace(repr(encoder), repr(Path(encoder).name)).replace(str(served.gallery.path), served.name)
