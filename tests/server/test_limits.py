"""The pool of threads and the end of its queue."""

from __future__ import annotations

import asyncio
import threading

import pytest

from patchwise.server.limits import Overloaded, Pool, StillWanted


def test_more_than_the_queue_holds_is_refused_at_once_and_the_rest_is_done() -> None:
    pool, gate = Pool(threads=1, queue=2), threading.Event()

    def work(number: int) -> int:
        assert gate.wait(10)
        return number

    async def several() -> list[int | BaseException]:
        tasks = [asyncio.ensure_future(pool.run(work, number)) for number in range(3)]
        await asyncio.sleep(0.05)
        assert (pool.running, pool.waiting) == (1, 2)
        with pytest.raises(Overloaded):
            await pool.run(work, 3)
        gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(several()) == [0, 1, 2]
    assert (pool.running, pool.waiting, pool.refused, pool.finished) == (0, 0, 1, 3)
    pool.close()


def test_what_nobody_waits_for_any_more_leaves_the_queue() -> None:
    pool, gate = Pool(threads=1, queue=5), threading.Event()
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        assert gate.wait(10)

    async def abandoned() -> None:
        first = asyncio.ensure_future(pool.run(work, 1))
        second = asyncio.ensure_future(pool.run(work, 2))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.wait([second])
        assert pool.waiting == 0
        gate.set()
        await first

    asyncio.run(abandoned())
    pool.close()
    assert begun == [1]


def test_errors_come_through() -> None:
    pool = Pool(1, 1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(pool.run(lambda: 1 // 0))
    assert pool.running == 0
    pool.close()


def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    pool, done = Pool(threads=1, queue=5), []

    async def several() -> None:
        tasks = [asyncio.ensure_future(pool.run(done.append, number)) for number in range(3)]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(pool.close)
        with pytest.raises(Overloaded):
            await pool.run(done.append, 3)
        await asyncio.gather(*tasks)

    asyncio.run(several())
    assert done == [0, 1, 2]


def test_closing_does_not_wait_for_ever() -> None:
    pool, gate = Pool(threads=1, queue=5), threading.Event()

    async def stuck() -> bool:
        asked = asyncio.ensure_future(pool.run(gate.wait, 10))
        await asyncio.sleep(0.05)
        ended = pool.close(0.1)
        gate.set()
        await asked
        return ended

    assert asyncio.run(stuck()) is False


def test_an_answer_is_wanted_until_whoever_asked_has_gone_or_the_server_has_long_been_asked_to_end() -> None:
    stopping = threading.Event()
    one, other, at_once = StillWanted(stopping, 60), StillWanted(stopping, 60), StillWanted(stopping, 0)
    assert one() and other() and at_once()
    one.gone.set()
    assert not one() and other()
    stopping.set()
    assert other() and not at_once()
