"""The OpenAPI document: what every route may answer besides its own, and how to bring a token along."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from patchwise.server.problems import problems
from patchwise.server.schemas import Problem

__all__ = ["allowed_methods", "describe"]

_ALWAYS = (400, 401, 403)  # a host, token or origin that is refused
_OPEN = ("/health", "/session")
_METHODS = ("get", "post", "delete", "put", "patch")


def describe(app: FastAPI, *, token: bool) -> None:
    """Let the application describe itself; `token` says whether one is needed."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=app.description,
                    routes=app.routes,
                    license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
                ),
                token,
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """The methods that may be asked of a path, by all of its routes; none where it is not in the document."""
    paths = app.openapi()["paths"]
    for template in sorted(paths, key=lambda path: path.count("{")):  # the most literal is the one that is meant
        operations = paths[template]
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path):
            return sorted(method.upper() for method in operations if method in _METHODS)
    return []


def _completed(document: dict[str, Any], token: bool) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _, problem = models_json_schema([(Problem, "serialization")], ref_template="#/components/schemas/{model}")
    schemas.update(problem["$defs"])
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method not in operations:
                continue
            responses = operations[method]["responses"]
            body = operations[method].get("requestBody")
            if body is not None:
                body["required"] = True  # a form whose fields may all be left out must still be a form
            for status in (
                *map(str, _ALWAYS),
                *(["413"] if body is not None else []),
                *(["422"] if "422" in responses else []),
            ):
                responses[status] = problems(int(status))[int(status)]
            operations[method]["responses"] = dict(sorted(responses.items()))
            if token and not path.endswith(_OPEN):
                operations[method]["security"] = [{"token": []}]
    return document
