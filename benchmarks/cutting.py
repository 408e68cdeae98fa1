"""How should regions be cut? Time and fidelity of four ways, and what decoding at reduced scale buys.

The reference decodes at full scale and resizes every crop on its own from full resolution. Fidelity is the
cosine between the reference's vectors and those of another way, over all regions of pyramid:3.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common import arguments, camera_photographs, photographs, report, seconds
from patchwise.encoders import load_encoder
from patchwise.images import RESAMPLING, Picture, cut_regions, read_picture
from patchwise.images.cut import shrink_factor
from patchwise.regions import Regions, View, parse_regions

STRATEGY = parse_regions("pyramid:3")
SIZE = 224
Cut = Callable[[Path], npt.NDArray[np.uint8]]


def full(path: Path) -> Picture:
    return read_picture(path)


def reduced(path: Path) -> Picture:
    return read_picture(path, shrink=lambda size: shrink_factor(STRATEGY.finest_side(View(size)), SIZE))


def each_crop(picture: Picture, regions: Regions, resampling: str) -> npt.NDArray[np.uint8]:
    """Crop and resize, nothing halved beforehand."""
    scale = picture.pixels.width / picture.size[0], picture.pixels.height / picture.size[1]
    boxes = np.rint(regions.boxes * np.array(scale * 2)).astype(int)
    crops = (picture.pixels.crop(tuple(box)).resize((SIZE, SIZE), RESAMPLING[resampling]) for box in boxes.tolist())
    return np.stack([np.asarray(crop) for crop in crops])


def whole_then_slice(picture: Picture, resampling: str) -> npt.NDArray[np.uint8]:
    """Resize the whole image once per level to (n * SIZE, n * SIZE), and slice that."""
    cells = []
    for n in (1, 2, 3, 4):
        resized = picture.pixels.resize((n * SIZE, n * SIZE), RESAMPLING[resampling], reducing_gap=2.0)
        grid = np.asarray(resized).reshape(n, SIZE, n, SIZE, 3).swapaxes(1, 2)
        cells.append(grid.reshape(-1, SIZE, SIZE, 3))
    return np.concatenate(cells)


def main() -> None:
    options = arguments(__doc__ or "", photos=12, repeats=3)
    encoder = load_encoder("builtin")
    resampling = encoder.resampling
    rows, details = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        camera = Path(temporary)
        camera_photographs(photographs(options.data / "subjects")[::9], camera, options.photos)
        ways: dict[str, tuple[Callable[[Path], Picture], Callable[[Picture, Regions], npt.NDArray[np.uint8]]]] = {
            "full decode, each crop (reference)": (full, lambda p, r: each_crop(p, r, resampling)),
            "full decode, halved copies (shipped cut)": (full, lambda p, r: cut_regions(p, r.boxes, SIZE, resampling)),
            "reduced decode, each crop": (reduced, lambda p, r: each_crop(p, r, resampling)),
            "reduced decode, whole image then slices": (reduced, lambda p, _: whole_then_slice(p, resampling)),
            "reduced decode, halved copies (shipped)": (
                reduced,
                lambda p, r: cut_regions(p, r.boxes, SIZE, resampling),
            ),
        }
        for name, paths in (
            ("12 megapixels", photographs(camera)),
            ("1 megapixel", photographs(options.data / "subjects")[:: 120 // options.photos]),
            ("0.2 megapixels", photographs(options.data / "logos" / "images")[::30][: options.photos]),
        ):
            reference: list[npt.NDArray[np.float32]] = []
            for way, (decode, cut) in ways.items():
                pictures = [decode(path) for path in paths]
                plans = [STRATEGY.regions(View(picture.size)) for picture in pictures]
                decoding = seconds(lambda decode=decode, paths=paths: [decode(path) for path in paths], options.repeats)
                cutting = seconds(
                    lambda cut=cut, pictures=pictures, plans=plans: [
                        cut(*pair) for pair in zip(pictures, plans, strict=True)
                    ],
                    options.repeats,
                )
                vectors = [encoder.encode(cut(*pair)) for pair in zip(pictures, plans, strict=True)]
                reference = reference or vectors
                cosine = np.concatenate([(a * b).sum(axis=1) for a, b in zip(vectors, reference, strict=True)])
                figures = {
                    "decode_ms": 1e3 * statistics.median(decoding) / len(paths),
                    "cut_ms": 1e3 * statistics.median(cutting) / len(paths),
                    "mean_cosine": float(cosine.mean()),
                    "worst_percent_cosine": float(np.percentile(cosine, 1)),
                }
                details[f"{name}: {way}"] = figures
                rows.append(
                    [
                        name,
                        way,
                        f"{figures['decode_ms']:.1f}",
                        f"{figures['cut_ms']:.1f}",
                        f"{figures['mean_cosine']:.4f}",
                        f"{figures['worst_percent_cosine']:.4f}",
                    ]
                )
    report(
        "cutting",
        f"Decoding and cutting 30 regions ({resampling}), one thread, milliseconds per photo; cosine of the vectors "
        "with the reference's, its mean and lowest percentile.",
        ["photos", "way", "decode ms", "cut ms", "mean cosine", "lowest 1 %"],
        rows,
        **details,
    )


if __name__ == "__main__":
    main()
