"""How much of the encoder's speed is left when files must also be found, read, decoded, cut and stored?

The encoder alone, on batches prepared beforehand and with the same threads, is measured before and after each run. The
limit for both on the same cores follows from it and from the rate of decoding and cutting alone: the times per region
add up when no core ever idles.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from common import arguments, camera_photographs, peak_memory_mib, photographs, report
from patchwise import Gallery
from patchwise.encoders import load_encoder
from patchwise.images import cut_regions, read_picture
from patchwise.indexing import walk
from patchwise.indexing.run import prepared_ahead
from patchwise.regions import View, parse_regions


def encoder_rate(pictures: list[Path], repeats: int = 6) -> float:
    """Regions per second of the encoder alone."""
    encoder, strategy = load_encoder("builtin"), parse_regions("pyramid:3")
    crops = []
    for path in pictures:
        picture = read_picture(path)
        crops.append(cut_regions(picture, strategy.regions(View(picture.size)).boxes, 224, encoder.resampling))
    together = np.concatenate(crops)
    batches = [together[start : start + encoder.batch_size] for start in range(0, len(together), encoder.batch_size)]
    encoder.encode(batches[0])
    began = time.perf_counter()
    for _ in range(repeats):
        for batch in batches:
            encoder.encode(batch)
    return repeats * sum(map(len, batches)) / (time.perf_counter() - began)


def preparing_rate(pictures: list[Path]) -> float:
    """Regions per second of reading, decoding and cutting alone, as an indexing run does it."""
    encoder, strategy = load_encoder("builtin"), parse_regions("pyramid:3")
    began = time.perf_counter()
    regions = sum(len(picture.regions) for picture in prepared_ahead(walk(pictures).files, encoder, strategy))
    return regions / (time.perf_counter() - began)


def indexing_rate(folder: Path) -> tuple[float, float, int]:
    """Regions per second of a whole indexing run, its seconds, and the images stored."""
    with tempfile.TemporaryDirectory() as place, Gallery.create(Path(place) / "g.pw") as gallery:
        gallery.encoder.encode(
            cut_regions(read_picture(photographs(folder)[0]), parse_regions("whole").regions(View((64, 64))).boxes, 224)
        )
        done = gallery.add(folder)
        return done.encoded_regions / done.seconds, done.seconds, done.added


def memory_of_indexing(folder: Path) -> float:
    """Peak memory in MiB of a process that does nothing but index."""
    with tempfile.TemporaryDirectory() as place:
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from common import peak_memory_mib\nfrom patchwise import Gallery\n"
            f"Gallery.create({place!r} + '/g.pw').add({str(folder)!r})\nprint(peak_memory_mib())"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return float(done.stdout)


def main() -> None:
    options = arguments(__doc__ or "", photos=200, rounds=3)
    rows, details = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        camera = Path(temporary) / "camera"
        camera_photographs(photographs(options.data / "subjects"), camera, options.photos)
        for name, folder in (
            (f"{options.photos} photos of 12 megapixels", camera),
            ("logos (about 0.2 megapixels)", options.data / "logos" / "images"),
        ):
            sample = photographs(folder)[:8]
            alone, limits, whole = [], [], []
            for _ in range(options.rounds):
                before = encoder_rate(sample)
                rate, _, images = indexing_rate(folder)
                alone.append((before + encoder_rate(sample)) / 2)
                limits.append(1 / (1 / alone[-1] + 1 / preparing_rate(photographs(folder)[:40])))
                whole.append(rate)
            share = statistics.median(a / b for a, b in zip(whole, alone, strict=True))
            share_of_limit = statistics.median(a / b for a, b in zip(whole, limits, strict=True))
            memory = memory_of_indexing(folder)
            rows.append(
                [
                    name,
                    images,
                    f"{statistics.median(alone):.0f}",
                    f"{statistics.median(whole):.0f}",
                    f"{100 * share:.0f} %",
                    f"{statistics.median(limits):.0f}",
                    f"{100 * share_of_limit:.0f} %",
                    f"{memory:,.0f}",
                ]
            )
            details[name] = {
                "share": share,
                "share_of_limit": share_of_limit,
                "encoder_rates": alone,
                "limits": limits,
                "indexing_rates": whole,
                "peak_memory_mib": memory,
            }
    report(
        "indexing_rate",
        f"Indexing against the encoder alone (pyramid:3, 30 regions per image), median of {options.rounds} rounds. "
        "Rates in regions per second; the limit is that of encoding, decoding and cutting with no core ever idle; peak "
        "memory is of a process that only indexes.",
        ["pictures", "images", "encoder alone", "indexing", "share", "limit", "share of limit", "peak MiB"],
        rows,
        **details,
        this_process_peak_mib=peak_memory_mib(),
    )


if __name__ == "__main__":
    main()
