"""What a server is told, and what it refuses to be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchwise.errors import UsageError
from patchwise.server.settings import Settings, is_loopback, named_galleries

G = {"g": Path("g")}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.1"])
def test_without_token_a_server_listens_on_this_machine(host: str) -> None:
    assert Settings(G, host=host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.com", "localhost.example.com", ""])
def test_other_hosts_need_a_token(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UsageError, match="token"):
        Settings(G, host=host)
    assert Settings(G, host=host, token="secret").host == host


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"galleries": {}}, "nothing to serve"),
        ({"galleries": {"a/b": Path("g")}}, "gallery name 'a/b'"),
        ({"galleries": {"g\n": Path("g")}}, "gallery name"),
        ({"galleries": {"..": Path("g")}}, "gallery name"),
        ({"galleries": {"a": Path("g"), "b": Path("x/../g")}}, "named twice"),
        ({"uploads": Path("g")}, "lies in the other"),
        ({"uploads": Path("g/inner")}, "lies in the other"),
        ({"galleries": {"a": Path("up/a/gallery")}, "uploads": Path("up")}, "lies in the other"),
        ({"galleries": {"a": Path("x"), "b": Path("x-uploads/b")}}, "lies in the other"),
        ({"token": "two words"}, "visible ASCII"),
        ({"token": ""}, "visible ASCII"),
        ({"token": "secret\r\nX: y"}, "visible ASCII"),
        ({"roots": (Path("/does/not/exist"),)}, "not a folder"),
        ({"port": 70000}, "port 70000"),
        ({"queue": 0}, "queue 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Settings(**{"galleries": G, **options})  # type: ignore[arg-type]


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(Settings(G, token="secret"))


def test_uploads_lie_beside_a_gallery_and_never_inside(tmp_path: Path) -> None:
    settings = Settings({"a": tmp_path / ".patchwise", "b": tmp_path / "b"})
    assert settings.uploads_folder("a") == tmp_path / ".patchwise-uploads"
    assert Settings({"a": tmp_path / "g"}, uploads=tmp_path / "up").uploads_folder("a") == tmp_path / "up" / "a"


def test_galleries_by_name() -> None:
    assert named_galleries([".patchwise", "art=/data/x", "/data/logos"]) == {
        "patchwise": Path(".patchwise"),
        "art": Path("/data/x"),
        "logos": Path("/data/logos"),
    }
    assert named_galleries(["/data/a=b/logos"]) == {"logos": Path("/data/a=b/logos")}
    with pytest.raises(UsageError, match="two galleries are named 'x'"):
        named_galleries(["/a/x", "/b/x"])
    with pytest.raises(UsageError, match="NAME="):
        named_galleries(["/data/my photos"])
