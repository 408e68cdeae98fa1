"""What goes wrong between a client and its server is said in one sentence; a busy server is waited for."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from client.conftest import TOKEN
from patchwise import Client
from patchwise.client import connection
from patchwise.client.problems import NotThere
from patchwise.errors import (
    EncoderError,
    GalleryBusy,
    GalleryError,
    GalleryNotFound,
    ImageTooLarge,
    ImageUnreadable,
    MissingExtra,
    PatchwiseError,
    RegionsError,
    ServerError,
    StorageFull,
    UsageError,
)
from patchwise.store import StoredImage

MadeUp = Callable[..., Client]
HEALTH = {"status": "ok", "version": "9"}


def problem(status: int, kind: str, detail: str = "what is wrong", **headers: str) -> httpx2.Response:
    content = {"type": f"urn:patchwise:{kind}", "title": "t", "status": status, "detail": detail}
    return httpx2.Response(status, json=content, headers={"content-type": "application/problem+json", **headers})


def test_a_token_is_needed(address: str) -> None:
    for token in (None, "wrong"):
        with Client(address, token=token) as client, pytest.raises(ServerError, match=r"token.*token=\.\.\."):
            client.info()
        assert client.health()["status"] == "ok", "which needs none"
        client.close()
    with Client(f"{address}/#token={TOKEN}") as client:
        assert client.info().images == 6
    with Client(f"{address}/", token=TOKEN, gallery="other") as client, pytest.raises(GalleryNotFound, match="other"):
        client.info()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = rf"http://127.0.0.1:{port}: cannot be reached .*patchwise serve"
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(ServerError, match=said):
        client.info()


def test_silence() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.1) as client,
        pytest.raises(ServerError, match=r"no answer within 0.1 seconds"),
    ):
        client.info()


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, text="<html>a router's page</html>"),
        httpx2.Response(200, json=[1, 2]),
        httpx2.Response(200, json={"galleries": [{"name": "x"}]}),
        httpx2.Response(200, json={"galleries": []}),
        httpx2.Response(404, text="not found"),
        httpx2.Response(500, json={"detail": "another program's"}),
        httpx2.Response(500, text="{", headers={"content-type": "application/problem+json"}),
        httpx2.Response(400, json={"detail": "no type"}, headers={"content-type": "application/problem+json"}),
    ],
    ids=str,
)
def test_another_program_answers(made_up: MadeUp, answer: httpx2.Response) -> None:
    with pytest.raises(ServerError, match=r"^http://server.test: .*is this its address\?"):
        made_up(lambda _: answer).galleries()


def test_what_is_no_picture(made_up: MadeUp) -> None:
    with pytest.raises(ServerError, match="not as a patchwise server"):
        made_up(lambda _: httpx2.Response(200, content=b"no JPEG")).thumbnail("0" * 32)


def test_a_token_does_not_follow_a_redirection(made_up: MadeUp) -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url.host))
        return httpx2.Response(307, headers={"location": "https://elsewhere.test/"})

    with pytest.raises(ServerError, match=r"leads on to https://elsewhere\.test/"):
        made_up(answer, token="t").info()
    assert asked == ["server.test"]


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("usage", 422, UsageError),
        ("invalid", 422, UsageError),
        ("regions", 422, RegionsError),
        ("image-unreadable", 422, ImageUnreadable),
        ("image-too-large", 422, ImageTooLarge),
        ("image-not-found", 404, NotThere),
        ("encoder", 500, EncoderError),
        ("no-texts", 422, EncoderError),
        ("gallery-not-found", 404, GalleryNotFound),
        ("gallery-busy", 409, GalleryBusy),
        ("gallery", 500, GalleryError),
        ("storage-full", 507, StorageFull),
        ("missing-extra", 501, MissingExtra),
        ("read-only", 403, ServerError),
        ("something-new", 418, ServerError),
        ("too-large", 413, ServerError),
    ],
)
def test_problems_become_the_library_s_errors(
    made_up: MadeUp, kind: str, status: int, error: type[PatchwiseError]
) -> None:
    detail = "a.jpg: it needs an optional package: pip install 'patchwise[rerank]'"
    with pytest.raises(error) as caught:
        made_up(lambda _: problem(status, kind, detail)).info()
    assert type(caught.value) is error or issubclass(error, ServerError)
    assert detail in str(caught.value)
    if isinstance(caught.value, ImageUnreadable):
        assert (caught.value.name, caught.value.reason) == ("a.jpg", detail.removeprefix("a.jpg: "))
    if isinstance(caught.value, MissingExtra):
        assert caught.value.extra == "rerank" and str(caught.value).startswith("the server: ")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_waited_for(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    slept: list[float] = []
    monkeypatch.setattr(connection.time, "sleep", slept.append)
    answers = [
        problem(status, "overloaded", **{"Retry-After": "2"}),
        problem(status, "overloaded", **{"Retry-After": "0"}),
        httpx2.Response(200, json=HEALTH),
    ]
    assert made_up(lambda _: answers.pop(0)).health() == HEALTH
    assert len(slept) == 2 and 2 <= slept[0] <= 2.5 and 0 < slept[1] <= 0.5


def test_removing_waits_for_another_writer_and_nothing_else_does(
    made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(connection.time, "sleep", slept.append)
    answers = [problem(409, "gallery-busy", **{"Retry-After": "5"}), httpx2.Response(204)]
    assert made_up(lambda _: answers.pop(0)).remove(StoredImage("/a.png", "0" * 32, (1, 1), {})) == 1
    assert len(slept) == 1 and slept[0] >= 5
    with pytest.raises(GalleryBusy):
        made_up(lambda _: problem(409, "gallery-busy", **{"Retry-After": "5"})).health()
    assert len(slept) == 1


def test_patience_has_an_end(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(connection.time, "sleep", slept.append)
    client = made_up(lambda _: problem(503, "overloaded", "too many wait", **{"Retry-After": "10"}))
    with pytest.raises(ServerError, match="too many wait"):
        client.health()
    assert 30 <= sum(slept) <= 60


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}])
def test_who_does_not_say_when_is_not_asked_again(
    made_up: MadeUp, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(connection.time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(ServerError, match="too many wait"):
        made_up(lambda _: problem(503, "overloaded", "too many wait", **headers)).health()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8799",
        "localhost:8799",
        "ftp://a.test",
        "http://",
        "http://a.test:port",
        "http://a.test/?x=1",
        "//a",
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match="expected the address of a server"):
        Client(url)


@pytest.mark.parametrize(
    "url", ["http://exa_mple..com", "http://.test", "http://\u2603.test", f"http://{'a' * 70}.test"]
)
def test_an_address_that_nobody_can_have(url: str) -> None:
    with Client(url) as client, pytest.raises(PatchwiseError, match=r"no address to ask at|cannot be reached"):
        client.health()


def test_secrets_stay_out_of_messages() -> None:
    with pytest.raises(UsageError) as caught:
        Client("http://somebody:secret@a.test")
    assert "secret" not in str(caught.value) and "token=" in str(caught.value)
    with pytest.raises(UsageError) as caught:
        Client("a.test#token=secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="visible ASCII") as caught:
        Client("http://a.test", token="sécret")
    assert "cret" not in str(caught.value).replace("secret", "")


def test_a_path_before_the_api(made_up: MadeUp) -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(200, json=HEALTH)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    for url in ("https://a.test/pictures/", "https://a.test/pictures/api/v1", "https://a.test/pictures/api/v1/"):
        Client(url, http=http).health()
    assert asked == ["https://a.test/pictures/api/v1/health"] * 3


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_times_that_make_no_sense(timeout: float) -> None:
    with pytest.raises(UsageError, match="timeout"):
        Client("http://a.test", timeout=timeout)


def test_without_httpx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'patchwise\[client\]'"):
        Client("http://a.test")


def test_names_of_galleries_and_images_stay_in_their_place(made_up: MadeUp, tmp_path: Path) -> None:
    asked: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.raw_path)
        return problem(404, "job-not-found" if b"/jobs/" in request.url.raw_path else "image-not-found")

    client = made_up(answer, gallery="../x?y")
    with pytest.raises(ImageUnreadable):
        client.image_bytes("0" * 32)
    with pytest.raises(UsageError):
        client.job("../../secret")
    with pytest.raises(UsageError, match="whole path"):
        client.image_bytes("../../secret")
    assert asked == [
        b"/api/v1/galleries/..%2Fx%3Fy/images/" + b"0" * 32 + b"/full",
        b"/api/v1/jobs/..%2F..%2Fsecret",
    ]


def test_a_client_goes_on_after_it_was_closed(address: str) -> None:
    client = Client(address, token=TOKEN)
    assert client.info().images == 6
    client.close()
    assert client.info().images == 6
    client.close()


def test_your_own_http_client_stays_open(address: str) -> None:
    with httpx2.Client() as http:
        with Client(address, token=TOKEN, http=http) as client:
            client.info()
        assert not http.is_closed
