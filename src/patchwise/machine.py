"""What this machine has: processors and memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

__all__ = ["free_memory", "memory", "one_heap", "processors"]

_M_ARENA_MAX = -8  # of mallopt(3)
_WITHOUT_WORD = 8 * 2**30  # bytes of memory where the system tells nothing


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory that the machine has in all."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _WITHOUT_WORD


def free_memory() -> int:
    """Bytes of memory that can be taken without pushing other programs out."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return memory() // 2


def one_heap() -> None:
    """Let all threads of this process take memory from the same heap (glibc; elsewhere nothing happens).

    Otherwise each thread keeps what it has freed for itself: many threads that take large arrays in turn come to hold
    several times the memory that any of them needs. To be called before there are other threads.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
