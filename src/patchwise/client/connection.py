"""One server: requests with their token, patience where it is busy, and errors that say what is wrong."""

from __future__ import annotations

import json
import math
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from patchwise._version import __version__
from patchwise.client.problems import TooMuch, error_of
from patchwise.errors import MissingExtra, PatchwiseError, ServerError, UsageError
from patchwise.wire import API

if TYPE_CHECKING:
    import httpx2

__all__ = ["Connection"]

_BUSY = (429, 503)
_BUSY_REMOVING = (*_BUSY, 409)  # another writer, which soon has finished
_LONGEST_PAUSE = 30.0
_TOKEN = re.compile(r"[!-~]+")
_R = TypeVar("_R")

File = tuple[str, tuple[str, bytes, str]]
"""A field of a form: its name, and the file's name, bytes and type."""


class Connection:
    """Requests to one server.

    Args:
        url: its address, as in http://127.0.0.1:8799; a token may follow as `#token=...`, as `patchwise serve` says it.
        token: what every request brings along, if the server needs one.
        timeout: seconds that it may be silent.
        patience: seconds in all that a request waits while the server has too much to do.
        http: a client of httpx2 to ask with, for proxies or certificates of your own.

    Raises:
        UsageError: that is no address or no token.
        MissingExtra: httpx2 is not installed.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 60.0,
        patience: float = 60.0,
        http: httpx2.Client | None = None,
    ) -> None:
        self.url, in_url = _address(url)
        self._token = token or in_url
        if self._token is not None and not _TOKEN.fullmatch(self._token):
            raise UsageError("the token must be of visible ASCII characters, without spaces")
        if not (timeout > 0 and math.isfinite(timeout) and patience >= 0):
            raise UsageError(f"timeout must be above 0 and patience at least 0, not {timeout} and {patience}")
        self._timeout, self._patience = timeout, patience
        self._lock = threading.Lock()
        self._own = http is None
        self._http = http
        if http is None:
            _httpx2()

    def close(self) -> None:
        """Close what connections are open; the next request opens them again."""
        with self._lock:
            if self._own and self._http is not None:
                self._http.close()
                self._http = None

    def ask(
        self,
        method: str,
        path: str,
        read: Callable[[Mapping[str, Any]], _R],
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        files: Sequence[File] = (),
    ) -> _R:
        """What `read` makes of the JSON object that is answered.

        Raises:
            PatchwiseError: the server says what is wrong, in the library's own classes.
            ServerError: it cannot be reached, or what answers is no patchwise server.
        """
        response = self._ask(method, path, params=params, body=body, files=files)
        try:
            return read(response.json())
        except PatchwiseError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.misunderstood() from error

    def content(self, method: str, path: str, *, params: Mapping[str, Any] | None = None) -> bytes:
        """The bytes that are answered; raises the same."""
        return self._ask(method, path, params=params).content

    def misunderstood(self) -> ServerError:
        """What answers does not do so as a patchwise server of this version does."""
        return ServerError(
            f"{self.url}: it answers, but not as a patchwise server of version {__version__} does; is this its address?"
        )

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        files: Sequence[File] = (),
    ) -> httpx2.Response:
        httpx2 = _httpx2()
        left = self._patience
        headers = {"User-Agent": f"patchwise/{__version__}", **self._authorization()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        busy = _BUSY_REMOVING if method == "DELETE" else _BUSY
        try:
            content = None if body is None else json.dumps(body, allow_nan=False).encode()
        except ValueError as error:
            raise UsageError("a number that is not finite cannot be sent") from error
        while True:
            try:
                response = self._client().request(
                    method,
                    f"{self.url}{API}{path}",
                    params=params,
                    content=content,
                    files=list(files) or None,
                    headers=headers,
                    timeout=httpx2.Timeout(self._timeout),
                    follow_redirects=False,  # a token is for one server
                )
            except (httpx2.InvalidURL, UnicodeError) as error:
                raise UsageError(f"{self.url}: no address to ask at, or too much asked for in it ({error})") from error
            except httpx2.TimeoutException as error:
                raise ServerError(
                    f"{self.url}: no answer within {self._timeout:g} seconds; a longer timeout may help"
                ) from error
            except httpx2.RequestError as error:
                if files and not isinstance(error, httpx2.ConnectError):
                    size = sum(len(content) for _, (_, content, _) in files)
                    raise TooMuch(
                        f"{self.url}: it closed the connection while {size:,} bytes were sent; it may not take so many"
                    ) from error
                raise ServerError(
                    f"{self.url}: cannot be reached ({_said(error)}); is `patchwise serve` running there?"
                ) from error
            if response.status_code < 300:
                return response
            pause = _pause(response.headers.get("retry-after")) if response.status_code in busy else None
            if pause is None or pause > left:
                raise error_of(response, self.url)
            left -= pause
            time.sleep(pause)

    def _authorization(self) -> dict[str, str]:
        return {} if self._token is None else {"Authorization": f"Bearer {self._token}"}

    def _client(self) -> httpx2.Client:
        with self._lock:
            if self._http is None:
                self._http = _httpx2().Client()
                # Hits keep their client alive, and nobody closes what was unpickled with them.
                weakref.finalize(self, self._http.close)
            return self._http

    def __getstate__(self) -> dict[str, Any]:
        if not self._own:
            raise TypeError("a client with an httpx2.Client of your own cannot be pickled")
        # A hit that is written to a file does not take the token along.
        return {**self.__dict__, "_token": None, "_http": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __deepcopy__(self, _: object) -> Connection:
        return self


def _address(url: str) -> tuple[str, str | None]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.query:
        raise UsageError(f"{url.partition('#')[0]!r}: expected the address of a server, as in http://127.0.0.1:8799")
    if parts.username is not None:
        raise UsageError(f"{host}: no user belongs in the address of a server; a token is given by token=...")
    name, _, token = parts.fragment.partition("=")
    return (
        f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix(API)}",
        unquote(token) if name == "token" and token else None,
    )


def _pause(retry_after: str | None) -> float | None:
    """How long to wait, a little longer each time than was said, so that many do not come back at once."""
    if retry_after is None or not retry_after.strip().isdigit():
        return None
    return min(max(int(retry_after), 0.1), _LONGEST_PAUSE) * random.uniform(1, 1.25)


def _said(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _httpx2() -> Any:
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise MissingExtra("patchwise.Client", "client") from error
    return httpx2
