"""What is said of this machine."""

from __future__ import annotations

import os

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
