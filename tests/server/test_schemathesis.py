"""The server against its own OpenAPI document: whatever is asked, the answer is one that the document tells of."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from conftest import make_picture
from patchwise.server import Settings
from patchwise.server.routes import ROUTERS

from .conftest import ADDRESS, png

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="it comes with schemathesis")
requests = pytest.importorskip("requests", reason="it comes with schemathesis")

pytestmark = pytest.mark.slow

CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_headers_conformance,
]
EXAMPLES = int(os.environ.get("PATCHWISE_SCHEMATHESIS_EXAMPLES", "12"))
"""Requests of each kind to each operation; more find more."""

LONGEST_URL = 65_000  # characters; the client that asks takes no longer ones

ROUTES = {
    (f"/api/v1{route.path}", method): route
    for router in ROUTERS
    for route in router.routes
    if route.include_in_schema  # HEAD, which is GET without a body, is not described
    for method in route.methods
}
OPERATIONS = sorted(ROUTES)
WITH_INPUT = [
    operation
    for operation in OPERATIONS
    if any(getattr(ROUTES[operation].dependant, f"{place}_params") for place in ("path", "query", "body"))
]


class Api:
    """A server, what its document says, and ids of what is there."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.document = client.app.openapi()  # type: ignore[attr-defined]
        self.schema = schemathesis.openapi.from_dict(deepcopy(self.document))
        images = client.get("/api/v1/galleries/g/images").json()["images"]
        picture = client.post("/api/v1/galleries/g/pictures", files={"picture": png(make_picture(77))}).json()
        job = client.post(
            "/api/v1/galleries/g/images", files={"pictures": ("new.png", png(make_picture(78)), "image/png")}
        ).json()
        with client.stream("GET", f"/api/v1/jobs/{job['job']}/events") as events:
            assert "event: end" in "\n".join(events.iter_lines())
        self.pictures = [images[0]["image"], images[1]["image"], picture["image"]]
        self.job = job["job"]

    def send(self, case: Any) -> Any:
        """What the server answers to exactly the bytes that the case makes."""
        request = requests.Request(**case.as_transport_kwargs(base_url=ADDRESS)).prepare()
        assume(len(request.url or "") < LONGEST_URL)
        content = request.body.encode() if isinstance(request.body, str) else request.body
        return self.client.request(
            request.method or "GET", request.url or ADDRESS, headers=dict(request.headers), content=content
        )

    def check(self, case: Any, response: Any, *checks: Any) -> None:
        """Fails where the answer is none that the document tells of.

        Bodies are held against the document itself: schemathesis 4.32 rewrites `prefixItems` for an older draft before
        it does so, and then finds the result invalid.
        """
        case.validate_response(response, checks=[*CHECKS, *checks])
        described = self.document["paths"][case.path][case.method.lower()]["responses"][str(response.status_code)]
        media_type = response.headers.get("content-type", "").partition(";")[0]
        if not media_type.endswith("json"):
            return
        schema = {**described["content"][media_type]["schema"], "components": self.document["components"]}
        errors = jsonschema_rs.Draft202012Validator(schema).iter_errors(response.json())
        assert [f"{case.method} {case.path}: {error}" for error in errors] == []

    def name_what_is_there(self, case: Any, draw: Callable[[Any], Any]) -> None:
        """Most random ids are of nothing: put in those of the gallery, its images, pictures and jobs."""
        there = {"gallery": "g", "image": draw(st.sampled_from(self.pictures)), "job": self.job}
        for name in case.path_parameters or {}:
            if name in there:
                case.path_parameters[name] = there[name]
        if isinstance(case.body, dict):
            if "image" in case.body:
                case.body["image"] = there["image"]
            for part in case.body.get("parts") or []:
                if isinstance(part, dict) and part.get("picture") is not None:
                    part["picture"] = draw(st.sampled_from(self.pictures))


@pytest.fixture
def api(serving: Callable[..., TestClient], settings: Settings) -> Iterator[Api]:
    logging.getLogger("patchwise.server").setLevel(logging.ERROR)  # refusals are what is asked for here
    yield Api(serving(settings))


_EXPLORING = hypothesis_settings(
    max_examples=EXAMPLES,
    derandomize="PATCHWISE_SCHEMATHESIS_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # a failure is told as it was found, in the time of one request
    suppress_health_check=list(HealthCheck),
)


def test_every_operation_is_of_the_document(api: Api) -> None:
    document = api.schema.raw_schema["paths"]
    assert {(path, method.upper()) for path in document for method in document[path]} == set(OPERATIONS)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_is_asked_as_described(api: Api, path: str, method: str) -> None:
    operation = api.schema[path][method]

    @_EXPLORING
    @given(data=st.data(), case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    def ask(data: st.DataObject, case: Any) -> None:
        if data.draw(st.integers(0, 3)):
            api.name_what_is_there(case, data.draw)
        api.check(case, api.send(case))

    ask()


@pytest.mark.parametrize(("path", "method"), WITH_INPUT)
def test_what_is_asked_otherwise(api: Api, path: str, method: str) -> None:
    operation = api.schema[path][method]

    @_EXPLORING
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    def ask(case: Any) -> None:
        api.check(case, api.send(case), schemathesis.checks.negative_data_rejection)

    ask()
