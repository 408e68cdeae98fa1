"""Who may ask, from where, and how much they may send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from conftest import FakeEncoder
from patchwise import Gallery
from patchwise.server import Settings, create_app
from patchwise.server.intake import Intake
from patchwise.server.problems import Problem
from patchwise.server.security import Guard, Token

GALLERIES = "/api/v1/galleries"
TOKEN = "correct-horse"


@pytest.fixture
def closed(serving: Callable[..., TestClient], settings: Settings) -> TestClient:
    """A server that wants a token."""
    return serving(replace(settings, token=TOKEN, host="0.0.0.0"), address="http://photos.example")


def test_without_the_token_nothing_is_told(closed: TestClient) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Cookie": "patchwise=1; ;=;"},
        {"Cookie": f"{Token(TOKEN).cookie}={TOKEN}"},
    ):
        answer = closed.get(GALLERIES, headers=headers)  # type: ignore[arg-type]
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
    assert closed.delete(f"{GALLERIES}/g/images/{'0' * 32}").status_code == 401
    assert closed.get("/api/v1/no-such-thing").status_code == 401


def test_with_the_token_everything_is(closed: TestClient) -> None:
    assert closed.get(GALLERIES, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert closed.get(GALLERIES, headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


def test_what_needs_no_token(closed: TestClient) -> None:
    assert closed.get("/").status_code == 200
    assert closed.get("/api/v1/openapi.json").status_code == 200
    assert closed.get("/api/v1/session").json() == {"required": True, "valid": False}


def test_a_session_keeps_the_token_in_a_cookie_that_scripts_cannot_read(closed: TestClient) -> None:
    wrong = closed.post("/api/v1/session", json={"token": "wrong"})
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers
    right = closed.post("/api/v1/session", json={"token": TOKEN})
    assert right.status_code == 204
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    assert closed.get("/api/v1/session").json() == {"required": True, "valid": True}
    assert closed.get(GALLERIES).status_code == 200
    assert "set-cookie" in closed.delete("/api/v1/session").headers
    assert closed.get(GALLERIES).status_code == 401
    assert "set-cookie" not in closed.delete("/api/v1/session").headers, "its name is derived from the token"


def test_without_a_token_sessions_are_always_valid(served: TestClient) -> None:
    assert served.get("/api/v1/session").json() == {"required": False, "valid": True}
    assert served.post("/api/v1/session", json={"token": "any"}).status_code == 204


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example:8799",
        "localhost.evil.example",
        "",
        "[::1",
        "8.8.8.8",
        "evil@127.0.0.1",
        "a:b@localhost",
    ],
)
def test_other_names_pointed_at_this_machine_are_turned_away(served: TestClient, host: str) -> None:
    for path in (GALLERIES, "/", "/api/v1/health"):
        answer = served.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:patchwise:host")


@pytest.mark.parametrize("host", ["localhost", "localhost:8799", "127.0.0.1:1234", "[::1]:8799"])
def test_names_of_this_machine_are_let_in(served: TestClient, host: str) -> None:
    assert served.get(GALLERIES, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8799"},
    ],
)
def test_pages_of_other_sites_may_neither_read_nor_change(served: TestClient, headers: dict[str, str]) -> None:
    for answer in (
        served.get(GALLERIES, headers=headers),
        served.delete(f"{GALLERIES}/g/images/{'0' * 32}", headers=headers),
        served.post("/api/v1/session", json={"token": "x"}, headers=headers),
        served.options(GALLERIES, headers=headers),
    ):
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:patchwise:origin")
        assert "access-control-allow-origin" not in answer.headers


def test_the_own_page_may_ask_and_links_from_elsewhere_open_it(served: TestClient) -> None:
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8799"}
    assert served.get(GALLERIES, headers=own).status_code == 200
    linked = served.get("/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    assert linked.status_code == 200


def test_the_own_page_may_ask_through_a_proxy_that_gives_the_server_another_name(closed: TestClient) -> None:
    closed.headers["Authorization"] = f"Bearer {TOKEN}"
    page = {"Origin": "https://photos.example:8443", "Host": "127.0.0.1:8799"}
    assert closed.get(GALLERIES, headers={**page, "Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert closed.get(GALLERIES, headers={**page, "Sec-Fetch-Site": "same-site"}).status_code == 403
    assert closed.get(GALLERIES, headers=page).status_code == 403  # a browser that says nothing of it


def test_the_cookie_of_a_page_that_came_by_https_never_travels_without(closed: TestClient) -> None:
    for origin, secure in (("https://photos.example", True), ("http://photos.example", False)):
        answer = closed.post("/api/v1/session", json={"token": TOKEN}, headers={"Origin": origin})
        assert answer.status_code == 204 and ("; Secure" in answer.headers["set-cookie"]) is secure


@pytest.mark.parametrize(
    "other",
    ['a={"x":1}', "foo[bar]=1", "th\xe9me=dark", "flag", "x=a b", 'x="a', "=", "a=1; ", "$Version=1", "a=b=c, d"],
)
def test_cookies_of_other_programs_do_not_end_a_session(closed: TestClient, other: str) -> None:
    own = Token(TOKEN)
    for cookies in (f"{other}; {own.cookie}={own.session}", f"{own.cookie}={own.session};{other}"):
        assert closed.get(GALLERIES, headers={"Cookie": cookies.encode("latin-1")}).status_code == 200  # type: ignore[dict-item]
    stale = f"{own.cookie}=of-another-path; {own.cookie}={own.session}"
    assert closed.get(GALLERIES, headers={"Cookie": stale}).status_code == 200
    assert closed.get(GALLERIES, headers={"Cookie": f"x{own.cookie}={own.session}"}).status_code == 401


def test_guessing_the_token_is_slow_and_the_right_one_is_not(
    closed: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr("patchwise.server.security.asyncio.sleep", sleep)
    for number in range(10):
        assert closed.get(GALLERIES, headers={"Authorization": f"Bearer {number}"}).status_code == 401
        assert closed.post("/api/v1/session", json={"token": str(number)}).status_code == 401
        assert closed.get(GALLERIES).status_code == 401  # no guess
    assert paused == []
    closed.get(GALLERIES, headers={"Authorization": "Bearer x"})
    closed.post("/api/v1/session", json={"token": "x"})
    assert not closed.get("/api/v1/session", headers={"Authorization": "Bearer x"}).json()["valid"]
    assert len(paused) == 3 and min(paused) >= 0.5
    assert closed.get(GALLERIES, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert closed.get("/api/v1/session", headers={"Authorization": f"Bearer {TOKEN}"}).json()["valid"]
    assert len(paused) == 3


def test_those_without_the_token_take_no_room_from_others(closed: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    really = Intake._take

    def take(intake: Intake, size: int) -> bool:
        asked.append(size)
        return really(intake, size)

    monkeypatch.setattr(Intake, "_take", take)
    for kind in ("multipart/form-data; boundary=b", "application/json"):
        sent = {"Content-Type": kind, "Transfer-Encoding": "chunked"}
        assert closed.post("/api/v1/session", content=iter([b"x" * 999]), headers=sent).status_code in (415, 422)
        assert closed.post("/api/v1/session", content=iter([b"x" * 99_999]), headers=sent).status_code == 413
    assert asked == []
    known = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    assert closed.post(f"{GALLERIES}/g/search", content=iter([b"{}"]), headers=known).status_code == 422
    assert asked == [2**20]


def test_a_body_that_has_come_keeps_room_for_its_bytes_alone(settings: Settings) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert guard._intake._taken == 2**20, "as much as it may have"
        while (await receive())["more_body"]:
            pass
        assert guard._intake._taken == 3

    async def main() -> None:
        parts = iter([b"a", b"bc"])

        async def receive() -> Message:
            body = next(parts)
            return {"type": "http.request", "body": body, "more_body": body == b"a"}

        async def send(message: Message) -> None:
            raise AssertionError(message)

        await guard(scope, receive, send)
        assert guard._intake._taken == 0

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": GALLERIES, "headers": headers}
    guard = Guard(app, settings, Token(None))
    asyncio.run(main())


def test_errors_of_ours_tell_nothing_and_carry_the_same_headers(
    settings: Settings, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("/secret/path")

    monkeypatch.setattr("patchwise.server.routes.galleries._described", broken)
    app = create_app(settings, lambda folder: Gallery.open(folder, encoder=FakeEncoder()))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        answer = client.get(f"{GALLERIES}/g")
    assert answer.status_code == 500 and "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"x-content-type-options", "content-security-policy", "cache-control"} <= answer.headers.keys()


def test_headers_that_browsers_heed(served: TestClient) -> None:
    for path in ("/", GALLERIES, "/api/v1/nothing"):
        headers = served.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
    policy = served.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert served.get(GALLERIES).headers["cache-control"] == "no-store"


def test_bodies_that_are_too_large_are_refused_whatever_they_say_of_themselves(served: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    form = {"Content-Type": "multipart/form-data; boundary=b"}
    json = {"Content-Type": "application/json"}
    for path, headers in (("search", json), ("pictures", form), ("search/upload", form)):
        for content in (b"x" * 4_000_000, chunks()):
            answer = served.post(f"{GALLERIES}/g/{path}", content=content, headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (413, "urn:patchwise:too-large")


def test_a_body_where_none_belongs_is_bounded_too(served: TestClient) -> None:
    answer = served.request("DELETE", f"{GALLERIES}/g/images/{'0' * 32}", content=b"x" * 4_000_000)
    assert answer.status_code == 413


@pytest.mark.parametrize("pause", [0.5, 0.02])
def test_a_body_that_does_not_come_is_not_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """Neither one that stops, nor one that drips."""
    monkeypatch.setattr("patchwise.server.security._SILENCE", 0.2)
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass

    async def receive() -> Message:
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": GALLERIES,
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }
    began = time.monotonic()
    with pytest.raises(Problem) as late:
        asyncio.run(Guard(app, settings, Token(None))(scope, receive, send))
    assert late.value.status_code == 408 and 0.15 < time.monotonic() - began < 2


def test_forms_that_are_none(served: TestClient) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=b"):
        answer = served.post(f"{GALLERIES}/g/pictures", content=b"garbage", headers={"Content-Type": kind})
        assert answer.status_code in (400, 422)
        assert answer.headers["content-type"] == "application/problem+json"


def test_tokens_are_told_apart() -> None:
    one, other = Token("one"), Token("other")
    assert one.cookie != other.cookie
    assert one.session != other.session
    assert one.brought_by(Headers({"cookie": f"{one.cookie}={one.session}"}))
    assert not other.brought_by(Headers({"cookie": f"{other.cookie}={one.session}"}))
    assert not Token(None).matches("")
