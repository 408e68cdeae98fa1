"""Index the scenes twice, as whole images and by regions, search both, look again, and show the difference."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from patchwise.boxes import iou_xyxy
from patchwise.demo.scenes import Objects, Scene, load_photographs, make_scenes
from patchwise.errors import StorageFull, UsageError
from patchwise.evaluation import average_precision, loc_score, mean_iou
from patchwise.gallery import Gallery
from patchwise.images import read_picture
from patchwise.report import ReportHit, ReportPart, ReportSection, contact_sheet, draw_hit, render_html
from patchwise.report.page import write_page
from patchwise.search import Hit

__all__ = ["DemoResult", "ObjectResult", "run_demo"]

GALLERIES = {"whole": "whole.pw", "pyramid:3": "patchify.pw"}
REFINED = "pyramid:3 + refine:8"
STRATEGIES = (*GALLERIES, REFINED)
_SHEET_OBJECTS = 3
_MARK = ".patchwise-demo"


@dataclass(frozen=True)
class ObjectResult:
    """One object under one of `STRATEGIES`: `found` of its `scenes` among as many hits, and full-ranking figures."""

    name: str
    strategy: str
    scenes: int
    found: int
    average_precision: float
    loc_score: float
    mean_iou: float


@dataclass(frozen=True)
class DemoResult:
    """All results, and the files written."""

    objects: list[ObjectResult]
    report: Path
    picture: Path
    galleries: dict[str, Path]


def run_demo(output: Path, progress: Callable[[str], None] = lambda _: None) -> DemoResult:
    """Make the scenes, index, search, and write `report.html` and `report.png` under `output`.

    Raises:
        MissingExtra: the packages that hold the photographs are not installed.
        UsageError: `output` holds files that are not the demo's.
        StorageFull: `output` cannot be written to.
    """
    objects = load_photographs()
    try:
        _claim(output)
        for stale in ("scenes", *GALLERIES.values()):
            shutil.rmtree(output / stale, ignore_errors=True)
        queries = _write_queries(output / "queries", objects)
        scenes = make_scenes(output / "scenes", objects)
    except OSError as error:
        raise StorageFull(f"{output}: cannot be written to ({error.strerror or error})") from error
    progress(
        f"composed {len(scenes)} scenes, {sum(scene.shows is not None for scene in scenes)} of them with an object"
    )

    galleries = {regions: output / name for regions, name in GALLERIES.items()}
    results: list[ObjectResult] = []
    rankings: dict[tuple[str, str], list[Hit]] = {}
    sections: list[ReportSection] = []
    for regions, place in galleries.items():
        with Gallery.create(place, regions=regions) as gallery:
            indexed = gallery.add(output / "scenes")
            progress(f"indexed with {regions}: {indexed.encoded_regions:,} regions in {indexed.seconds:.1f} s")
            for name, query in queries.items():
                for strategy in STRATEGIES:
                    strategy_regions, _, look = strategy.partition(" + ")
                    if strategy_regions == regions:
                        hits = gallery.search(query, k=len(scenes), rerank=look)
                        rankings[name, strategy] = hits
                        results.append(_judge(name, strategy, hits, scenes))
                if regions != "whole":
                    found = {result.strategy: result for result in results if result.name == name}
                    sections.append(_section(gallery, name, query, rankings[name, REFINED], scenes, found))
    picture = output / "report.png"
    _sheet(objects, rankings, results, scenes).save(picture)
    footer = "Photographs: scikit-image and scikit-learn sample images; dashed white boxes: where the object truly is."
    write_page(output / "report.html", render_html("patchwise demo: what regions find", sections, footer))
    return DemoResult(results, output / "report.html", picture, galleries)


def _claim(output: Path) -> None:
    """Mark the folder as the demo's, whose earlier results may be replaced."""
    mark = output / _MARK
    if output.exists() and not mark.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: holds files that are not the demo's, and is left alone; name another folder")
    output.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _write_queries(folder: Path, objects: Objects) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name.replace(' ', '_')}.png" for name in objects.queries}
    for name, path in paths.items():
        objects.queries[name].save(path)
    return paths


def _judge(name: str, strategy: str, hits: Sequence[Hit], scenes: Sequence[Scene]) -> ObjectResult:
    truth = {str(scene.path.absolute()): scene.box for scene in scenes if scene.shows == name}
    relevant = np.array([hit.path in truth for hit in hits])
    ious = np.array([_iou(hit, truth.get(hit.path)) for hit in hits])
    return ObjectResult(
        name=name,
        strategy=strategy,
        scenes=len(truth),
        found=int(relevant[: len(truth)].sum()),
        average_precision=average_precision(relevant, len(truth)),
        loc_score=loc_score(relevant, ious, len(truth)),
        mean_iou=mean_iou(relevant, ious),
    )


def _iou(hit: Hit, truth: tuple[float, float, float, float] | None) -> float:
    return 0.0 if truth is None else float(iou_xyxy(hit.box, truth)[0, 0])


def _section(
    gallery: Gallery,
    name: str,
    query: Path,
    hits: Sequence[Hit],
    scenes: Sequence[Scene],
    found: Mapping[str, ObjectResult],
) -> ReportSection:
    truth = {str(scene.path.absolute()): scene.box for scene in scenes if scene.shows == name}
    shown = []
    whole, regions, refined = (found[strategy] for strategy in STRATEGIES)
    for hit in hits[: regions.scenes + 2]:
        note = f"right image, IoU {_iou(hit, truth[hit.path]):.2f}" if hit.path in truth else "wrong image"
        picture = read_picture(Path(hit.path)).pixels
        shown.append(ReportHit(hit, gallery.explain(query, hit), picture, truth.get(hit.path), note))
    summary = (
        f"Hangs in {regions.scenes} scenes. Among the first {regions.scenes} hits, whole images find {whole.found}, "
        f"regions find {regions.found}, and after a second look {refined.found}: mean IoU of the boxes "
        f"{whole.mean_iou:.2f}, {regions.mean_iou:.2f} and {refined.mean_iou:.2f}."
    )
    asked = read_picture(query)
    return ReportSection(name, [ReportPart(asked.pixels, asked.size)], shown, summary)


def _sheet(
    objects: Objects,
    rankings: dict[tuple[str, str], list[Hit]],
    results: Sequence[ObjectResult],
    scenes: Sequence[Scene],
) -> Image.Image:
    """One row per object: the query, then the first hits by whole images, and by regions after a second look."""
    by_key = {(result.name, result.strategy): result for result in results}
    gain = {name: by_key[name, REFINED].found - by_key[name, "whole"].found for name in objects.queries}
    names = sorted(objects.queries, key=lambda name: -gain[name])[:_SHEET_OBJECTS]
    truth = {str(scene.path.absolute()): scene for scene in scenes}
    cells = []
    for name in names:
        cells.append((f"query: {name}", objects.queries[name]))
        for strategy, count in (("whole", 2), (REFINED, 3)):
            for hit in rankings[name, strategy][:count]:
                right = truth[hit.path].shows == name
                label = "whole image" if strategy == "whole" else "regions"
                drawn = draw_hit(read_picture(Path(hit.path)).pixels, hit.size, hit.box)
                cells.append((f"{label} #{hit.rank}: {'right' if right else 'wrong'}", drawn))
    return contact_sheet(cells, columns=6, cell=200)
