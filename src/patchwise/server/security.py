"""Who may ask, from where, and how much they may send; and the headers that keep browsers from being fooled."""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from patchwise.server.problems import Problem, problem_response
from patchwise.server.settings import Settings, is_loopback
from patchwise.wire import API

__all__ = ["Guard", "Token"]

_API = "/api/"  # of any version
_OPEN = frozenset({f"{API}/health", f"{API}/session", f"{API}/openapi.json"})
_JSON_BYTES = 2**20
_PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": _PAGE_POLICY,
    "Cache-Control": "no-store",
}


class Token:
    """The secret that requests bring along, in a header or as the cookie of a session; compared in constant time."""

    def __init__(self, token: str | None) -> None:
        self._token = token
        # Named after the token, as browsers send cookies to every port of a machine.
        self.cookie = f"patchwise-{self._derived('name')[:8]}"
        self.session = self._derived("session")

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
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return found is not None and _same(found.value, self.session)

    def _derived(self, purpose: str) -> str:
        key = (self._token or "").encode()
        return hmac.new(key, f"patchwise {purpose}".encode(), hashlib.sha256).hexdigest()


class Guard:
    """Turns away what may not come in before anything is read, and completes the headers of all answers."""

    def __init__(self, app: ASGIApp, settings: Settings, token: Token) -> None:
        self._app, self._token = app, token
        self._any_host = token.required
        self._max_upload = settings.max_upload

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
            limit = self._limit(headers)
        except Problem as problem:
            answer = problem_response(problem.status_code, str(problem.detail), problem.kind, problem.headers)
            await answer(scope, receive, _completing(send))
            return
        await self._app(scope, _bounded(receive, limit), _completing(send))

    def _check(self, path: str, headers: Headers) -> None:
        host = headers.get("host", "")
        # Without a token, being on this machine is what lets one in: names that other sites point here are turned away.
        if not self._any_host and not is_loopback(_name_of(host)):
            raise Problem(403, "this server is asked by the name of another; use localhost or 127.0.0.1", "host")
        if not path.startswith(_API):
            return
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise Problem(403, "requests from pages of other sites are refused", "origin")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise Problem(403, "requests from pages of other sites are refused", "origin")
        if path not in _OPEN and not self._token.brought_by(headers):
            raise Problem(401, "a token is needed, and must be right", "token", {"WWW-Authenticate": "Bearer"})

    def _limit(self, headers: Headers) -> int:
        form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        limit = self._max_upload if form else min(_JSON_BYTES, self._max_upload)
        sent = headers.get("content-length", "")
        if sent.isdigit() and int(sent) > limit:
            raise _too_large(limit)
        return limit


def _bounded(receive: Receive, limit: int) -> Receive:
    """Bodies of unknown length end where the limit is."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > limit:
                raise _too_large(limit)
        return message

    return bounded


def _completing(send: Send) -> Send:
    async def completing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return completing


def _too_large(limit: int) -> Problem:
    return Problem(413, f"a request like this may have at most {limit:,} bytes", "too-large", {"Connection": "close"})


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())
