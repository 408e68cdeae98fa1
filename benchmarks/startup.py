"""How long does the command line take to answer, beyond starting Python?"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common import arguments, report


def main() -> None:
    options = arguments(__doc__ or "", repeats=15)
    script = shutil.which("patchwise", path=str(Path(sys.executable).parent)) or "patchwise"
    commands = {
        "python -c pass (the limit)": [sys.executable, "-c", "pass"],
        "python -c 'import patchwise'": [sys.executable, "-c", "import patchwise"],
        "patchwise --help": [script, "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.repeats + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    base = medians["python -c pass (the limit)"]
    rows = [[name, f"{1e3 * taken:.0f}", f"{1e3 * (taken - base):+.0f}"] for name, taken in medians.items()]
    report(
        "startup",
        f"Start-up, median of {options.repeats} runs.",
        ["command", "ms", "beyond Python"],
        rows,
        seconds=medians,
        extra_seconds=medians["patchwise --help"] - base,
    )


if __name__ == "__main__":
    main()
