"""What is said of this machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from patchwise.machine import free_memory, memory, processors


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to processors")
def test_processors_are_those_that_this_process_may_use() -> None:
    everything = os.sched_getaffinity(0)
    assert processors() == len(everything)
    try:
        os.sched_setaffinity(0, {min(everything)})
        assert processors() == 1
    finally:
        os.sched_setaffinity(0, everything)


def test_memory_is_plausible_and_some_of_it_is_taken() -> None:
    assert 2**27 < memory() < 2**50
    assert 2**24 < free_memory() < memory()


_MANY_THREADS = """
import ctypes, sys, threading
from patchwise.machine import one_heap
if sys.argv[1] == "one":
    one_heap()
together = threading.Barrier(8)
def take():
    together.wait()
    taken = [bytes(5_000) for _ in range(2_000)]
    together.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives each thread a heap")
def test_all_threads_take_memory_from_one_heap() -> None:
    heaps = {}
    for which in ("one", "many"):
        told = subprocess.run(
            [sys.executable, "-c", _MANY_THREADS, which], capture_output=True, text=True, timeout=60, check=True
        )
        heaps[which] = told.stderr.count("Arena")
    assert heaps["one"] == 1 < heaps["many"]
