"""Working ahead: in order, and never further than what may wait in memory."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from patchwise.indexing import ahead as module
from patchwise.indexing.ahead import WAITING_BYTES, ahead, waiting_count
from patchwise.indexing.passes import passes_of
from patchwise.regions import Pyramid, RegionStrategy


def test_results_come_in_order_and_never_exceed_their_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES", 500)
    worked: list[int] = []
    for number, result in enumerate(ahead(lambda item: (worked.append(item), -item)[1], range(50), 100, workers=4)):
        assert result == -number
        assert len(worked) <= number + 5
    assert number == 49


def test_no_thread_is_left_when_the_caller_stops() -> None:
    results = ahead(str, range(50), 1)
    assert next(results) == "0"
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("patchwise-decode")]


@pytest.mark.parametrize(
    ("bytes_each", "count"), [(1, 64), (WAITING_BYTES // 10, 10), (WAITING_BYTES, 2), (9 * WAITING_BYTES, 2)]
)
def test_what_waits_is_bounded_by_its_bytes(bytes_each: int, count: int) -> None:
    assert waiting_count(bytes_each) == count


@pytest.mark.parametrize(
    ("input_size", "strategy", "count"),
    [(16, Pyramid(0), 64), (512, Pyramid(3), WAITING_BYTES // (30 * 512 * 512 * 3)), (4096, Pyramid(7), 2)],
)
def test_waiting_pictures_are_counted_by_their_regions(
    fake_encoder: Any, input_size: int, strategy: RegionStrategy, count: int
) -> None:
    fake_encoder.input_size = input_size
    assert waiting_count(passes_of(fake_encoder).input_bytes(strategy)) == count
