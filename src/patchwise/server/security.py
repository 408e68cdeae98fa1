"""Who may ask, from where, and how much they may send; and the headers that keep browsers from being fooled."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from patchwise.server.intake import Intake
from patchwise.server.limits import Overloaded
from patchwise.server.problems import Problem, problem_response
from patchwise.server.settings import Settings, is_loopback
from patchwise.wire import API

__all__ = ["ANSWER_HEADERS", "Guard", "Token"]

_API = "/api/"  # of any version
_OPEN = frozenset({f"{API}/health", f"{API}/session", f"{API}/openapi.json"})
_WITH_BODIES = frozenset({"POST", "PUT", "PATCH"})
_FEW_BYTES = 2**14  # no more from those who have not shown the token: it fits in, however it is escaped
_JSON_BYTES = 2**20
_BYTES_AT_ONCE = 2**28
_SILENCE = 60.0  # seconds within which something of a body has to come
_SLOWEST = 8192  # bytes per second that a long body has to come by on average
_GUESSES, _GUESSING, _PAUSE = 20, 60.0, 1.0  # so many wrong tokens in so many seconds are answered that much later
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]*)?")
_PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
ANSWER_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": _PAGE_POLICY,
    "Cache-Control": "no-store",
}
"""What every answer carries that has no such header of its own."""


class Token:
    """The secret that requests bring along, in a header or as the cookie of a session; compared in constant time."""

    def __init__(self, token: str | None) -> None:
        self._token = token
        # Named after the token, as browsers send cookies to every port of a machine.
        self.cookie = f"patchwise-{self._derived('name')[:8]}"
        self.session = self._derived("session")
        self._wrong: deque[float] = deque(maxlen=_GUESSES)

    @property
    def required(self) -> bool:
        """Whether there is one."""
        return self._token is not None

    def matches(self, given: str) -> bool:
        """Whether this is the token."""
        return self._token is not None and _same(given, self._token)

    def brought_by(self, headers: Headers) -> bool:
        """Whether a request brings it along; always so where none is needed."""
        if self._token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.matches(given.strip()):
            return True
        return any(_same(value, self.session) for value in _cookies(headers, self.cookie))

    async def discourage(self) -> None:
        """Count a wrong token; where there were many of late, come back only after a pause."""
        now = time.monotonic()
        many = len(self._wrong) == _GUESSES and now - self._wrong[0] < _GUESSING
        self._wrong.append(now)
        if many:
            await asyncio.sleep(_PAUSE)

    def _derived(self, purpose: str) -> str:
        key = (self._token or "").encode()
        return hmac.new(key, f"patchwise {purpose}".encode(), hashlib.sha256).hexdigest()


class Guard:
    """Turns away what may not come in before anything is read, and completes the headers of all answers."""

    def __init__(self, app: ASGIApp, settings: Settings, token: Token) -> None:
        self._app, self._token = app, token
        self._any_host = token.required
        self._max_upload = settings.max_upload
        self._intake = Intake(max(_BYTES_AT_ONCE, settings.max_upload))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check(scope["path"], headers)
            limit = self._limit(scope["method"], headers)
        except Problem as problem:
            if problem.kind == "token" and headers.get("authorization"):
                await self._token.discourage()
            answer = problem_response(problem.status_code, str(problem.detail), problem.kind, problem.headers)
            await answer(scope, receive, _completing(send))
            return
        room = _length(headers, limit) if limit > _FEW_BYTES else 0
        try:
            async with self._intake.taking(room) as keep_room:
                await self._app(scope, _Body(receive, limit, keep_room).receive, _completing(send))
        except Overloaded as full:  # the application answers its own
            busy = {"Retry-After": str(full.retry_after), "Connection": "close"}
            answer = problem_response(503, "too much is sent at a time; try again shortly", "overloaded", busy)
            await answer(scope, receive, _completing(send))

    def _check(self, path: str, headers: Headers) -> None:
        host = headers.get("host", "")
        # Without a token, being on this machine is what lets one in: names that other sites point here are turned away.
        if not self._any_host and not is_loopback(_name_of(host)):
            raise Problem(403, "this server is asked by the name of another; use localhost or 127.0.0.1", "host")
        if not path.startswith(_API):
            return
        # What a browser says itself holds behind proxies too, where the host that it asked for may have another name.
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:
            foreign = site not in ("same-origin", "none")
        else:
            foreign = origin is not None and origin.partition("://")[2].lower() != host.lower()
        if foreign:
            raise Problem(403, "requests from pages of other sites are refused", "origin")
        if path not in _OPEN and not self._token.brought_by(headers):
            raise Problem(401, "a token is needed, and must be right", "token", {"WWW-Authenticate": "Bearer"})

    def _limit(self, method: str, headers: Headers) -> int:
        if method not in _WITH_BODIES or not self._token.brought_by(headers):
            limit = _FEW_BYTES
        elif headers.get("content-type", "").lower().startswith("multipart/form-data"):
            limit = self._max_upload
        else:
            limit = min(_JSON_BYTES, self._max_upload)
        sent = headers.get("content-length", "")
        if sent.isdigit() and int(sent) > limit:
            raise _too_large(limit)
        return limit


def _length(headers: Headers, limit: int) -> int:
    """Bytes that a body will have; the limit where it does not say."""
    if "transfer-encoding" in headers:
        return limit
    sent = headers.get("content-length", "")
    return int(sent) if sent.isdigit() else 0


class _Body:
    """A request's body, which ends where its limit is, and comes within a time; then it keeps room for its bytes."""

    def __init__(self, receive: Receive, limit: int, keep_room: Callable[[int], Awaitable[None]]) -> None:
        self._receive, self._limit, self._keep_room = receive, limit, keep_room
        self._taken, self._waited, self._whole = 0, 0.0, False

    async def receive(self) -> Message:
        """The next message.

        Raises:
            Problem: it is too much, or takes too long.
        """
        if self._whole:  # what still comes is that the client has gone
            return await self._receive()
        began = time.monotonic()
        patience = min(_SILENCE, _SILENCE + self._taken / _SLOWEST - self._waited)
        try:
            message = await asyncio.wait_for(self._receive(), max(patience, 0.0))
        except asyncio.TimeoutError:
            detail = "the request's body did not come in time"
            raise Problem(408, detail, "too-slow", {"Connection": "close"}) from None
        self._waited += time.monotonic() - began
        if message["type"] == "http.request":
            self._taken += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._taken > self._limit:
                raise _too_large(self._limit)
            if self._whole:
                await self._keep_room(self._taken)
        return message


def _completing(send: Send) -> Send:
    async def completing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in ANSWER_HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return completing


def _too_large(limit: int) -> Problem:
    most = f"{limit / 2**20:.3g} MB" if limit >= 2**20 else f"{limit:,} bytes"
    return Problem(413, f"a request like this may have at most {most}", "too-large", {"Connection": "close"})


def _name_of(host: str) -> str:
    """The name in a Host header, without its port; empty where it holds anything else."""
    found = _HOST.fullmatch(host)
    return found[1] if found else ""


def _cookies(headers: Headers, name: str) -> Iterator[str]:
    """Values of the cookies of this name. Others on the same host may hold what no standard allows."""
    for header in headers.getlist("cookie"):
        for cookie in header.split(";"):
            key, _, value = cookie.partition("=")
            if key.strip() == name:
                yield value.strip()


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())
