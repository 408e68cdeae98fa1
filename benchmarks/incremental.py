"""What does indexing again cost when nothing has changed?

The limit is walking the same folder and asking for each file's size and time, which no change detection can do without.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from common import SEED, arguments, report, seconds
from patchwise import Gallery


def main() -> None:
    options = arguments(__doc__ or "", images=10_000, repeats=5)
    generator = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        for number in range(options.images):
            place = folder / f"{number // 500:03d}"
            place.mkdir(parents=True, exist_ok=True)
            coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(place / f"{number:05d}.jpg")
        with Gallery.create(Path(temporary) / "g.pw", regions="whole") as gallery:
            began = time.perf_counter()
            gallery.add(folder)
            first = time.perf_counter() - began
        encoded = []

        def again() -> None:
            with Gallery.open(Path(temporary) / "g.pw") as gallery:
                encoded.append(gallery.add(folder).encoded_regions)

        def walk() -> None:
            for root, _, names in os.walk(folder):
                for name in names:
                    os.stat(os.path.join(root, name))

        second, limit = (
            statistics.median(seconds(again, options.repeats)),
            statistics.median(seconds(walk, options.repeats)),
        )
        if any(encoded):
            raise SystemExit(f"an unchanged folder was encoded again: {encoded}")
    rows = [
        ["first index, whole images (the cheapest there is)", f"{first:.2f}", "1"],
        ["second index, nothing changed", f"{second:.3f}", f"1/{first / second:,.0f}"],
        ["os.walk and os.stat (the limit)", f"{limit:.3f}", f"1/{first / limit:,.0f}"],
    ]
    report(
        "incremental",
        f"Indexing {options.images:,} unchanged files of 320 x 240 again; no region is encoded.",
        ["run", "seconds", "of the first"],
        rows,
        first=first,
        second=second,
        limit=limit,
    )


if __name__ == "__main__":
    main()
