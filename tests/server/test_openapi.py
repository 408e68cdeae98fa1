"""The OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from fastapi.testclient import TestClient

from patchwise.server import Settings


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"{method} {path}", operation


def test_every_operation_says_what_it_does_and_how_it_may_fail(served: TestClient) -> None:
    document = served.get("/api/v1/openapi.json").json()
    names = set()
    for where, operation in _operations(document):
        assert operation["summary"], where
        assert operation["description"], where
        names.add(operation["operationId"])
        assert {"400", "401", "403"} <= operation["responses"].keys(), where
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (where, status)
        if "requestBody" in operation:
            assert {"413", "415", "422"} <= operation["responses"].keys(), where
        if operation.get("parameters"):
            assert "422" in operation["responses"], where
    assert len(names) == len(list(_operations(document)))
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert "Problem" in document["components"]["schemas"]


def test_references_lead_somewhere(served: TestClient) -> None:
    document = served.get("/api/v1/openapi.json").json()
    schemas = document["components"]["schemas"]

    def references(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference


def test_the_token_is_part_of_the_document_where_one_is_needed(
    serving: Callable[..., TestClient], settings: Settings, served: TestClient
) -> None:
    assert "securitySchemes" not in served.get("/api/v1/openapi.json").json()["components"]
    document = serving(replace(settings, token="secret")).get("/api/v1/openapi.json").json()
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    for where, operation in _operations(document):
        assert ("security" in operation) != where.endswith(("/health", "/session")), where


def test_a_method_that_is_not_allowed_is_answered_with_those_that_are(served: TestClient) -> None:
    for path, allowed in (
        ("session", "DELETE, GET, POST"),
        (f"galleries/g/images/{'0' * 32}", "DELETE, GET"),
        ("galleries/g/images/paths", "POST"),
    ):
        answer = served.put(f"/api/v1/{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
