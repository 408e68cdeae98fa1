"""Which pictures become one row with `--collapse`? Copies of photographs, and other photographs of the same object.

Photographs are stored again in other qualities, sizes and lights, cropped, with something added, mirrored; the subjects
and the logos give different photographs of one object. For encoders whose cosines differ much: the built-in one, the
same before its whitening, and an ImageNet ViT (where torch is installed).

    python benchmarks/near_duplicates.py [--photographs N]
"""

from __future__ import annotations

import argparse
import io
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from common import DATA, SEED, photographs, report
from patchwise.encoders import load_backbone, load_encoder
from patchwise.encoders.whitening import normalised
from patchwise.errors import PatchwiseError
from patchwise.evaluation.datasets import read_benchmark
from patchwise.images import Picture, cut_regions, read_picture
from patchwise.regions import View, parse_regions
from patchwise.search import Hit
from patchwise.search.collapse import NEAR_DUPLICATE, collapsed, unrelated_likeness

Array = npt.NDArray[np.float32]
Encode = Callable[[Image.Image], Array]

THRESHOLDS = (0.6, 0.65, NEAR_DUPLICATE, 0.75, 0.8)
LOGO_PHOTOGRAPHS = 4  # of each logo
SAMPLE = 64


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


def cropped(image: Image.Image, share: float) -> Image.Image:
    across, down = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((across, down, image.width - across, image.height - down))


def with_logo(image: Image.Image) -> Image.Image:
    image, side = image.copy(), max(min(image.size) // 8, 6)
    x, y = image.width - 4, image.height - 4
    ImageDraw.Draw(image).ellipse((x - side, y - side, x, y), fill=(230, 30, 40), outline=(255, 255, 255))
    return image


def with_caption(image: Image.Image, below: int) -> Image.Image:
    """A caption over the lowest tenth, or in a band of so many pixels added below."""
    band = max(image.height // 10, 8)
    page = Image.new("RGB", (image.width, image.height + below), (255, 255, 255))
    page.paste(image)
    draw, top = ImageDraw.Draw(page), page.height - band
    draw.rectangle((0, top, page.width, page.height), fill=(255, 255, 255))
    draw.text((6, top + 1), "a caption, 2019", fill=(0, 0, 0), font=ImageFont.load_default(max(band // 2, 8)))
    return page


COPIES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 30": jpeg,
    "half the size": lambda image: image.resize((max(image.width // 2, 1), max(image.height // 2, 1))),
    "brighter by 15 %": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "darker by 15 %": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
    "contrast up 15 %": lambda image: ImageEnhance.Contrast(image).enhance(1.15),
    "contrast down 15 %": lambda image: ImageEnhance.Contrast(image).enhance(0.85),
    "cropped by 3 %": lambda image: cropped(image, 0.03),
    "small logo added": with_logo,
    "caption over it": lambda image: with_caption(image, 0),
    "caption below it": lambda image: with_caption(image, max(image.height // 10, 8)),
    "cropped by 10 %": lambda image: cropped(image, 0.10),
    "turned by 2 degrees": lambda image: cropped(image.rotate(2, Image.Resampling.BICUBIC), 0.08),
    "without colours": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "mirrored": ImageOps.mirror,
}


def encoders(data: Path) -> Iterator[tuple[str, Encode]]:
    strategy = parse_regions("pyramid:3")

    def by(encoder: Any) -> Encode:
        def encode(image: Image.Image) -> Array:
            boxes = strategy.regions(View(image.size)).boxes
            picture = Picture(image, image.size)
            crops = cut_regions(picture, boxes, encoder.input_size, encoder.resampling, encoder.fit)
            return normalised(encoder.encode(crops))

        return encode

    yield "built-in", by(load_encoder("builtin"))
    yield "built-in, not whitened", by(load_backbone("builtin")[0])
    weights = data / "weights" / "deit_tiny_patch16_224.timm.safetensors"
    try:
        yield "ImageNet ViT", by(load_encoder(f"timm:deit_tiny_patch16_224,weights={weights}"))
    except PatchwiseError as error:
        print(f"left out: {error}", flush=True)


def same_object(data: Path) -> Iterator[tuple[str, dict[str, list[Path]]]]:
    """Different photographs of one object, by object."""
    drawings = "red_cartoon"  # of one figure before white, with as many arms and legs as there are drawings
    subjects: dict[str, list[Path]] = {}
    for path in photographs(data / "subjects"):
        subjects.setdefault(path.parent.name, []).append(path)
    yield "photographs of one subject", {name: paths for name, paths in subjects.items() if name != drawings}
    yield "drawings of one figure", {drawings: subjects.get(drawings, [])}
    logos = read_benchmark("logos:no-distractors", data)
    shown = {query.group: sorted({*query.positives, *query.ignored}) for query in logos.queries}
    drawn = random.Random(SEED)
    yield (
        "photographs with one logo",
        {
            name: [logos.root / image for image in drawn.sample(images, LOGO_PHOTOGRAPHS)]
            for name, images in shown.items()
        },
    )


def measured(encode: Encode, originals: list[Path], data: Path) -> dict[str, Any]:
    """How alike all these are, from 0 as unrelated pictures are to 1."""
    opened = [read_picture(path).pixels for path in originals]
    stored = [encode(image) for image in opened]
    copies = {name: [encode(copied(image)) for image in opened] for name, copied in COPIES.items()}
    of_objects = {
        kind: [[encode(read_picture(path).pixels) for path in paths] for paths in objects.values()]
        for kind, objects in same_object(data)
    }
    everything = [*stored, *(each for objects in of_objects.values() for views in objects for each in views)]
    sample = random.Random(SEED).sample(everything, min(SAMPLE, len(everything)))
    unrelated = unrelated_likeness(sample)

    def alike(a: Array, b: Array) -> float:
        return (float((a * b).sum(axis=1).mean()) - unrelated) / (1 - unrelated)

    figures: dict[str, list[float]] = {
        name: [alike(a, b) for a, b in zip(stored, made, strict=True)] for name, made in copies.items()
    }
    for kind, objects in of_objects.items():
        figures[kind] = [alike(a, b) for views in objects for at, a in enumerate(views) for b in views[at + 1 :]]
    figures["unrelated photographs"] = [alike(a, b) for at, a in enumerate(stored) for b in stored[at + 1 :]]
    return {"unrelated": unrelated, "likeness": figures, "rows": rows_of(stored, copies, unrelated)}


def rows_of(stored: list[Array], copies: Mapping[str, list[Array]], unrelated: float) -> dict[str, int]:
    """Rows that are left of all photographs and copies as one list of hits, at random."""
    vectors = {f"{at} {name}": made[at] for name, made in {"": stored, **copies}.items() for at in range(len(stored))}
    names = random.Random(SEED).sample(sorted(vectors), len(vectors))
    hits = [Hit(rank, name, 0.0, (0, 0, 1, 1), 0, (0, 0), (1, 1), ()) for rank, name in enumerate(names, 1)]
    rows = collapsed(hits, lambda hit: vectors[hit.path], unrelated=unrelated)
    mixed = sum(len({hit.path.split()[0] for hit in (row, *row.alike)}) > 1 for row in rows)
    return {"photographs": len(stored), "hits": len(hits), "rows": len(rows), "rows of several photographs": mixed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/, subjects/, distractors/")
    parser.add_argument("--photographs", type=int, default=12, help="how many are stored again")
    options = parser.parse_args()
    files = photographs(options.data / "distractors")
    originals = [files[at] for at in np.random.default_rng(SEED).permutation(len(files))[: options.photographs]]
    rows, details = [], {}
    for encoder, encode in encoders(options.data):
        print(f"{encoder} ...", flush=True)
        details[encoder] = found = measured(encode, originals, options.data)
        for kind, likeness in found["likeness"].items():
            low, middle, high = np.quantile(likeness, [0, 0.5, 1]) if likeness else (np.nan,) * 3
            shares = [f"{100 * np.mean(np.array(likeness) >= least):.1f} %" for least in THRESHOLDS]
            rows.append((encoder, kind, len(likeness), f"{low:.2f}", f"{middle:.2f}", f"{high:.2f}", *shares))
        report(  # after each encoder, since the last one may take minutes
            "near_duplicates",
            "Pairs of a photograph and a copy, of photographs of one object, and of unrelated ones: how alike they "
            "are, from 0 as unrelated pictures to 1, and how many are one row from which likeness on "
            f"({NEAR_DUPLICATE} by default).",
            ("encoder", "pair", "pairs", "least", "median", "most", *(f"from {least:g}" for least in THRESHOLDS)),
            rows,
            **details,
        )


if __name__ == "__main__":
    main()
