"""The container's files, as far as they can be checked unbuilt: what they name is there, and nobody is root."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from client.conftest import listening
from conftest import FakeEncoder
from patchwise import Gallery
from patchwise.cli.app import app
from patchwise.server import Settings, create_app

ROOT = Path(__file__).parents[1]
SECRET = re.compile(r"(token|password|secret|key)\s*[=:]\s*\S", re.IGNORECASE)


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage."""
    found: list[list[tuple[str, str]]] = []
    for name, value in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, value))
    return found


def last_stage(wanted: str) -> list[str]:
    return [value for name, value in stages()[-1] if name == wanted]


def environment() -> dict[str, str]:
    return dict(word.split("=", 1) for value in last_stage("ENV") for word in shlex.split(value))


@pytest.fixture(scope="module")
def service() -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"][
        "patchwise"
    ]
    return found


def test_every_file_that_is_copied_is_there_and_let_through() -> None:
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()
    copied = []
    for name, value in instructions():
        if name == "COPY" and not value.startswith("--from"):
            *sources, _ = value.split()
            copied += [source.removeprefix("./") for source in sources]
    assert copied and all((ROOT / source).exists() for source in copied)
    assert sorted(copied) == sorted(let_through)
    built_from = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for needed in [*re.findall(r'^readme = "(.*)"', built_from, re.MULTILINE), "LICENSE", "NOTICE"]:
        assert needed in copied, "the build would fail"


def test_what_is_installed_is_pinned_and_has_the_extras() -> None:
    (base,) = [value for name, value in instructions() if name == "ARG"]
    assert re.fullmatch(r"PYTHON=python:3\.1[2-9]-slim-\w+", base)
    assert {value.split()[0] for name, value in instructions() if name == "FROM"} == {"${PYTHON}"}
    (install,) = [value for name, value in instructions() if name == "RUN" and "pip install" in value]
    assert "--constraint constraints.txt" in install and "PIP_CONSTRAINT=constraints.txt pip wheel" in install
    extras = re.search(r"\[([\w,]+)\]", install)
    assert extras and set(extras[1].split(",")) == {"server", "heif", "parquet"}
    known = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(extras[1].split(",")) <= set(known)


def test_nobody_is_root() -> None:
    (user,) = last_stage("USER")
    uid, _, gid = user.partition(":")
    assert int(uid) >= 10_000 and int(gid) >= 10_000
    (made,) = [value for value in last_stage("RUN") if "useradd" in value]
    assert f"--uid {uid}" in made and f"--gid {gid}" in made and f"install -d -o {uid} -g {gid} -m 0750 /data" in made
    names = [name for name, _ in stages()[-1]]
    assert names.index("USER") < names.index("ENTRYPOINT") and not {"RUN", "COPY", "ADD"} & set(
        names[names.index("USER") :]
    )


def test_no_secret_is_baked_in() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert not SECRET.search(re.sub(r"^#.*$", "", text, flags=re.MULTILINE))
    assert "PATCHWISE_TOKEN" not in environment()


def test_the_command_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(last_stage("ENTRYPOINT")[0]) == ["patchwise"]
    name, *arguments = json.loads(last_stage("CMD")[0])
    for variable, value in environment().items():
        if variable.startswith("PATCHWISE_"):
            monkeypatch.setenv(variable, value)
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, arguments).params
    assert given["host"] == "0.0.0.0" and given["port"] == int(last_stage("EXPOSE")[0])
    assert given["gallery"] == ["photos=/data/photos"] and given["root"] == [Path("/pictures")]
    (volume,) = json.loads(last_stage("VOLUME")[0])
    kept = [given["gallery"][0].partition("=")[2], str(given["uploads"]), environment()["PATCHWISE_CACHE"]]
    assert all(place.startswith(f"{volume}/") for place in kept), "it would be lost with the container"
    assert environment()["HOME"] == volume, "what packages keep at home could not be written"


def test_the_variables_are_those_that_are_read() -> None:
    read = {
        name
        for file in (ROOT / "src").rglob("*.py")
        for name in re.findall(r'["\'](PATCHWISE_[A-Z_]+)["\']', file.read_text(encoding="utf-8"))
    }
    named = set(re.findall(r"PATCHWISE_[A-Z_]+", (ROOT / "Dockerfile").read_text(encoding="utf-8")))
    named |= set(re.findall(r"PATCHWISE_[A-Z_]+", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
    assert named <= read, f"nothing reads {named - read}"


def test_without_a_token_the_container_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    place = {"/data": str(tmp_path / "data"), "/pictures": str(tmp_path / "pictures")}
    arguments = [
        re.sub("|".join(place), lambda found: place[found[0]], word) for word in json.loads(last_stage("CMD")[0])
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PATCHWISE")}
    done = subprocess.run(
        [sys.executable, "-m", "patchwise", *arguments],
        env={**kept, "PATCHWISE_HOST": environment()["PATCHWISE_HOST"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "PATCHWISE_TOKEN" in done.stderr
    assert not (tmp_path / "data").exists()


def test_the_health_check_tells_a_server_from_none(gallery: Gallery, tmp_path: Path) -> None:
    (check,) = last_stage("HEALTHCHECK")
    python, *command = json.loads(check[check.index("CMD ") + 4 :])
    assert python == "python"
    settings = Settings({"g": gallery.path}, token="t", queries=tmp_path / "q", uploads=tmp_path / "u")
    opened = create_app(settings, lambda folder: Gallery.open(folder, encoder=FakeEncoder()))
    proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}  # it must not be asked

    def healthy(address: str) -> bool:
        asked = {**os.environ, **proxy, "PATCHWISE_PORT": address.rpartition(":")[2]}
        return subprocess.run([sys.executable, *command], env=asked, capture_output=True, timeout=60).returncode == 0

    with listening(opened) as address:
        assert healthy(address)
    assert not healthy(address)


def test_the_service_gets_no_more_than_it_needs(service: dict[str, object]) -> None:
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "user" not in service and "network_mode" not in service
    assert service["restart"] == "unless-stopped"
    (port,) = service["ports"]  # type: ignore[misc]
    assert port == f"127.0.0.1:{last_stage('EXPOSE')[0]}:{last_stage('EXPOSE')[0]}"
    assert [place.partition(":")[0] for place in service["tmpfs"]] == ["/tmp"]  # type: ignore[attr-defined]


def test_the_service_s_token_and_places(service: dict[str, object]) -> None:
    variables: dict[str, str] = service["environment"]  # type: ignore[assignment]
    assert set(variables) == {"PATCHWISE_TOKEN"}
    assert variables["PATCHWISE_TOKEN"].startswith("${PATCHWISE_TOKEN:?"), "without one it must not start"
    data, pictures = service["volumes"]  # type: ignore[misc]
    assert data == "data:/data" and pictures.endswith(":/pictures:ro")
    whole = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    assert set(whole["volumes"]) == {"data"} and set(whole) == {"services", "volumes"}


def test_the_service_is_given_the_time_that_a_server_takes_to_end(service: dict[str, object]) -> None:
    from patchwise.server.app import _WARMING_SECONDS
    from patchwise.server.jobs import Jobs
    from patchwise.server.limits import _ENDING_SECONDS, Pool
    from patchwise.server.running import _GRACE_SECONDS

    of_pool, of_jobs = (signature(each).parameters["timeout"].default for each in (Pool.close, Jobs.stop))
    seconds = re.fullmatch(r"(\d+)s", str(service["stop_grace_period"]))
    assert seconds and int(seconds[1]) > _GRACE_SECONDS + _WARMING_SECONDS + 2 * of_pool + of_jobs
    assert _ENDING_SECONDS < _GRACE_SECONDS  # who searches is told, and not cut off
