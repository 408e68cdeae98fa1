"""Files as answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import BinaryIO

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

__all__ = ["FileAnswer"]

_PIECE = 2**18


class FileAnswer(StreamingResponse):
    """An open file, sent a piece at a time, so that those who take it slowly need no memory; closed in the end."""

    def __init__(self, file: BinaryIO, media_type: str, headers: Mapping[str, str]) -> None:
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        pieces = iter(lambda: file.read(_PIECE), b"")
        super().__init__(pieces, headers={**headers, "Content-Length": str(length)}, media_type=media_type)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or of a HEAD request its headers alone."""
        with self._file:
            if scope["method"] == "HEAD":
                self._file.seek(0, os.SEEK_END)
            await super().__call__(scope, receive, send)
