"""The application, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event, Thread

from fastapi import FastAPI

from patchwise import __version__
from patchwise.gallery import Gallery
from patchwise.server import site
from patchwise.server.adding import Adding
from patchwise.server.dependencies import State
from patchwise.server.galleries import Galleries
from patchwise.server.intake import INTAKE_THREADS
from patchwise.server.limits import Pool
from patchwise.server.metrics import CountRequests, Metrics
from patchwise.server.openapi import allowed_methods, describe
from patchwise.server.pictures import DecodedPictures, KeptPictures
from patchwise.server.problems import install_handlers
from patchwise.server.routes import ROUTERS
from patchwise.server.security import ANSWER_HEADERS, Guard, Token
from patchwise.server.settings import Settings
from patchwise.wire import API

__all__ = ["build_app"]

_WARMING_SECONDS = 5.0
_log = logging.getLogger("patchwise.server")


def build_app(settings: Settings, open_gallery: Callable[[Path], Gallery] | None = None) -> FastAPI:
    """See `patchwise.server.create_app`."""
    galleries = Galleries(settings, open_gallery)
    pool, stopping = Pool(settings.threads, settings.queue), Event()
    intake = Pool(min(settings.threads, INTAKE_THREADS), settings.queue)
    adding = Adding(settings, galleries, stopping)
    state = State(
        settings,
        galleries,
        Token(settings.token),
        pool,
        intake,
        KeptPictures(settings.queries_folder, settings.queries_bytes),
        DecodedPictures(settings.decoded_bytes),
        adding,
        Metrics(
            adding.jobs.counts,
            galleries.counts,
            lambda: pool.waiting + intake.waiting,
            lambda: pool.running + intake.running,
        ),
        stopping,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = Thread(target=galleries.warm, name="patchwise-warm", daemon=True)
        warming.start()
        adding.start()
        yield
        state.stopping.set()
        # Whatever takes longer ends with the process.
        warming.join(_WARMING_SECONDS)
        if not all([state.intake.close(), state.pool.close()]):
            _log.warning("an answer was still being worked on; nobody gets it")
        adding.stop()
        galleries.close()

    # The pages for trying an API out that come with FastAPI are loaded from elsewhere.
    app = FastAPI(
        title="patchwise",
        version=__version__,
        description="Find every image in a collection that shows the same object, and show where.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # where to is said by the request's own headers
        lifespan=lifespan,
    )
    app.state.server = state
    install_handlers(app, allowed_methods, ANSWER_HEADERS)
    for router in ROUTERS:
        app.include_router(router, prefix=API)
    app.include_router(site.router)
    app.add_middleware(Guard, settings=settings, token=state.token)
    app.add_middleware(CountRequests, metrics=state.metrics)  # outside of the guard: its refusals count, too
    describe(app, token=settings.token is not None)
    return app
