"""How an ONNX network uses the cores of a processor best: slices of a batch on one thread each, or its own threads.

    python benchmarks/onnx_threads.py FILE...

Prints milliseconds per region, the best of several rounds, for files that `patchwise export-onnx` wrote.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import onnxruntime

from patchwise.encoders.sessions import InSlices

REGIONS, ROUNDS = 64, 4


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    cores = len(os.sched_getaffinity(0))
    for path in parser.parse_args().files:
        alone, together = session(path, 1), session(path, cores)
        entry = alone.get_inputs()[0]
        pixels = np.random.default_rng(0).integers(0, 256, (REGIONS, *entry.shape[1:]), dtype=np.uint8)
        ways = {f"slices of {size}, one thread each": (alone, size, cores) for size in (1, 2, 4, 8, 16, 32)}
        ways |= {f"batches of {size}, {cores} threads": (together, size, 1) for size in (1, 2, 4, 8, 16, 32)}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, (network, size, threads) in ways.items():
                run = InSlices(size, threads)
                start = time.perf_counter()
                run(lambda part, network=network, name=entry.name: network.run(None, {name: part})[0], pixels)
                times[name].append((time.perf_counter() - start) / REGIONS * 1000)
        print(f"{path.name}, {cores} cores")
        for name, found in times.items():
            print(f"  {name:32} {min(found):6.2f} ms per region")


if __name__ == "__main__":
    main()
