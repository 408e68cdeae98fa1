"""Run every benchmark, one after the other, then write the pages."""

from __future__ import annotations

import subprocess
import sys

from common import ROOT
from make_docs import ORDER

SECOND_LOOKS = (
    "verdict",
    "refine",
    "small_objects",
    "geometric_rule",
    "geometric",
    "expansion",
    "near_duplicates",
    "ames",
)


def main() -> None:
    for name in (*ORDER, *SECOND_LOOKS, "evaluation", "dense_encoding", "make_docs"):
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, str(ROOT / "benchmarks" / f"{name}.py")], check=True)


if __name__ == "__main__":
    main()
