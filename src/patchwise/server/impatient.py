"""Connections that are closed when nothing is asked over them: otherwise a thousand silent ones keep everybody out."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["ImpatientProtocol"]

_PATIENCE = 15.0  # seconds


class ImpatientProtocol(AutoHTTPProtocol):  # type: ignore[valid-type,misc]
    """Uvicorn's protocol, which itself waits for the head of a request for as long as it takes."""

    # What both of uvicorn's protocols have: the request that is answered, or was answered last.
    cycle: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection begins; from now on it is looked at again and again."""
        super().connection_made(transport)
        self.loop.call_later(_PATIENCE, self._look, False, None)

    def _look(self, was_silent: bool, last: Any) -> None:
        """Close the connection where nothing was asked since the last look, which found it silent already."""
        if self.transport.is_closing():
            return
        silent = self.cycle is None or self.cycle.response_complete
        if silent and self.cycle is last and (was_silent or last is None):
            self.transport.close()
            return
        self.loop.call_later(_PATIENCE, self._look, silent, self.cycle)
