"""What every benchmark shares: real data, pictures of camera size, tables, and JSON with its circumstances."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from patchwise.regions import Pyramid, View
from patchwise.store import Encoded, Store

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DATA = Path(os.environ.get("PATCHWISE_SHARED_DATA", ROOT.parent / "shared" / "data"))
SEED = 0


def argument_parser(description: str, **numbers: int) -> argparse.ArgumentParser:
    """Reads `--data`, and one integer option per keyword."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with logos/, subjects/, distractors/")
    for name, value in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    return parser


def arguments(description: str, **numbers: int) -> argparse.Namespace:
    """What `argument_parser` reads."""
    return argument_parser(description, **numbers).parse_args()


def photographs(folder: Path) -> list[Path]:
    """Image files below a folder, by path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def camera_photographs(sources: Sequence[Path], target: Path, count: int, size: tuple[int, int] = (4000, 3000)) -> None:
    """Write `count` JPEGs of camera size: real photographs enlarged, with sensor noise, at quality 90."""
    target.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(SEED)
    for number in range(count):
        path = target / f"camera_{number:04d}.jpg"
        with Image.open(sources[number % len(sources)]) as image:
            large = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
        noise = generator.normal(0, 4, large.shape[:2]).astype(np.int16)[..., None]
        buffer = io.BytesIO()
        Image.fromarray((large + noise).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        path.write_bytes(buffer.getvalue())


def fill(store: Store, images: int, dimension: int) -> None:
    """Random unit vectors, 30 regions per image."""
    generator = np.random.default_rng(SEED)
    regions = Pyramid(3).regions(View((1024, 768)))
    with store.writer() as writer:
        for start in range(0, images, 1000):
            pictures = []
            for number in range(start, min(start + 1000, images)):
                vectors = generator.standard_normal((len(regions), dimension), dtype=np.float32)
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
                digest = number.to_bytes(16, "big")
                pictures.append(Encoded(f"/{number:06d}.jpg", 0, 0, digest, (1024, 768), regions, vectors))
            writer.add(pictures)


def seconds(function: Callable[[], Any], repeats: int) -> list[float]:
    """Wall times of `repeats` calls, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return times


def peak_memory_mib() -> float:
    """The most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def lines() -> Iterator[str]:
        for number, row in enumerate(cells):
            padded = [
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            yield f"| {' | '.join(padded)} |"
            if number == 0:
                yield (
                    "|"
                    + "|".join("-" * (width + 1) + ("-" if column == 0 else ":") for column, width in enumerate(widths))
                    + "|"
                )

    return list(lines())


def report(name: str, question: str, header: Sequence[str], rows: Sequence[Sequence[Any]], **details: Any) -> None:
    """Print a table and write it, with the raw figures in `details`, to results/NAME.json."""
    lines = table(header, rows)
    print(f"\n{question}\n")
    print("\n".join(lines), flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = {
        "benchmark": name,
        "question": question,
        "table": lines,
        "details": details,
        "seed": SEED,
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
            **{package: version(package) for package in ("numpy", "pillow", "onnxruntime")},
        },
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
