"""A server as a process of its own: how it starts, what it says, how it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import make_picture
from patchwise import Gallery

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


class Serving:
    """A process that serves, and the address it has said."""

    def __init__(self, *arguments: object, cwd: Path, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "patchwise", "serve", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "PATCHWISE_CACHE": str(cwd / "cache"), "OMP_NUM_THREADS": "1", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"http://\S+", line):
                self.address = found[0]
                return
        raise AssertionError(f"it ended with {self.process.wait()} and said {self.said}")

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        base = self.address.partition("#")[0].rstrip("/")
        request = urllib.request.Request(f"{base}/api/v1/{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def end(self, number: int) -> tuple[int, str]:
        """Sends a signal; returns the exit code, and what it said on stderr after its address."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    started: list[Serving] = []

    def begin(*arguments: object, **variables: str) -> Serving:
        started.append(Serving(*arguments, cwd=tmp_path, **variables))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


def _refused(tmp_path: Path, *arguments: object, code: int = 2) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "patchwise", "serve", *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("patchwise: ")
    return line


def test_a_server_makes_its_gallery_says_where_it_is_and_ends_well(
    start: Callable[..., Serving], tmp_path: Path
) -> None:
    serving = start("--port", 0)
    assert serving.said[0] == "patchwise: made an empty gallery in .patchwise\n"
    assert re.fullmatch(r"patchwise: http://127\.0\.0\.1:[1-9]\d*/\n", serving.said[1])
    status, content = serving.get("galleries")
    assert status == 200
    assert [gallery["name"] for gallery in json.loads(content)["galleries"]] == ["patchwise"]
    assert serving.end(signal.SIGTERM) == (0, "")
    with Gallery.open(tmp_path / ".patchwise") as made:
        assert len(made) == 0


def test_programs_are_told_where_it_is_on_stdout_without_its_token(start: Callable[..., Serving]) -> None:
    serving = start("--port", 0, "--gallery", "b=x", "--gallery", "a=y", "--json", PATCHWISE_TOKEN="s3cret")
    assert serving.process.stdout is not None
    line = serving.process.stdout.readline()
    assert json.loads(line) == {
        "url": serving.address,
        "galleries": ["b", "a"],
        "token_required": True,
        "pid": serving.process.pid,
    }
    assert serving.end(signal.SIGTERM) == (0, "")


def test_ctrl_c_ends_it_as_it_ends_every_command(start: Callable[..., Serving]) -> None:
    assert start("--port", 0).end(signal.SIGINT) == (130, "")


def test_what_runs_is_finished_before_it_ends(start: Callable[..., Serving], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(12):
        make_picture(seed, (900, 700)).save(folder / f"{seed}.jpg")
    with Gallery.create(tmp_path / "g", regions="whole") as made:
        made.add(folder)
    serving = start("--port", 0, "--gallery", "photos=g")
    status, content = serving.get("galleries/photos/images")
    images = [image["image"] for image in json.loads(content)["images"]]
    assert (status, len(images)) == (200, 12)
    answers: list[tuple[int, int]] = []

    def ask(image: str) -> None:
        code, thumbnail = serving.get(f"galleries/photos/images/{image}/thumbnail?size=2048")
        answers.append((code, len(thumbnail)))

    asking = [threading.Thread(target=ask, args=(image,)) for image in images]
    for thread in asking:
        thread.start()
    time.sleep(0.15)  # they are asked for, and most of them wait
    code, said = serving.end(signal.SIGTERM)
    for thread in asking:
        thread.join()
    assert (code, said) == (0, "")
    assert [status for status, _ in answers] == [200] * 12
    assert min(size for _, size in answers) > 1000


def test_those_who_go_before_they_are_answered_leave_no_trace(start: Callable[..., Serving], tmp_path: Path) -> None:
    make_picture(1, (2000, 1500)).save(tmp_path / "a.jpg")
    with Gallery.create(tmp_path / "g", regions="whole") as made:
        made.add(tmp_path / "a.jpg")
    serving = start("--port", 0, "--gallery", "g")
    (image,) = json.loads(serving.get("galleries/g/images")[1])["images"]
    body = json.dumps({"parts": [{"picture": image["image"]}]})
    host, _, port = serving.address.removeprefix("http://").rstrip("/").partition(":")
    for _ in range(12):
        with socket.create_connection((host, int(port))) as hasty:
            hasty.sendall(
                f"POST /api/v1/galleries/g/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
    assert serving.get("galleries/g/images")[0] == 200
    assert serving.end(signal.SIGTERM) == (0, "")


def test_settings_of_the_environment_and_a_token_that_no_log_is_told(start: Callable[..., Serving]) -> None:
    serving = start("--port", 0, "--host", "0.0.0.0", PATCHWISE_TOKEN="s3cret+/", PATCHWISE_GALLERY="x=my photos")
    assert serving.said[0] == "patchwise: made an empty gallery in my photos\n"
    assert re.fullmatch(r"http://0\.0\.0\.0:\d+/", serving.address)
    assert serving.get("galleries")[0] == 401
    assert serving.get("galleries", Authorization="Bearer s3cret+/")[0] == 200


def test_who_watches_the_terminal_gets_an_address_with_the_token(tmp_path: Path) -> None:
    watching, terminal = pty.openpty()
    command = [sys.executable, "-m", "patchwise", "serve", "--port", "0", "--token", "s3cret+/"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=terminal, stderr=terminal)
    os.close(terminal)
    try:
        said = b""
        while b"http://" not in said or not said.endswith(b"\n"):
            said += os.read(watching, 1024)
        assert re.search(rb"http://127\.0\.0\.1:\d+/#token=s3cret%2B%2F\s", said)
    finally:
        process.terminate()
        assert process.wait(30) == 0
        os.close(watching)


def test_other_hosts_need_a_token(tmp_path: Path) -> None:
    line = _refused(tmp_path, "--host", "0.0.0.0", "--port", 0)
    assert "a token is needed; set PATCHWISE_TOKEN or --token" in line
    assert not (tmp_path / ".patchwise").exists()


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is in use already" in _refused(tmp_path, "--port", port)
    assert not (tmp_path / ".patchwise").exists()


def test_a_host_that_is_none_of_this_machine_is_said(tmp_path: Path) -> None:
    assert "203.0.113.7" in _refused(tmp_path, "--host", "203.0.113.7", "--token", "x", "--port", 0)


def test_a_gallery_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    assert "photos" in _refused(tmp_path, "--gallery", "photos", "--port", 0, code=1)


def test_a_missing_extra_is_said(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['uvicorn'] = None; sys.argv = ['patchwise', 'serve', '--port', '0']; "
        "from patchwise.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr == "patchwise: patchwise serve needs an optional package: pip install 'patchwise[server]'\n"
