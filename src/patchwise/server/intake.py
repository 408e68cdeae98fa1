"""What comes in at a time: bytes of requests' bodies, whose sum is bounded however many send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from patchwise.server.limits import Overloaded

__all__ = ["INTAKE_THREADS", "Intake"]

INTAKE_THREADS = 4
"""Requests whose uploads are read and decoded at a time; others wait without taking memory for it."""

_PATIENCE = 30.0  # seconds
_RETRY_AFTER = 5


class Intake:
    """Bytes that bodies under way may have together; those that find no room wait, unread.

    Args:
        most: bytes; a body of more has to come alone.
        patience: seconds that one waits.
    """

    def __init__(self, most: int, patience: float = _PATIENCE) -> None:
        self._most, self._patience = most, patience
        self._taken = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def taking(self, size: int) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        """Keep room for a body of so many bytes while in the block; yields what gives back all but some of it.

        Raises:
            Overloaded: there was none in time.
        """
        taken = min(size, self._most)

        async def keep(left: int) -> None:
            nonlocal taken
            if left < taken:
                taken, more = left, taken - left
                self._taken -= more
                async with self._changed:
                    self._changed.notify_all()

        if taken and not self._take(taken):
            async with self._changed:
                try:
                    await asyncio.wait_for(self._changed.wait_for(lambda: self._take(taken)), self._patience)
                except asyncio.TimeoutError:
                    raise Overloaded(_RETRY_AFTER) from None
        try:
            yield keep
        finally:
            await keep(0)

    def _take(self, size: int) -> bool:
        if self._taken + size > self._most:
            return False
        self._taken += size
        return True
