"""Query pictures: named by the hash of their bytes, and sent only when the server does not have them yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from patchwise.boxes import box_edges
from patchwise.client.connection import Connection
from patchwise.client.problems import NotThere
from patchwise.errors import ImageError, UsageError
from patchwise.images import digest_of, read_bytes
from patchwise.indexing import QueryPart, QuerySource, image_of_array, lossless_file

__all__ = ["QueryPictures"]

_R = TypeVar("_R")
_Parts = list[dict[str, Any]]
_Contents = dict[str, tuple[str, bytes]]  # image id: the picture's name here, and its bytes


class QueryPictures:
    """What has been uploaded to a server to search with."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._uploaded: set[str] = set()

    def asked(self, gallery: str, parts: Sequence[QueryPart], ask: Callable[[_Parts], _R]) -> _R:
        """The answer to `ask`, which is given the parts as they are sent; pictures are uploaded if it lacks them.

        Raises:
            ImageError: a picture cannot be read, or the server cannot.
            NotThere: the server lacks something that is no picture of the query.
            BoxError: a box is none.
            UsageError: a picture is given by its web address.
        """
        contents: _Contents = {}
        plain = []
        for part in parts:
            sent: dict[str, Any] = {"weight": float(part.weight)}
            if part.picture is None:
                sent["text"] = part.text
            else:
                content = _file(part.picture)
                sent |= {"picture": digest_of(content), "small": part.small, "name": _short(part.name)}
                contents.setdefault(sent["picture"], (part.name, content))
            if part.box is not None:
                sent["box"] = list(box_edges(part.box))
            plain.append(sent)
        new = [digest for digest in contents if digest not in self._uploaded]
        # First as if all were there: it costs little, and uploading what is there would cost much. Last everything: the
        # server may have dropped what had not been used for long.
        for some in [[], new] if 0 < len(new) < len(contents) else [[]]:
            for digest in some:
                self._upload(gallery, digest, *contents[digest])
            try:
                return self._ask(plain, contents, ask)
            except NotThere:
                if not contents:
                    raise
        for digest in contents:
            self._upload(gallery, digest, *contents[digest])
        return self._ask(plain, contents, ask)

    def _ask(
        self,
        plain: list[dict[str, Any]],
        contents: dict[str, tuple[str, bytes]],
        ask: Callable[[_Parts], _R],
    ) -> _R:
        try:
            return ask(plain)
        except NotThere:
            raise
        except ImageError as error:  # under the name that the picture has here
            digest = next((digest for digest in contents if digest in error.name), None)
            raise error if digest is None else type(error)(contents[digest][0], error.reason) from error

    def _upload(self, gallery: str, digest: str, name: str, content: bytes) -> None:
        form = ("picture", (_short(name), content, "application/octet-stream"))
        try:
            self._connection.ask("POST", f"/galleries/{gallery}/pictures", lambda _: None, files=[form])
        except ImageError as error:
            raise type(error)(name, error.reason) from error
        self._uploaded.add(digest)


def _file(source: QuerySource) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, np.ndarray):
        return lossless_file(image_of_array(source))
    if isinstance(source, Image.Image):
        return lossless_file(source)
    path = os.fspath(source)
    if path.lower().startswith(("http://", "https://")):
        raise UsageError(f"{path}: a server fetches no web addresses; download the picture, and search with that")
    return read_bytes(path)


def _short(name: str) -> str:
    """A name as it is sent: where the file lies here is nobody else's business."""
    return Path(name).name.encode("utf-8", "replace").decode()[-200:] or "picture"
