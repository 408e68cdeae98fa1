"""Which proposals find things best, and what do they cost? Recall of the ground-truth boxes of logo photographs.

For each box, the best IoU among the first 30, 100 and 300 regions of its photograph, the whole image included. Half of
the photographs are for choosing, the other half for reporting; the shipped strategy was chosen on the former. The
other candidates live here only:

- Edge Boxes (Zitnick and Dollar, ECCV 2014) in OpenCV's implementation, on gradients of the colours instead of learned
  edges, whose model is not at hand;
- maximally stable regions of each colour channel;
- dense windows ranked by how much denser edges are inside than around;
- the same windows ranked by how much the built-in encoder's own 14 x 14 features differ inside from around.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from PIL import Image

from common import DATA, ROOT, report
from patchwise.boxes import area_xyxy, iou_xyxy
from patchwise.regions import SelectiveSearch, View, parse_regions

COUNTS = (30, 100, 300)
SMALL = 0.05
FEATURES = "_blocks.10._project_conv"
Floats = npt.NDArray[np.floating[Any]]
Propose = Callable[[Image.Image, int], Floats]


def photographs(logos: Path) -> dict[Path, Floats]:
    """Distinct boxes of each photograph: (N, 4) xyxy."""
    boxes: dict[str, dict[tuple[float, ...], None]] = defaultdict(dict)
    with (logos / "boxes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            box = tuple(float(row[edge]) for edge in ("x0", "y0", "x1", "y1"))
            if box[2] > box[0] and box[3] > box[1]:
                boxes[row["file"]][box] = None
    return {logos / "images" / name: np.array(list(found)) for name, found in sorted(boxes.items())}


def strategy(name: str, image: Image.Image, count: int) -> Floats:
    return parse_regions(name).regions(View(image.size, "", image)).boxes[:count]


def selective(image: Image.Image, count: int) -> Floats:
    return SelectiveSearch(count).regions(View(image.size, "", image)).boxes


def reduced(image: Image.Image, side: int) -> tuple[npt.NDArray[np.uint8], Floats]:
    """The picture with its longer side at most `side`, and what its xyxy must be multiplied with."""
    scale = min(side / max(image.size), 1.0)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    back = (image.width / size[0], image.height / size[1])
    return cv2.resize(np.asarray(image), size, interpolation=cv2.INTER_AREA), np.array(back * 2)


def gradients(picture: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Magnitude and direction (0 to pi) of the strongest gradient among the Lab channels."""
    lab = cv2.cvtColor(cv2.GaussianBlur(picture, (0, 0), 1.0), cv2.COLOR_RGB2LAB).astype(np.float32)
    x, y = cv2.Sobel(lab, cv2.CV_32F, 1, 0), cv2.Sobel(lab, cv2.CV_32F, 0, 1)
    strongest = (x**2 + y**2).argmax(axis=2)[..., None]
    x, y = (np.take_along_axis(part, strongest, axis=2)[..., 0] for part in (x, y))
    return np.hypot(x, y), np.mod(np.arctan2(y, x), np.pi).astype(np.float32)


def edge_boxes(image: Image.Image, count: int, *, side: int = 192, suppression: float = 0.45) -> Floats:
    picture, back = reduced(image, side)
    magnitude, direction = gradients(picture)
    padded = np.pad(magnitude, 1)
    height, width = magnitude.shape

    def neighbours(dy: int, dx: int) -> Floats:
        ahead = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        return np.maximum(ahead, padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width])

    along = np.rint(direction / (np.pi / 4)).astype(int) % 4
    rivals = np.choose(along, [neighbours(0, 1), neighbours(1, 1), neighbours(1, 0), neighbours(1, -1)])
    thin = np.where(magnitude >= rivals, magnitude, 0) / max(float(np.percentile(magnitude, 99)), 1e-6)
    search = cv2.ximgproc.createEdgeBoxes(
        alpha=0.55, beta=suppression, eta=1, maxBoxes=count, minBoxArea=100, edgeMinMag=0.1, minScore=0.0
    )
    found = np.asarray(search.getBoundingBoxes(np.minimum(thin, 1).astype(np.float32), direction)[0], dtype=float)
    found = found.reshape(-1, 4)
    return with_whole(np.hstack([found[:, :2], found[:, :2] + found[:, 2:]]) * back, image, count)


def stable_regions(image: Image.Image, count: int) -> Floats:
    picture, back = reduced(image, 256)
    search = cv2.MSER_create(min_area=30)
    channels = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), *cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2LAB))[1:]]
    found = [np.asarray(search.detectRegions(channel)[1], dtype=float).reshape(-1, 4) for channel in channels]
    boxes = np.unique(np.concatenate(found), axis=0)
    boxes = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    return with_whole(ranked(boxes, area_xyxy(boxes), 0.7) * back, image, count)


def by_edges(image: Image.Image, count: int) -> Floats:
    picture, back = reduced(image, 256)
    magnitude, _ = gradients(picture)
    boxes = windows((magnitude.shape[1], magnitude.shape[0]))
    inside, around = sums(magnitude, boxes)
    return with_whole(ranked(boxes, inside - around, 0.6) * back, image, count)


def by_features(image: Image.Image, count: int) -> Floats:
    pixels = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC))[None]
    maps = feature_session().run(None, {"pixels": pixels})[0][0].astype(np.float32)
    maps -= maps.mean(axis=(1, 2), keepdims=True)
    unlikeness = cv2.resize(np.sqrt((maps**2).sum(axis=0)), (224, 224), interpolation=cv2.INTER_LINEAR)
    boxes = windows((224, 224))
    inside, around = sums(unlikeness, boxes)
    back = np.array((image.width / 224, image.height / 224) * 2)
    return with_whole(ranked(boxes, inside - around, 0.6) * back, image, count)


@cache
def feature_session() -> ort.InferenceSession:
    """The shipped encoder, asked for a layer within instead of its descriptor."""
    model = onnx.load(ROOT / "src" / "patchwise" / "encoders" / "weights" / "efficientnet_lite0.onnx")
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, None))
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def windows(size: tuple[int, int]) -> Floats:
    """Windows of seven sizes and three shapes, moved by a quarter of their sides."""
    found = []
    for side in np.geomspace(0.08, 0.75, 7) * max(size):
        for shape in (0.5, 1.0, 2.0):
            width, height = side * np.sqrt(shape), side / np.sqrt(shape)
            if width <= size[0] and height <= size[1]:
                x, y = np.meshgrid(
                    *(np.arange(0, end - w, w / 4) for end, w in zip(size, (width, height), strict=True))
                )
                found.append(np.stack([x, y, x + width, y + height], axis=-1).reshape(-1, 4))
    return np.concatenate(found)


def sums(values: Floats, boxes: Floats) -> tuple[Floats, Floats]:
    """Mean of a map inside boxes, and in the frame around them that is half as wide as they are."""
    integral = cv2.integral(np.asarray(values, dtype=np.float32))
    limits = np.array((values.shape[1], values.shape[0]) * 2)

    def total(edges: Floats) -> tuple[Floats, Floats]:
        x0, y0, x1, y1 = np.clip(np.rint(edges), 0, limits).astype(int).T
        held = integral[y1, x1] - integral[y0, x1] - integral[y1, x0] + integral[y0, x0]
        return held, np.maximum((x1 - x0) * (y1 - y0), 1)

    margin = (boxes[:, 2:] - boxes[:, :2]) / 2
    (inner, inner_area), (outer, outer_area) = total(boxes), total(boxes + np.hstack([-margin, margin]))
    return inner / inner_area, (outer - inner) / np.maximum(outer_area - inner_area, 1)


def ranked(boxes: Floats, scores: Floats, suppression: float, limit: int = max(COUNTS)) -> Floats:
    """Best score first, without those that overlap a better one by an IoU of `suppression`."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    free = np.ones(len(boxes), dtype=bool)
    for index in order:
        if free[index]:
            kept.append(int(index))
            free &= iou_xyxy(boxes[index], boxes)[0] < suppression
            if len(kept) == limit:
                break
    return boxes[kept]


def with_whole(boxes: Floats, image: Image.Image, count: int) -> Floats:
    return np.vstack([[(0, 0, *image.size)], boxes])[:count]


CANDIDATES: dict[str, Propose] = {
    **{name: partial(strategy, name) for name in ("pyramid:3", "sliding:3:0.5", "sliding:3:0.25")},
    "windows by edges": by_edges,
    "windows by encoder features": by_features,
    "stable regions": stable_regions,
    "Edge Boxes": edge_boxes,
    "proposals:selective:COUNT": selective,
}


def judge(propose: Propose, photos: dict[Path, Floats]) -> dict[str, Any]:
    """Recall at IoU 0.5 of all boxes and of small ones, mean best IoU, regions and milliseconds, by count."""
    best: dict[int, list[float]] = defaultdict(list)
    small: list[bool] = []
    regions: list[int] = []
    elapsed = 0.0
    for path, truth in photos.items():
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        began = time.process_time()
        found = propose(image, max(COUNTS))
        elapsed += time.process_time() - began
        overlap = iou_xyxy(truth, found)
        for count in COUNTS:
            best[count] += overlap[:, :count].max(axis=1).tolist()
        small += (area_xyxy(truth) < SMALL * image.width * image.height).tolist()
        regions.append(len(found))
    figures: dict[str, Any] = {
        "regions": float(np.mean(regions)),
        "milliseconds": 1e3 * elapsed / len(photos),
        "boxes": len(small),
        "small_boxes": sum(small),
    }
    for count in COUNTS:
        ious = np.array(best[count])
        figures[str(count)] = {
            "recall": float((ious >= 0.5).mean()),
            "recall_of_small": float((ious[small] >= 0.5).mean()),
            "mean_best_iou": float(ious.mean()),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/")
    parser.add_argument("--photos", type=int, default=10_000, help="how many of each half at most")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    photos = photographs(options.data / "logos")
    halves = {
        name: {path: photos[path] for path in list(photos)[start::2][: options.photos]}
        for name, start in (("choosing", 0), ("reporting", 1))
    }
    details: dict[str, Any] = {"halves": {name: len(half) for name, half in halves.items()}}
    rows = []
    for name, propose in CANDIDATES.items():
        figures = {half: judge(propose, chosen) for half, chosen in halves.items()}
        details[name] = figures
        reported = figures["reporting"]
        cells = [
            f"{reported[str(count)]['recall']:.2f} ({reported[str(count)]['recall_of_small']:.2f}) "
            f"{reported[str(count)]['mean_best_iou']:.2f}"
            for count in COUNTS
        ]
        rows.append([name, f"{reported['regions']:.0f}", f"{reported['milliseconds']:.1f}", *cells])
        print(name, *(f"{half}: {found['100']['recall']:.3f}" for half, found in figures.items()), flush=True)
    boxes = details["proposals:selective:COUNT"]["reporting"]
    report(
        "region_proposals",
        f"Ground-truth boxes of {len(halves['reporting'])} logo photographs ({boxes['boxes']} boxes, "
        f"{boxes['small_boxes']} of them under {SMALL:.0%} of the photograph) against the first 30, 100 and 300 "
        "regions: recall at IoU 0.5 (of the small boxes in brackets), then the mean best IoU. Milliseconds are "
        "processor time for up to 300 regions, without decoding.",
        ["regions", "at most 300", "CPU ms per image", *(f"first {count}" for count in COUNTS)],
        rows,
        **details,
    )


if __name__ == "__main__":
    main()
