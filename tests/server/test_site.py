"""The page's files."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient


def test_the_page_and_all_it_names_are_served_as_what_they_are(served: TestClient) -> None:
    page = served.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:href|src)="(page/[^"]+)"', page.text))
    assert named
    kinds = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
    for name in named:
        answer = served.get(f"/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"] == kinds["." + name.rpartition(".")[2]]


def test_nothing_comes_from_elsewhere(served: TestClient) -> None:
    assert not re.findall(r'(?:href|src)="(?:https?:)?//', served.get("/").text)


def test_files_are_asked_for_each_time_and_sent_only_when_they_changed(served: TestClient) -> None:
    first = served.get("/page/api.js")
    assert first.headers["cache-control"] == "no-cache"
    again = served.get("/page/api.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert served.get("/page/api.js", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "%2e%2e/app.py",
        "../app.py",
        "..%2fapp.py",
        "%2fetc%2fpasswd",
        "",
        "nothing.js",
        ".hidden.js",
        "a%00.js",
        "..%5capp.js",
    ],
)
def test_nothing_but_the_page_is_given_out(served: TestClient, path: str) -> None:
    answer = served.get(f"/page/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_no_page_that_loads_from_elsewhere_comes_with_the_framework(served: TestClient) -> None:
    assert [served.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")] == [404, 404, 404]
