"""Numbers for Prometheus, of each application its own, and whether the server answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from patchwise import __version__
from patchwise.server import Settings

from .conftest import png
from .test_adding import ended, upload

API = "/api/v1"
Picture = Callable[..., Image.Image]


def numbers(client: TestClient) -> dict[tuple[str, ...], float]:
    """(name, values of labels by their names) to value."""
    answer = client.get(f"{API}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_template_and_not_by_path(served: TestClient, picture: Picture) -> None:
    images = [image["image"] for image in served.get(f"{API}/galleries/g/images").json()["images"]]
    for image in images:
        assert served.get(f"{API}/galleries/g/images/{image}/thumbnail").status_code == 200
    for number in range(20):
        served.get(f"{API}/galleries/none-{number}")
        served.get(f"{API}/nothing/{number}")
        served.get(f"/page/{number}.js")
        served.request(f"X{number}", f"{API}/health")
    found = numbers(served)
    requests = {labels[1:]: value for labels, value in found.items() if labels[0] == "patchwise_requests_total"}
    thumbnail = f"{API}/galleries/{{gallery}}/images/{{image}}/thumbnail"
    assert requests["GET", thumbnail, "200"] == len(images) == 6
    assert requests["GET", f"{API}/galleries/{{gallery}}", "404"] == 20
    assert requests["GET", "other", "404"] >= 20
    assert sum(value for (method, _, _), value in requests.items() if method == "other") == 20
    assert not any(re.search(r"\d|none", route.removeprefix(API)) for _, route, _ in requests)
    assert len(requests) < 12


def test_refusals_of_the_guard_are_counted(serving: Callable[..., TestClient], settings: Settings) -> None:
    client = serving(replace(settings, token="secret"))
    client.get(f"{API}/galleries")
    client.headers["Authorization"] = "Bearer secret"
    assert numbers(client)["patchwise_requests_total", "GET", "other", "401"] == 1


def test_searches_jobs_images_and_memory(served: TestClient, picture: Picture) -> None:
    before = numbers(served)
    assert before["patchwise_images", "g"] == 6
    assert ("patchwise_search_seconds_count", "g") not in before
    ended(served, upload(served, ("a.png", png(picture(20)))))
    for _ in range(3):
        served.post(f"{API}/galleries/g/search/upload", files={"picture": ("q.png", png(picture(20)))})
    after = numbers(served)
    assert not any(name.endswith("_created") for name, *_ in after)
    assert after["patchwise_images", "g"] == 7
    assert after["patchwise_search_seconds_count", "g"] == 3
    assert 0 < after["patchwise_search_seconds_sum", "g"] < 60
    assert after["patchwise_jobs", "g", "done"] == 1
    assert after["patchwise_requests_waiting",] == 0
    assert after["patchwise_requests_running",] == 1  # this very request
    if Path("/proc/self/stat").exists():
        assert after["process_resident_memory_bytes",] > 10_000_000


def test_applications_count_for_themselves(
    serving: Callable[..., TestClient], settings: Settings, served: TestClient
) -> None:
    served.get(f"{API}/galleries/g")
    route = ("patchwise_requests_total", "GET", f"{API}/galleries/{{gallery}}", "200")
    other = serving(settings)
    assert numbers(served)[route] == 1
    assert route not in numbers(other)


@pytest.mark.parametrize("token", [None, "secret"])
def test_health_needs_no_token_and_numbers_do(
    serving: Callable[..., TestClient], settings: Settings, token: str | None
) -> None:
    client = serving(replace(settings, token=token))
    answer = client.get(f"{API}/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "version": __version__})
    assert client.get(f"{API}/metrics").status_code == (200 if token is None else 401)
