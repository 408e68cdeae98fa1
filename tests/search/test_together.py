"""Many threads, few passes: everybody gets their own answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from patchwise.search import Candidates, together
from patchwise.search.together import Together


class Gate:
    """A pass that waits until it is let go, and notes what it was asked; the answer to a query is its first number."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[float, int]]] = []
        self.allowed: list[list[np.ndarray | None]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(
        self, queries: np.ndarray, ks: Sequence[int], allowed: Sequence[np.ndarray | None]
    ) -> list[Candidates]:
        self.asked.append(list(zip(queries[:, 0].tolist(), ks, strict=True)))
        self.allowed.append(list(allowed))
        self.begun.set()
        assert self.go.wait(20)
        if (queries < 0).any():
            raise ValueError("a negative query")
        return [
            Candidates(np.arange(k), np.full(k, query[0], np.float32)) for query, k in zip(queries, ks, strict=True)
        ]


def query(*numbers: float) -> np.ndarray:
    return np.array([[number, 0] for number in numbers], dtype=np.float32)


def all_wait(shared: Together, count: int) -> None:
    for _ in range(2_000):
        with shared._lock:
            if len(shared._waiting) >= count:
                return
        threading.Event().wait(0.005)
    raise AssertionError(f"not {count} queries wait")


def test_those_that_come_during_a_pass_share_the_next() -> None:
    gate = Gate()
    shared = Together()
    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(shared.top, gate, query(9), 3)
        assert gate.begun.wait(20)
        others = {
            number: threads.submit(shared.top, gate, query(number, number + 0.5), number) for number in range(1, 6)
        }
        all_wait(shared, 5)
        gate.go.set()
        assert [found.scores.tolist() for found in first.result()] == [[9.0] * 3]
        for number, other in others.items():
            found = other.result()
            assert [each.scores.tolist() for each in found] == [[number] * number, [number + 0.5] * number]
    assert len(gate.asked) == 2 and gate.asked[0] == [(9.0, 3)]
    assert sorted(gate.asked[1]) == [(number + more, number) for number in range(1, 6) for more in (0, 0.5)]


def test_no_pass_is_larger_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_QUERIES_AT_ONCE", 4)
    gate = Gate()
    shared = Together()
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(shared.top, gate, query(9), 1)
        assert gate.begun.wait(20)
        others = [threads.submit(shared.top, gate, query(number), 1) for number in range(6)]
        others.append(threads.submit(shared.top, gate, query(*range(10, 17)), 1))  # larger than that by itself
        all_wait(shared, 7)
        gate.go.set()
        assert [other.result()[0].scores[0] for other in others] == [0, 1, 2, 3, 4, 5, 10]
        assert len(others[-1].result()) == 7 and len(first.result()) == 1
    sizes = sorted(len(asked) for asked in gate.asked)
    assert sizes[0] == 1 and sizes[-1] == 7 and all(size <= 4 for size in sizes[:-1])
    assert sum(sizes) == 14


def test_a_query_that_fails_fails_for_nobody_else() -> None:
    gate = Gate()
    shared = Together()
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(shared.top, gate, query(9), 1)
        assert gate.begun.wait(20)
        good = [threads.submit(shared.top, gate, query(number), 1) for number in range(1, 4)]
        bad = threads.submit(shared.top, gate, query(-1), 1)
        all_wait(shared, 4)
        gate.go.set()
        assert [each.result()[0].scores[0] for each in (first, *good)] == [9, 1, 2, 3]
        with pytest.raises(ValueError, match="negative"):
            bad.result()
    assert shared._waiting == []


def test_those_who_share_a_pass_each_allow_what_they_want() -> None:
    gate = Gate()
    shared = Together()
    masks = {number: np.arange(4) < number if number % 2 else None for number in range(1, 5)}
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(shared.top, gate, query(9), 1, masks[1])
        assert gate.begun.wait(20)
        others = [threads.submit(shared.top, gate, query(number, -0.0), 2, masks[number]) for number in masks]
        all_wait(shared, len(others))
        gate.go.set()
        for each in (first, *others):
            each.result()
    assert gate.allowed[0] == [masks[1]] and len(gate.allowed) == 2
    numbers = [number for number, _ in gate.asked[1]]
    for place in range(0, len(numbers), 2):
        assert gate.allowed[1][place] is gate.allowed[1][place + 1] is masks[int(numbers[place])]
