"""A server in the foreground: listening, saying where, and ending without leaving work half done."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import quote

from patchwise.errors import MissingExtra, UsageError
from patchwise.machine import one_heap
from patchwise.server import create_app
from patchwise.server.settings import Settings

if TYPE_CHECKING:
    import uvicorn

__all__ = ["run"]

_GRACE_SECONDS = 30
_BACKLOG = 1024
_CONNECTIONS = 1000


def run(
    settings: Settings,
    say: Callable[[str], None],
    *,
    announce: Callable[[dict[str, object]], None] | None = None,
    open_page: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM, when what runs is finished first; `say` is told where the server is.

    `announce`, for programs, is told the same once connections are taken: {"url", "galleries": names, the default
    first, "token_required", "pid"}. It never holds the token.

    Raises:
        UsageError: nothing can listen there, as the port is taken or the host is none of this machine.
        MissingExtra: the packages that a server needs are not installed.
        GalleryError: a gallery cannot be used.
        KeyboardInterrupt: SIGINT ended it.
    """
    try:
        import uvicorn

        from patchwise.server.impatient import ImpatientProtocol
    except ModuleNotFoundError as error:
        raise MissingExtra("patchwise serve", "server") from error
    one_heap()
    with closing(_listening(settings)) as listener:
        missing = [folder for folder in settings.galleries.values() if not folder.exists()]
        app = create_app(settings)
        for folder in missing:
            say(f"patchwise: made an empty gallery in {folder}")
        config = uvicorn.Config(
            app,
            http=ImpatientProtocol,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            proxy_headers=False,  # what a proxy says can be said by anybody
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        server = uvicorn.Server(config)
        with _ending(server, app.state.server.stopping) as received:
            address, token = _address(settings, listener), _token_of_page(settings)
            # Where nobody watches, what is said ends in a log, which is no place for a secret.
            say(f"patchwise: {address}{token if _watched() else ''}")
            if announce is not None:
                announce(
                    {
                        "url": address,
                        "galleries": list(settings.galleries),
                        "token_required": settings.token is not None,
                        "pid": os.getpid(),
                    }
                )
            if open_page:
                _open(server, address + token)
            server.run(sockets=[listener])
    if signal.SIGINT in received:
        raise KeyboardInterrupt


def _listening(settings: Settings) -> socket.socket:
    """A socket that is bound, so that a port that is taken is known before a gallery is opened."""
    host = settings.host.strip("[]")
    try:
        found = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"host {settings.host}: {error.strerror or error}") from error
    try:
        if hasattr(signal, "SIGKILL"):  # on Windows this option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)  # whoever asks before all is ready waits
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {settings.port} is in use already; choose another with --port, or 0 for any that is free"
            ) from error
        raise UsageError(f"host {settings.host}, port {settings.port}: {error.strerror or error}") from error
    return listener


def _address(settings: Settings, listener: socket.socket) -> str:
    host = settings.host.strip("[]")
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/"


def _token_of_page(settings: Settings) -> str:
    """What, behind the address, lets the page in."""
    return "" if settings.token is None else f"#token={quote(settings.token, safe='')}"


def _watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def _ending(server: uvicorn.Server, stopping: threading.Event) -> Iterator[list[int]]:
    """While inside, signals end the server; yields those that came."""
    received: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        received.append(number)
        stopping.set()
        server.handle_exit(number, frame)

    # uvicorn's own handlers would raise the signal once more at the end, and SIGTERM would look like a crash.
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _no_signals() -> Iterator[None]:
    yield


def _open(server: uvicorn.Server, address: str) -> None:
    import time
    import webbrowser

    def when_started() -> None:
        while not server.started and not server.should_exit:
            time.sleep(0.05)
        if server.started:
            webbrowser.open(address)

    threading.Thread(target=when_started, daemon=True).start()
