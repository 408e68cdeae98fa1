"""Work on all processors: in order, with its exceptions, within itself, and one thread of FAISS each."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time

import faiss
import pytest

from patchwise.machine import processors
from patchwise.threads import in_threads, on_one_thread


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_results_come_in_order(count: int) -> None:
    """However long each takes."""

    def slower_at_first(number: int) -> int:
        time.sleep(0.0005 * (7 - number % 8))
        return number * number

    assert list(in_threads(slower_at_first, range(count))) == [number * number for number in range(count)]


def test_items_may_come_from_a_generator() -> None:
    assert list(in_threads(str, (number for number in range(3)))) == ["0", "1", "2"]


def test_work_is_done_by_other_threads_side_by_side() -> None:
    """As many as there are processors wait for each other here, and none for ever."""
    together = threading.Barrier(processors())

    def meet(_: int) -> str:
        together.wait(timeout=20)
        return threading.current_thread().name

    names = list(in_threads(meet, range(processors())))
    assert len(set(names)) == processors()
    assert all(name.startswith("patchwise") for name in names)


def test_an_exception_comes_through_where_its_result_would() -> None:
    def picky(number: int) -> int:
        if number == 3:
            raise KeyError("three")
        return number

    results = in_threads(picky, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="three"):
        next(results)
    with pytest.raises(KeyError):
        on_one_thread(lambda: picky(3))
    assert list(in_threads(picky, [1, 2])) == [1, 2]  # the pool goes on


def test_within_itself_it_does_not_wait_for_itself() -> None:
    """More of it than there are threads, three deep."""

    def deeper(number: int, depth: int = 3) -> int:
        if not depth:
            return number
        return sum(in_threads(lambda each: deeper(each, depth - 1), [number] * 4))

    result: list[list[int]] = []
    caller = threading.Thread(target=lambda: result.append(list(in_threads(deeper, range(4 * processors())))))
    caller.daemon = True
    caller.start()
    caller.join(timeout=30)
    assert result == [[64 * number for number in range(4 * processors())]]


def test_many_callers_at_once() -> None:
    answers: dict[int, list[int]] = {}

    def call(number: int) -> None:
        answers[number] = list(in_threads(lambda item: item + number, range(50)))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=30)
    assert answers == {number: [item + number for item in range(50)] for number in range(8)}


def test_faiss_has_one_thread_inside_and_as_many_as_before_outside() -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        assert set(in_threads(lambda _: faiss.omp_get_max_threads(), range(20))) == {1}
        assert on_one_thread(faiss.omp_get_max_threads) == 1
        assert on_one_thread(lambda: on_one_thread(faiss.omp_get_max_threads)) == 1
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_one_result() -> None:
    assert on_one_thread(lambda: "done") == "done"
    assert on_one_thread(threading.current_thread) is not threading.current_thread()


def _squares(queue: multiprocessing.Queue[list[int]]) -> None:
    queue.put(list(in_threads(lambda number: number * number, range(5))))


@pytest.mark.skipif(sys.platform != "linux", reason="children are made by fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_made_by_fork_has_threads_of_its_own() -> None:
    """Those of its parent were not copied: waiting for them would last for ever."""
    assert list(in_threads(abs, [-1])) == [1]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_squares, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=30) == [0, 1, 4, 9, 16]
        child.join(timeout=30)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
