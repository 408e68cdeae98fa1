"""Objects that cover 0.5 to 2 % of a scene: what finds them, and what does it cost?

Scenes of 1,024 x 768 pixels: a photograph, six other pictures as clutter, and one object in another view than that of
the query, turned, relit and with soft edges. Flat pictures (the sample photographs of the synthetic benchmark, and
others), logos (real crops from different photographs) and subjects (different photographs of the same thing).

- finer pyramids, stored for all images;
- the query as it shows when it is small: half of its vector is that of the query at 0.35 of the side, on grey;
- zoom: the best region of the first hits looked at again by windows of half its side.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from common import SEED, arguments, photographs, report
from patchwise import Gallery
from patchwise.boxes import Box, box_iou
from patchwise.encoders import Encoder, load_encoder
from patchwise.evaluation import average_precision
from patchwise.evaluation.datasets import Benchmark, Query
from patchwise.evaluation.datasets.synthetic import load_photographs
from patchwise.evaluation.datasets.synthetic_scenes import photograph_object, relight
from patchwise.images import read_picture
from patchwise.rerank import Question
from patchwise.rerank.zoom import Zoom
from patchwise.search import Hit

SIZE = (1024, 768)
SHARE = (0.0057, 0.02)
CLUTTER_SHARE = (0.005, 0.04)
CLUTTER = 6
EMPTY = 52
VIEWS = 4  # scenes of each object
MOST_TURN = 10.0
MOST_STOPS = 0.5
POSTERS = 8
KINDS = ("flat", "logo", "subject")
FINEST = 7  # of the stored pyramids
STORED = (3, 4, 5, 7)
# Hits that are looked at again, in one look after the other, by whether the query is shown small as well.
ZOOMED = {False: ((50,),), True: ((20,), (50,), (30, 15))}
SMALL_SIDE = 0.35
AROUND = (124, 116, 104)  # the mean of ImageNet
WITHIN = 50
HEADER = ["method", "R@1", *KINDS, "mAP", f"recall@{WITHIN}", "mean IoU"]
HEADER += ["regions", "KiB / image", "calls / query", "s / query"]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Object:
    """`asked` is the query; `shown` are other views of it, one for each scene."""

    name: str
    kind: str
    asked: Image.Image
    shown: Sequence[Image.Image]


def flat_objects(photos: Mapping[str, tuple[Image.Image, Image.Image]], generator: np.random.Generator) -> list[Object]:
    """Pictures seen nearly from the front, each time at its own angle and in its own light."""
    return [
        Object(
            f"flat {name}",
            "flat",
            photograph_object(asked, generator),
            [photograph_object(shown, generator) for _ in range(VIEWS)],
        )
        for name, (asked, shown) in photos.items()
    ]


def logo_objects(folder: Path) -> list[Object]:
    """The largest crop of each logo, asked for in the largest crops from other photographs."""
    crops: dict[str, dict[str, tuple[float, Box]]] = {}
    with (folder / "boxes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            x0, y0, x1, y1 = (float(row[edge]) for edge in ("x0", "y0", "x1", "y1"))
            own = crops.setdefault(row["label"], {})
            own[row["file"]] = max(own.get(row["file"], (0.0, (0.0,) * 4)), ((x1 - x0) * (y1 - y0), (x0, y0, x1, y1)))
    found = []
    for label, photos in sorted(crops.items()):
        best = sorted(photos.items(), key=lambda item: (-item[1][0], item[0]))[: VIEWS + 1]
        asked, *shown = [opened(folder / "images" / name).crop(box) for name, (_, box) in best]
        found.append(Object(f"logo {label}", "logo", asked, shown))
    return found


def subject_objects(folder: Path) -> list[Object]:
    """The middle of a photograph of each subject, asked for in the middles of other photographs."""
    found = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        asked, *shown = [middle(opened(path)) for path in photographs(place)]
        found.append(Object(f"subject {place.name}", "subject", asked, shown))
    return found


def middle(photo: Image.Image) -> Image.Image:
    width, height = photo.size
    return photo.crop((width // 10, height // 10, width - width // 10, height - height // 10))


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def make_scenes(folder: Path, data: Path, seed: int = SEED) -> Benchmark:
    """Write scenes and queries below `folder`: each object in up to `VIEWS` scenes, with clutter of its size.

    The backgrounds, the clutter and some of the flat pictures are different photographs.
    """
    generator = np.random.default_rng(seed)
    others = [path for path in photographs(data / "distractors") if min(Image.open(path).size) >= 300]
    order = [others[index] for index in generator.permutation(len(others))]
    posters, pool, walls = order[:POSTERS], order[POSTERS : POSTERS + 60], order[POSTERS + 60 :]
    samples = load_photographs()
    flat = {name: (samples.asked[name], samples.shown[name]) for name in samples.asked}
    flat |= {path.stem: (opened(path),) * 2 for path in posters}
    objects = [
        *flat_objects(flat, generator),
        *logo_objects(data / "logos"),
        *subject_objects(data / "subjects"),
    ]
    plan: list[tuple[Object, Image.Image] | None] = [(each, view) for each in objects for view in each.shown[:VIEWS]]
    plan += [None] * EMPTY
    (folder / "scenes").mkdir(parents=True)
    (folder / "queries").mkdir()
    truth: dict[str, dict[str, tuple[Box, ...]]] = {}
    names, attributes = [], {}
    for number, index in enumerate(generator.permutation(len(plan))):
        scene = wall(opened(walls[number % len(walls)]), generator)
        for at in generator.choice(len(pool), CLUTTER, replace=False):
            style = KINDS[generator.integers(len(KINDS))]
            hang(scene, middle(opened(pool[at])), style, CLUTTER_SHARE, generator)
        name = f"scenes/{number:04d}.jpg"
        item = plan[index]
        if item is not None:
            shown, view = item
            box = hang(scene, view, shown.kind, SHARE, generator)
            truth.setdefault(shown.name, {})[name] = (box,)
            attributes[name] = {"size_share": (box[2] - box[0]) * (box[3] - box[1]) / (SIZE[0] * SIZE[1])}
        scene.save(folder / name, quality=90)
        names.append(name)
    queries = []
    for each in objects:
        path = folder / "queries" / f"{each.name.replace(' ', '_')}.jpg"
        each.asked.save(path, quality=95)
        queries.append(Query(path.stem, path, None, truth[each.name], group=each.kind))
    return Benchmark("small objects", folder, names, queries, attributes=attributes)


def wall(photo: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A photograph that fills the scene, with the sensor noise that enlarging it leaves out."""
    aspect = SIZE[0] / SIZE[1]
    width = min(photo.width, photo.height * aspect)
    height = width / aspect
    x, y = generator.uniform(0, photo.width - width), generator.uniform(0, photo.height - height)
    large = photo.resize(SIZE, Image.Resampling.BICUBIC, box=(x, y, x + width, y + height))
    noise = generator.normal(0, 4, (SIZE[1], SIZE[0], 1))
    return Image.fromarray((np.asarray(large) + noise).clip(0, 255).astype(np.uint8))


def hang(
    scene: Image.Image, view: Image.Image, kind: str, shares: tuple[float, float], generator: np.random.Generator
) -> Box:
    """Paste a view, turned a little, in other light and with soft edges; returns the box that encloses it."""
    aspect = float(np.clip(view.width / view.height, 0.4, 2.5))
    area = np.exp(generator.uniform(*np.log(shares))) * SIZE[0] * SIZE[1]
    turn = generator.uniform(-MOST_TURN, MOST_TURN)
    sine, cosine = np.sin(np.radians(abs(turn))), np.cos(np.radians(turn))
    # The box of a turned rectangle (a, 1) is (a cos + sin) x (a sin + cos).
    height = (
        np.sqrt(area / ((aspect * cosine + sine) * (aspect * sine + cosine)))
        if kind != "subject"
        else np.sqrt(area / aspect)
    )
    size = (max(round(height * aspect), 8), max(round(height), 8))
    small = relight(view.resize(size, Image.Resampling.LANCZOS), generator.uniform(-MOST_STOPS, MOST_STOPS), generator)
    mask = Image.new("L", size, 0)
    edge = max(round(0.04 * min(size)), 1)
    draw = ImageDraw.Draw(mask)
    frame = (edge, edge, size[0] - 1 - edge, size[1] - 1 - edge)
    if kind == "subject":
        draw.ellipse(frame, fill=255)
    elif kind == "logo":
        draw.rounded_rectangle(frame, radius=3 * edge, fill=255)
    else:
        draw.rectangle((0, 0, *size), fill=255)
    small.putalpha(mask.filter(ImageFilter.GaussianBlur(edge / 2)) if kind != "flat" else mask)
    small = small.rotate(turn, Image.Resampling.BICUBIC, expand=True)
    small = small.crop(small.getchannel("A").point(lambda value: 255 * (value > 32)).getbbox())
    x, y = (int(generator.integers(0, whole - part + 1)) for whole, part in zip(SIZE, small.size, strict=True))
    scene.paste(small, (x, y), small)
    return (float(x), float(y), float(x + small.width), float(y + small.height))


def query_vectors(encoder: Encoder, queries: Sequence[Query], small: bool) -> Floats:
    """(Q, dimension) float32 of unit length."""
    side = encoder.input_size
    shown = []
    for query in queries:
        picture = opened(query.image)
        shown.append(picture.resize((side, side), Image.Resampling.BILINEAR))
        if small:
            inner = round(SMALL_SIDE * side)
            shown.append(Image.new("RGB", (side, side), AROUND))
            shown[-1].paste(picture.resize((inner, inner), Image.Resampling.LANCZOS), ((side - inner) // 2,) * 2)
    vectors = encoder.encode(np.stack([np.asarray(each) for each in shown]))
    summed = vectors.reshape(len(queries), -1, encoder.dimension).sum(axis=1)
    unit: Floats = summed / np.linalg.norm(summed, axis=1, keepdims=True)
    return unit


def figures(benchmark: Benchmark, rankings: Sequence[Sequence[tuple[str, Box]]]) -> dict[str, float]:
    """R@1 in all and by kind, mAP, the positives among the first `WITHIN`, and their mean IoU."""
    first, precision, within, ious = [], [], [], []
    for query, ranking in zip(benchmark.queries, rankings, strict=True):
        relevant = np.array([image in query.positives for image, _ in ranking])
        first.append(bool(relevant[0]))
        precision.append(average_precision(relevant, len(query.positives)))
        within.append(relevant[:WITHIN].sum() / len(query.positives))
        ious += [box_iou(box, query.positives[image][0]) for image, box in ranking if image in query.positives]
    kinds = np.array([query.group for query in benchmark.queries])
    by_kind = {f"R@1 {kind}": float(np.mean(np.array(first)[kinds == kind])) for kind in KINDS}
    means = {"mAP": precision, f"recall@{WITHIN}": within, "mean IoU": ious}
    return {"R@1": float(np.mean(first)), **by_kind, **{name: float(np.mean(values)) for name, values in means.items()}}


def stored(gallery: Gallery, benchmark: Benchmark, vectors: Floats, regions: int) -> list[list[tuple[str, Box]]]:
    """Rankings by the first `regions` regions of each image."""
    snapshot, _ = gallery.current(recall=1.0)
    scores, boxes = [], []
    for name in benchmark.image_ids:
        picture = snapshot.index_of_path(str(benchmark.root / name))
        if picture is None:
            raise SystemExit(f"{name} was not indexed")
        cosines = vectors @ snapshot.vectors(picture)[:regions].astype(np.float32).T
        scores.append(cosines.max(axis=1))
        boxes.append(snapshot.regions(picture).boxes[cosines.argmax(axis=1)])
    rankings = []
    for at, order in enumerate(np.argsort(-np.array(scores), axis=0, kind="stable").T):
        rankings.append([(benchmark.image_ids[index], tuple(boxes[index][at].tolist())) for index in order])
    return rankings  # type: ignore[return-value]


def zoomed(gallery: Gallery, vectors: Floats, answers: Sequence[Sequence[Hit]], depth: int) -> list[list[Hit]]:
    """The same hits after a second look at the first `depth` of each query."""
    looker = Zoom(gallery.encoder, lambda hit: read_picture(Path(hit.path)), depth=depth)
    return [looker.rerank(Question(vector), hits) for vector, hits in zip(vectors, answers, strict=True)]


def named(benchmark: Benchmark, answers: Sequence[Sequence[Hit]]) -> list[list[tuple[str, Box]]]:
    return [[(str(Path(hit.path).relative_to(benchmark.root)), hit.box) for hit in hits] for hits in answers]


class Counted:
    """An encoder that counts what it is shown."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self.calls = encoder, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        self.calls += len(pixels)
        return self._encoder.encode(pixels)


def main() -> None:
    options = arguments(__doc__ or "")
    rows, details = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        benchmark = make_scenes(root / "scenes", options.data)
        counted = Counted(load_encoder("builtin"))
        galleries = {}
        for level in (3, FINEST):
            gallery = Gallery.create(root / f"{level}.pw", encoder=counted, regions=f"pyramid:{level}")  # type: ignore[arg-type]
            gallery.add_listed(benchmark.root, benchmark.image_ids)
            galleries[level] = gallery
        per_region = galleries[FINEST].info().bytes_per_image / sum((n + 1) ** 2 for n in range(FINEST + 1))

        def row(name: str, small: bool, level: int, depths: Sequence[int] = ()) -> None:
            regions = sum((n + 1) ** 2 for n in range(level + 1))
            counted.calls, began = 0, time.perf_counter()
            vectors = query_vectors(counted, benchmark.queries, small)  # type: ignore[arg-type]
            if depths:
                answers = list(galleries[level].search_vectors(vectors, k=len(benchmark.image_ids)))
                for depth in depths:
                    answers = zoomed(galleries[level], vectors, answers, depth)
                found = figures(benchmark, named(benchmark, answers))
            else:
                found = figures(benchmark, stored(galleries[FINEST], benchmark, vectors, regions))
            asked = len(benchmark.queries)
            found |= {
                "regions per image": regions,
                "KiB per image": regions * per_region / 1024,
                "encoder calls per query": counted.calls / asked,
                "seconds per query": (time.perf_counter() - began) / asked,
            }
            details.append({"method": name, **found})
            shares = [
                100 * found[key] for key in ("R@1", *(f"R@1 {kind}" for kind in KINDS), "mAP", f"recall@{WITHIN}")
            ]
            rows.append(
                [
                    name,
                    *(f"{share:.1f}" for share in shares),
                    f"{found['mean IoU']:.3f}",
                    regions,
                    f"{found['KiB per image']:.1f}",
                    f"{found['encoder calls per query']:.0f}",
                    f"{found['seconds per query']:.2f}",
                ]
            )

        for small in (False, True):
            extra = ", query shown small as well" if small else ""
            for level in STORED:
                row(f"L{level}{extra}", small, level)
            for depths in ZOOMED[small]:
                row(f"L3{extra}, {','.join(f'zoom:{depth}' for depth in depths)}", small, 3, depths)
        for gallery in galleries.values():
            gallery.close()
    shares = [each["size_share"] for each in benchmark.attributes.values()]
    report(
        "small_objects",
        f"Objects of {100 * min(shares):.1f} to {100 * max(shares):.1f} % of the image: {len(benchmark.queries)} "
        f"queries, each against {len(benchmark.image_ids)} scenes of {SIZE[0]:,} x {SIZE[1]}; built-in encoder.",
        HEADER,
        rows,
        methods=details,
        object_share={"least": min(shares), "median": float(np.median(shares)), "most": max(shares)},
    )


if __name__ == "__main__":
    main()
