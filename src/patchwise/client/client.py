"""`patchwise.Client`: a gallery on a server, asked as one on this machine is."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

from patchwise.answering import Wanted
from patchwise.client.adding import AddReport, Progress, add_files, wait_for
from patchwise.client.contents import ClientContents, OnServer
from patchwise.client.problems import NotThere
from patchwise.client.shapes import job_of
from patchwise.compression import DEFAULT_RECALL
from patchwise.errors import EncoderError, ImageError, UsageError
from patchwise.gallery_search import QueryResult
from patchwise.hits import Hits
from patchwise.indexing import Query, QueryPart, QuerySource
from patchwise.indexing.parts import batch_parts, query_parts
from patchwise.places import Places, each_place
from patchwise.report import hit_from_json, region_from_json
from patchwise.rerank import parse_rerankers
from patchwise.search import Explanation, Hit
from patchwise.wire import path_of_text, text_of_path

__all__ = ["Client"]

_AT_ONCE = 4


class Client(ClientContents):
    """A patchwise server, asked as a `Gallery` is; safe to use from several threads.

    Args:
        url: address of the server, as in http://127.0.0.1:8799.
        token: what it was started with, if anything.
        gallery: name of the gallery to ask; otherwise the server's first.
        timeout: seconds that the server may be silent.
        http: a client of httpx2 to ask with, for proxies or certificates of your own.

    Raises:
        UsageError: that is no address, no token, or no time.
        MissingExtra: httpx2 is not installed.
    """

    def search(
        self,
        query: Query | None = None,
        *,
        text: str | None = None,
        box: Sequence[float] | None = None,
        small: bool = False,
        k: int = 20,
        offset: int = 0,
        min_score: float | None = None,
        under: Places = (),
        where: str = "",
        recall: float = DEFAULT_RECALL,
        exact: bool = False,
        rerank: str = "",
        expand: str = "",
        fuse: str = "",
        collapse: bool = False,
    ) -> Hits:
        """Find the images that show what the query shows or says, best first; see `Gallery.search`.

        Pictures are uploaded only if the server does not have them already. `under` are whole paths on the server; a
        query cannot be a web address.

        Raises:
            ImageError, BoxError, UsageError: the query cannot be used.
            EncoderError: a text, and the gallery's encoder reads none.
            ServerError: the server cannot be reached, or turns the request away.
        """
        wanted = {
            "k": k,
            "offset": offset,
            "min_score": min_score,
            "under": [text_of_path(path) for path in each_place(under)],
            "where": where,
            "recall": recall,
            "exact": exact,
            "rerank": rerank,
            "expand": expand,
            "fuse": fuse,
            "collapse": collapse,
        }
        Wanted(k, offset, min_score)  # judged as the library does
        parts = query_parts(query, text=text, box=box, small=small)
        return self._pictures.asked(
            self.gallery,
            parts,
            lambda sent: self._connection.ask(
                "POST",
                f"{self._here}/search",
                lambda plain: Hits([self._hit(one) for one in plain["hits"]], parts),
                body={"parts": sent, **wanted},
            ),
        )

    def search_many(
        self,
        queries: Iterable[tuple[QuerySource, Sequence[float] | None] | QueryPart | Sequence[QueryPart]],
        **wanted: Any,
    ) -> Iterator[QueryResult]:
        """Answer queries in order, a few at a time; one that cannot be used is answered by its error.

        A query is given as for `Gallery.search_many`, and what is wanted as for `search`.
        """
        self._check_wanted(wanted)
        remaining = map(batch_parts, queries)

        def answered(parts: tuple[QueryPart, ...]) -> QueryResult:
            try:
                return QueryResult.of(parts, self.search(parts, **wanted))
            except (ImageError, UsageError, EncoderError) as error:
                return QueryResult.of(parts, error=str(error))

        with ThreadPoolExecutor(_AT_ONCE, "patchwise-client") as pool:
            under_way: deque[Future[QueryResult]] = deque()
            try:
                while True:
                    for parts in islice(remaining, _AT_ONCE - len(under_way)):
                        under_way.append(pool.submit(answered, parts))
                    if not under_way:
                        return
                    yield under_way.popleft().result()
            finally:
                for waiting in under_way:
                    waiting.cancel()

    def explain(
        self,
        query: Query | None,
        hit: Hit | str | os.PathLike[str],
        *,
        text: str | None = None,
        box: Sequence[float] | None = None,
    ) -> Explanation:
        """Score of every region of one image for a query: the numbers behind the heat map.

        Raises:
            UsageError: the image is not in the gallery.
        """
        image, path = self._place(hit)

        def ask(parts: list[dict[str, Any]]) -> Explanation:
            wanted = {"parts": parts, "image": image, "path": text_of_path(path)}
            return self._connection.ask("POST", f"{self._here}/explain", self._explanation, body=wanted)

        try:
            return self._pictures.asked(self.gallery, query_parts(query, text=text, box=box), ask)
        except NotThere as error:
            raise UsageError(f"{path}: not in the gallery {self.gallery!r}") from error

    def add(self, *paths: str | os.PathLike[str], wait: bool = True, progress: Progress | None = None) -> AddReport:
        """Upload files and folders of this machine; pictures that the gallery has already are not sent again.

        Args:
            paths: files, and folders whose images are all taken.
            wait: return when they can be found; otherwise as soon as they are safe on the server.
            progress: told of files as they are done.

        Raises:
            UsageError: a path does not exist.
            AddingFailed: the server takes no images, or stopped adding them; `report` says what came of it by then.
        """
        if not paths:
            raise UsageError("nothing to add: name at least one file or folder")
        return add_files(self._connection, self.gallery, paths, wait=wait, progress=progress)

    def add_server_paths(
        self, *paths: str | os.PathLike[str], wait: bool = True, progress: Progress | None = None
    ) -> AddReport:
        """Have files and folders of the server indexed where they are, below those it was started with as `--root`.

        Raises:
            UsageError: there is no such path, not a whole one, or one that may not be added.
            ServerError: the server takes no images, or stopped adding them.
        """
        if not paths:
            raise UsageError("nothing to add: name at least one file or folder of the server")
        body = {"paths": [text_of_path(os.fspath(path)) for path in paths]}
        job = self._connection.ask("POST", f"{self._here}/images/paths", job_of, body=body)
        return wait_for(self._connection, self.gallery, job, progress, wait=wait)

    def _check_wanted(self, asked: Mapping[str, Any]) -> None:
        """Judge what is the same for many queries as the library does: before the first, and not as its fault.

        Raises:
            UsageError: a number, name, place or condition that is none.
        """
        wanted = Wanted(**{"k": 20, **{name: value for name, value in asked.items() if name != "exact"}})
        parse_rerankers(wanted.rerank)
        if wanted.where:
            self.images(where=wanted.where, limit=0)
        for place in each_place(wanted.under):
            if not self.images(place, limit=0).total:
                raise UsageError(f"{place}: the gallery {self.gallery!r} holds no image from there")

    def _hit(self, plain: Mapping[str, Any]) -> Hit:
        return hit_from_json(_with_paths(plain), lambda one: OnServer(self, str(one["image"])))

    def _explanation(self, plain: Mapping[str, Any]) -> Explanation:
        width, height = plain["size"]
        source = OnServer(self, str(plain["image"]))
        path = path_of_text(plain["path"])

        def explained(regions: Sequence[Mapping[str, Any]], parts: tuple[Explanation, ...] = ()) -> Explanation:
            scores = tuple(region_from_json(region) for region in regions)
            return Explanation(path, (int(width), int(height)), scores, parts, source)

        return explained(plain["regions"], tuple(explained(part) for part in plain["parts"]))


def _with_paths(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The hit with its paths as they are on the server, bytes that are no text among them."""
    alike = [_with_paths(other) for other in plain.get("alike") or ()]
    return {**plain, "path": path_of_text(plain["path"]), "alike": alike}
