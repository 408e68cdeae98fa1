"""What is counted and timed, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from patchwise.wire import API

__all__ = ["CountRequests", "Metrics"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one application, in a registry of its own.

    Args:
        jobs: how many jobs there are by (gallery, state).
        images: how many images by gallery.
        waiting: how many requests wait for a thread.
        running: how many are worked on.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(
        self,
        jobs: Callable[[], Mapping[tuple[str, str], int]],
        images: Callable[[], Mapping[str, int]],
        waiting: Callable[[], int],
        running: Callable[[], int],
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "patchwise_requests",
            "Requests answered, by template of the path",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._searches = Histogram(
            "patchwise_search_seconds",
            "Seconds that searches took, by gallery, without waiting for a thread",
            ("gallery",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        Gauge("patchwise_requests_waiting", "Requests that wait for a thread", registry=self._registry).set_function(
            waiting
        )
        Gauge("patchwise_requests_running", "Requests that are worked on", registry=self._registry).set_function(
            running
        )
        self._registry.register(_Counts(jobs, images))
        ProcessCollector(registry=self._registry)

    def count_request(self, route: str, method: str, status: int) -> None:
        """A request was answered; `route` is the template of its path."""
        self._requests.labels(route, method if method in _METHODS else "other", str(status)).inc()

    @contextmanager
    def searching(self, gallery: str) -> Iterator[None]:
        """Time a search, whether it succeeds or not."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._searches.labels(gallery).observe(time.perf_counter() - began)

    def text(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(_WithoutTimes(self._registry))


class _WithoutTimes(CollectorRegistry):
    """What another registry holds, without when each series began: that would be as many series once more."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._all = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._all.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class _Counts(Collector):
    """What is counted when it is asked for."""

    def __init__(
        self, jobs: Callable[[], Mapping[tuple[str, str], int]], images: Callable[[], Mapping[str, int]]
    ) -> None:
        self._jobs, self._images = jobs, images

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("patchwise_jobs", "Jobs that are remembered", labels=("gallery", "state"))
        for key, count in self._jobs().items():
            jobs.add_metric(key, count)
        yield jobs
        images = GaugeMetricFamily("patchwise_images", "Indexed files", labels=("gallery",))
        for gallery, count in self._images().items():
            images.add_metric((gallery,), count)
        yield images

    def describe(self) -> list[Metric]:
        return []  # so that nothing is counted when this is registered


class CountRequests:
    """Counts every answer, the refusals of the guard included."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # where nothing is sent in here, the error is answered outside

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            # The path itself would make a new series for every image.
            route = getattr(scope.get("route"), "path", None) or "other"
            if route.startswith("/") and scope["path"].startswith(f"{API}/"):
                route = API + route.removeprefix(API)  # as it is asked for
            self._metrics.count_request(route, scope["method"], status)
