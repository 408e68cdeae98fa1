"""Do regions find and localise small objects better than whole images, on real photographs?

FlickrLogos-27: the query is the largest box of each logo in each photo; the gallery is every other photo, those
without a logo, and the distractors. R@1, mAP (rectangles, full ranking) and continuous LocScore, with 95 % bootstrap
intervals over queries.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common import SEED, arguments, report
from patchwise import Gallery
from patchwise.boxes import Box, area_xyxy, iou_xyxy
from patchwise.evaluation import average_precision, loc_score, mean_iou, pass_share

GALLERIES = {
    "whole images": {"regions": "whole"},
    "Patchify L1": {"regions": "pyramid:1"},
    "Patchify L2": {"regions": "pyramid:2"},
    "Patchify L3": {"regions": "pyramid:3"},
    "whole images, gallery whitening": {"regions": "whole", "whitening": "gallery"},
    "Patchify L3, gallery whitening": {"regions": "pyramid:3", "whitening": "gallery"},
}
METRICS = ("R@1", "mAP", "LocScore", "mean IoU", "pass share at 0.3")


def read_boxes(folder: Path) -> dict[str, dict[str, list[Box]]]:
    """Boxes by label, then by photo path."""
    boxes: dict[str, dict[str, list[Box]]] = defaultdict(lambda: defaultdict(list))
    with (folder / "boxes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            box = tuple(float(row[edge]) for edge in ("x0", "y0", "x1", "y1"))
            if box[2] > box[0] and box[3] > box[1]:
                boxes[row["label"]][str((folder / "images" / row["file"]).resolve())].append(box)  # type: ignore[arg-type]
    return boxes


def judge(gallery: Gallery, boxes: dict[str, dict[str, list[Box]]]) -> npt.NDArray[np.float64]:
    """One row of METRICS per query."""
    asked = [
        (label, path, max(found, key=lambda box: float(area_xyxy(box))))
        for label, photos in sorted(boxes.items())
        for path, found in sorted(photos.items())
    ]
    answers = gallery.search_many(((path, box) for _, path, box in asked), k=len(gallery))
    figures = []
    for (label, own, _), answer in zip(asked, answers, strict=True):
        if answer.error is not None:
            raise SystemExit(answer.error)
        hits = [hit for hit in answer.hits if hit.path != own]
        truth = {path: found for path, found in boxes[label].items() if path != own}
        relevant = np.array([hit.path in truth for hit in hits])
        ious = np.array([iou_xyxy(hit.box, truth[hit.path]).max() if hit.path in truth else 0.0 for hit in hits])
        figures.append(
            [
                float(relevant[0]),
                average_precision(relevant, len(truth)),
                loc_score(relevant, ious, len(truth)),
                mean_iou(relevant, ious),
                pass_share(relevant, ious, 0.3),
            ]
        )
    return np.array(figures)


def main() -> None:
    options = arguments(__doc__ or "", resamples=2000)
    logos = options.data / "logos"
    boxes = read_boxes(logos)
    if not json.loads((logos / "without_logo.json").read_text(encoding="utf-8")):
        raise SystemExit("without_logo.json names no photo")
    generator = np.random.default_rng(SEED)
    rows, details, per_query = [], {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, how in GALLERIES.items():
            with Gallery.create(Path(temporary) / f"{len(rows)}.pw", **how) as gallery:
                gallery.add(logos / "images", options.data / "distractors")
                figures = per_query[name] = judge(gallery, boxes)
                size = gallery.info().bytes_per_image
            draws = generator.integers(0, len(figures), (options.resamples, len(figures)))
            low, high = np.percentile(figures[draws].mean(axis=1), [2.5, 97.5], axis=0)
            means = figures.mean(axis=0)
            rows.append(
                [
                    name,
                    *(
                        f"{100 * mean:.1f} ({100 * lo:.1f}-{100 * hi:.1f})"
                        for mean, lo, hi in zip(means[:3], low, high, strict=False)
                    ),
                    *(f"{mean:.3f}" for mean in means[3:]),
                    f"{size / 1024:.1f}",
                ]
            )
            details[name] = dict(zip(METRICS, means.tolist(), strict=True)) | {"bytes_per_image": size}
            images = len(set((logos / "images").iterdir())) + len(list((options.data / "distractors").iterdir()))
    gain = per_query["Patchify L3"] - per_query["whole images"]
    draws = generator.integers(0, len(gain), (options.resamples, len(gain)))
    low, high = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5], axis=0)
    details["paired gain of L3 over whole images"] = {
        metric: {"mean": float(gain[:, i].mean()), "low": float(low[i]), "high": float(high[i])}
        for i, metric in enumerate(METRICS)
    }
    report(
        "logos",
        f"FlickrLogos-27 (18 logos): {len(gain)} box queries, each against {images - 1} images; "
        "95 % intervals over queries.",
        ["gallery", "R@1", "mAP", "LocScore", "mean IoU", "IoU > 0.3", "KiB / image"],
        rows,
        **details,
    )
    for i, metric in enumerate(METRICS[:3]):
        interval = f"({100 * low[i]:+.1f} to {100 * high[i]:+.1f})"
        print(f"L3 over whole images, {metric}: {100 * gain[:, i].mean():+.1f} {interval}")


if __name__ == "__main__":
    main()
