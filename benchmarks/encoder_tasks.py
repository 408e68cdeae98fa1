"""Three retrieval tasks for choosing an encoder, from the photographs of `--data`.

logos     every FlickrLogos-27 photo asks with one random box of each of its logos; gallery: all other logo photos,
          photos without logo, half of the distractors. LocScore is the continuous one.
subjects  every DreamBooth photo asks, whole; gallery: all other subject photos and the same distractors.
pasted    subject and logo crops pasted small (6 to 20 % of the area, off centre) into distractors and photos without
          logo; other views of the same thing ask. LocScore against the pasted box.

The other half of the distractors is in no gallery: whitening and calibration are learned from it.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Array = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]
REGIONS = 30


@dataclass(frozen=True)
class Picture:
    """A photo, or a photo with a crop of another one pasted into it."""

    path: Path
    group: str = ""
    source: Path | None = None
    source_box: Box = (0, 0, 0, 0)
    place: tuple[int, int, int, int] = (0, 0, 0, 0)

    def load(self) -> Image.Image:
        image = open_rgb(self.path)
        if self.source is not None:
            left, top, right, bottom = self.place
            crop = open_rgb(self.source).crop(tuple(int(v) for v in self.source_box))
            image.paste(crop.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
        return image


@dataclass
class Data:
    sets: dict[str, list[Picture]]  # galleries, cut into 30 regions each
    asks: dict[str, list[tuple[Picture, Box]]]  # one box each
    logos: dict[str, list[tuple[str, Box]]]  # file name: its boxes


def open_rgb(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return ImageOps.exif_transpose(file).convert("RGB")


def centre(path: Path, share: float = 0.7) -> Box:
    width, height = open_rgb(path).size
    low, high = (1 - share) / 2, (1 + share) / 2
    return (low * width, low * height, high * width, high * height)


def read_data(root: Path, seed: int, limit: int) -> Data:
    rng = np.random.default_rng(seed)
    boxes: dict[str, list[tuple[str, Box]]] = defaultdict(list)
    with (root / "logos/boxes.csv").open() as file:
        for row in csv.DictReader(file):
            corners = (float(row["x0"]), float(row["y0"]), float(row["x1"]), float(row["y1"]))
            boxes[row["file"]].append((row["label"], corners))
    plain_names = sorted(json.loads((root / "logos/without_logo.json").read_text())["none"])[:limit]
    photos = [Picture(root / "logos/images" / name) for name in sorted(boxes)][:limit]
    plain = [Picture(root / "logos/images" / name) for name in plain_names]
    distractors = [Picture(p) for p in sorted((root / "distractors").glob("*.jpg"))][: 2 * limit]
    subjects = [Picture(p, p.parent.name) for p in sorted((root / "subjects").glob("*/*.jpg"))][:limit]

    logo_asks: list[tuple[Picture, Box]] = []
    small: dict[str, list[tuple[Path, Box]]] = defaultdict(list)
    for photo in photos:
        by_label: dict[str, list[Box]] = defaultdict(list)
        for label, box in boxes[photo.path.name]:
            by_label[label].append(box)
        for label, found in sorted(by_label.items()):
            side = [min(b[2] - b[0], b[3] - b[1]) for b in found]
            usable = [b for b, s in zip(found, side, strict=True) if s >= 20] or [found[int(np.argmax(side))]]
            logo_asks.append((Picture(photo.path, label), usable[int(rng.integers(len(usable)))]))
            if max(side) >= 48:
                small[label].append((photo.path, found[int(np.argmax(side))]))
    subject_asks = [(s, centre(s.path)) for s in subjects]

    things: list[tuple[str, Path, Box]] = [(s.group, s.path, box) for s, box in subject_asks]
    pasted_asks = list(subject_asks)
    for label, found in sorted(small.items()):
        order = rng.permutation(len(found))
        things += [(label, *found[i]) for i in order[:7]]
        pasted_asks += [(Picture(found[i][0], label), found[i][1]) for i in order[7:13]]
    backgrounds = [*distractors[1::2], *plain]
    picks = rng.permutation(len(things))[: len(backgrounds)]
    scenes = [paste(b.path, things[i], rng) for b, i in zip(backgrounds, picks, strict=False)]
    known = {scene.group for scene in scenes}
    return Data(
        {"half A": distractors[::2], "half B": distractors[1::2], "logos": photos, "plain": plain}
        | {"subjects": subjects, "scenes": scenes},
        {"logos": logo_asks, "pasted": [(p, b) for p, b in pasted_asks if p.group in known]},
        boxes,
    )


def paste(background: Path, thing: tuple[str, Path, Box], rng: np.random.Generator) -> Picture:
    group, source, box = thing
    width, height = open_rgb(background).size
    aspect = (box[2] - box[0]) / (box[3] - box[1])
    area = rng.uniform(0.06, 0.20) * width * height
    h = min(min((area * aspect) ** 0.5, 0.8 * width) / aspect, 0.8 * height)
    w = h * aspect
    x = y = 0.0
    for _ in range(50):
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        if abs(x + w / 2 - width / 2) > 0.15 * width or abs(y + h / 2 - height / 2) > 0.15 * height:
            break
    return Picture(background, group, source, box, (int(x), int(y), int(x + w), int(y + h)))


def cells(size: tuple[int, int]) -> list[Box]:
    result: list[Box] = []
    for n in range(1, 5):
        xs, ys = ([int(i * side / n + 0.5) for i in range(n + 1)] for side in size)
        result += [(xs[c], ys[r], xs[c + 1], ys[r + 1]) for r in range(n) for c in range(n)]
    return result


def iou(boxes: Sequence[Box], target: Box) -> Array:
    a, b = np.asarray(boxes, np.float64), target
    width = np.clip(np.minimum(a[:, 2], b[2]) - np.maximum(a[:, 0], b[0]), 0, None)
    height = np.clip(np.minimum(a[:, 3], b[3]) - np.maximum(a[:, 1], b[1]), 0, None)
    union = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return (width * height / union).astype(np.float32)


@dataclass
class Task:
    gallery: tuple[str, ...]
    asks: str
    positive: npt.NDArray[np.bool_]  # (queries, pictures)
    ignored: npt.NDArray[np.bool_]
    groups: list[str]
    overlap: dict[str, Array] | None  # group: (pictures, 30) IoU of every cell with the truth


def build_tasks(data: Data) -> dict[str, Task]:
    galleries = {"logos": ("logos", "plain", "half B"), "subjects": ("subjects", "half B"), "pasted": ("scenes",)}
    asks = {**data.asks, "subjects": [(p, (0.0, 0.0, 0.0, 0.0)) for p in data.sets["subjects"]]}
    tasks: dict[str, Task] = {}
    for name, sets in galleries.items():
        pictures = [p for s in sets for p in data.sets[s]]
        groups = [query.group for query, _ in asks[name]]
        labels = [{b[0] for b in data.logos.get(p.path.name, [])} if name == "logos" else {p.group} for p in pictures]
        own = [p.path if p.source is None else p.source for p in pictures]
        ignored = np.array([[query.path == path for path in own] for query, _ in asks[name]])
        positive = np.array([[group in found for found in labels] for group in groups]) & ~ignored
        keep = positive.any(axis=1)
        overlap = None
        if name != "subjects":
            overlap = {g: np.zeros((len(pictures), REGIONS), np.float32) for g in set(groups)}
            for i, picture in enumerate(pictures):
                grid = cells(open_rgb(picture.path).size)
                truth = data.logos.get(picture.path.name, []) if name == "logos" else [(picture.group, picture.place)]
                for label, box in truth:
                    if label in overlap:
                        overlap[label][i] = np.maximum(overlap[label][i], iou(grid, box))
        tasks[name] = Task(sets, name, positive & keep[:, None], ignored, groups, overlap)
    return tasks


def measure(task: Task, queries: Array, gallery: Array, regions: int) -> Array:
    """Per query: R@1, AP, LocScore (all in [0, 1]); queries without a positive are left out as NaN."""
    result = np.full((len(queries), 3), np.nan, np.float32)
    vectors = gallery.reshape(-1, REGIONS, gallery.shape[1])[:, :regions]
    scores = np.einsum("qd,nrd->qnr", queries, vectors, optimize=True)
    best, place = scores.max(axis=2), scores.argmax(axis=2)
    best[task.ignored] = -np.inf
    for q, group in enumerate(task.groups):
        order = np.argsort(-best[q], kind="stable")
        relevant = task.positive[q, order]
        if relevant.any():
            gain = relevant * np.cumsum(relevant) / np.arange(1, len(order) + 1) / relevant.sum()
            where = 0.0 if task.overlap is None else task.overlap[group][order, place[q, order]]
            result[q] = relevant[0], gain.sum(), (gain * where).sum()
    return result


def standard_error(task: Task, difference: Array, rounds: int = 500) -> float:
    """Of the mean difference over queries, by resampling whole groups (labels, subjects)."""
    rng = np.random.default_rng(0)
    by = [difference[[g == name for g in task.groups]] for name in sorted(set(task.groups))]
    draws = [np.nanmean(np.concatenate([by[i] for i in rng.integers(len(by), size=len(by))])) for _ in range(rounds)]
    return float(np.std(draws))
