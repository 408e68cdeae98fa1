"""What goes wrong in a page without anybody seeing it."""

from __future__ import annotations

import re

from playwright.sync_api import ConsoleMessage, Error, Page, Request, Response

_SUPERSEDED = "net::ERR_ABORTED"  # the page itself gave a request up, as something newer was asked


class Watch:
    """Collects errors of a page: its console, uncaught exceptions, requests that failed, breaches of its policy."""

    def __init__(self, page: Page, address: str) -> None:
        self._address = address
        self._found: list[str] = []
        self._allowed: list[re.Pattern[str]] = []
        page.on("console", self._console)
        page.on("pageerror", self._exception)
        page.on("requestfailed", self._failed)
        page.on("response", self._response)
        page.on("request", self._request)

    def allow(self, pattern: str) -> None:
        """Errors that fit this expression belong to what is tested."""
        self._allowed.append(re.compile(pattern))

    @property
    def problems(self) -> list[str]:
        """What was found and is not allowed."""
        return [found for found in self._found if not any(pattern.search(found) for pattern in self._allowed)]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            place = message.location.get("url", "")
            self._found.append(f"console {message.type}: {message.text} ({place})")

    def _exception(self, error: Error) -> None:
        self._found.append(f"uncaught: {error} {error.stack}")

    def _failed(self, request: Request) -> None:
        if request.failure != _SUPERSEDED:
            self._found.append(f"request: {request.method} {request.url}: {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self._found.append(f"answer: {response.status} to {response.request.method} {response.url}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self._address, "blob:", "data:")):
            self._found.append(f"elsewhere: {request.url}")
