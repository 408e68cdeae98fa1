"""Flat objects in perspective: posters (photographs) and covers (text and graphics), in scenes with exact boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common import SEED, photographs
from patchwise.boxes import Box
from patchwise.evaluation.datasets import Benchmark, Query
from patchwise.evaluation.datasets.synthetic_scenes import Condition, compose_scene

OBJECTS, VIEWS, EMPTY = 16, 4, 16
SHARE = (0.03, 0.35)  # of the scene
MOST_CLUTTER = 6
MOST_OCCLUSION = 0.3  # in half of the scenes
MOST_STOPS = 1.0
MOST_VIEWPOINT = 50.0
MOST_TURN = 20.0
COVER_SIZE = (480, 680)
WORDS = "night river stone garden winter letters salt harbour paper glass summer bridge silence lantern maps".split()  # noqa: SIM905


def posters(folder: Path) -> list[Image.Image]:
    """Assorted photographs."""
    return [opened(path) for path in shuffled(photographs(folder))[:OBJECTS]]


def covers(generator: np.random.Generator) -> list[Image.Image]:
    """Titles, names and small print over plain shapes."""
    return [cover(generator) for _ in range(OBJECTS)]


def cover(generator: np.random.Generator) -> Image.Image:
    width, height = COVER_SIZE

    def colour() -> tuple[int, int, int]:
        red, green, blue = generator.integers(0, 256, 3).tolist()
        return red, green, blue

    def words(count: int) -> str:
        return " ".join(generator.choice(WORDS, count).tolist())

    picture = Image.new("RGB", COVER_SIZE, colour())
    draw = ImageDraw.Draw(picture)
    for _ in range(int(generator.integers(3, 8))):
        x, y = generator.uniform(0, width), generator.uniform(0, height)
        extent = generator.uniform(0.1, 0.4, 2) * width
        corners = (x - extent[0], y - extent[1], x + extent[0], y + extent[1])
        (draw.ellipse if generator.random() < 0.5 else draw.rectangle)(
            corners, fill=colour(), outline=colour(), width=4
        )
    top = int(generator.uniform(0.05, 0.3) * height)
    for size, lines in ((60, 2), (30, 1), (16, 6)):
        ink = colour()
        for _ in range(lines):
            count = max(round(width / size / 3.2), 1)
            draw.text((30, top), words(count).title(), fill=ink, font=ImageFont.load_default(size))
            top += round(size * 1.3)
        top += int(generator.uniform(10, 60))
    return picture


def make_flat(name: str, objects: Sequence[Image.Image], backgrounds: Sequence[Image.Image], root: Path) -> Benchmark:
    """Each object in `VIEWS` scenes, and `EMPTY` scenes without any; every object is asked for by a photograph of
    its own, in which its box is drawn.

    All is drawn from one seed; scenes are 800 x 600.
    """
    generator = np.random.default_rng(SEED)
    for part in ("scenes", "queries"):
        (root / part).mkdir(parents=True, exist_ok=True)
    positives: list[dict[str, tuple[Box, ...]]] = [{} for _ in objects]
    ids = []
    order = generator.permutation(len(objects) * VIEWS + EMPTY)
    for number, place in enumerate(order.tolist()):
        which = place // VIEWS if place < len(objects) * VIEWS else None
        chosen = [backgrounds[index] for index in generator.permutation(len(backgrounds))[: MOST_CLUTTER + 2]]
        photo = None if which is None else objects[which]
        scene, box, _ = compose_scene(photo, condition(generator), chosen, generator)
        ids.append(f"scenes/{number:04d}.jpg")
        scene.save(root / ids[-1], quality=88)
        if which is not None and box is not None:
            positives[which][ids[-1]] = (box,)
    queries = []
    for number, photo in enumerate(objects):
        file = f"queries/{number:02d}.jpg"
        chosen = [backgrounds[index] for index in generator.permutation(len(backgrounds))[:2]]
        picture, box, _ = compose_scene(photo, as_asked(generator), chosen, generator)
        picture.save(root / file, quality=92)
        queries.append(Query(file, root / file, box, positives[number], group=f"{number:02d}"))
    return Benchmark(name, root, ids, queries)


def condition(generator: np.random.Generator) -> Condition:
    return Condition(
        size_share=float(np.exp(generator.uniform(*np.log(SHARE)))),
        reach=float(generator.random()),
        clutter=int(generator.integers(MOST_CLUTTER + 1)),
        occlusion=float(max(generator.uniform(-1, 1), 0) * MOST_OCCLUSION),
        light=float(generator.uniform(-MOST_STOPS, MOST_STOPS)),
        viewpoint=float(generator.uniform(0, MOST_VIEWPOINT)),
        turn=float(generator.uniform(-MOST_TURN, MOST_TURN)),
    )


def as_asked(generator: np.random.Generator) -> Condition:
    """Large, nearly from the front, in good light."""
    return Condition(
        size_share=0.4,
        reach=0.0,
        clutter=0,
        occlusion=0.0,
        light=float(generator.uniform(-0.3, 0.3)),
        viewpoint=float(generator.uniform(0, 15)),
        turn=float(generator.uniform(-3, 3)),
    )


def shuffled(paths: Sequence[Path]) -> list[Path]:
    return [paths[index] for index in np.random.default_rng(SEED).permutation(len(paths))]


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
