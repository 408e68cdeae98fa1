"""Every command and snippet of the documentation runs, and every command and option is documented."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.main import get_command

from conftest import make_picture
from patchwise.cli.app import app
from patchwise.codecs import TRAINING_VECTORS, choose_codec, parse_codec
from patchwise.codecs.choice import AUTO_SHARE, DIMENSIONS_PER_BYTE
from patchwise.codecs.names import FAMILIES
from patchwise.compression import TRAINING_SETS, calibrate, keep, run, training_sets
from patchwise.encoders import canonical_id
from patchwise.encoders.known import KNOWN

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def snippets(language: str) -> Iterator[object]:
    for page in PAGES:
        for number, match in enumerate(FENCE.finditer(page.read_text(encoding="utf-8"))):
            if match[1] == language:
                yield pytest.param(match[2], id=f"{page.name}-{number}")


def furnish(home: Path) -> None:
    """What the documentation takes for granted: photographs, metadata of them, products, queries, and `open`."""
    (home / "Photos" / "old").mkdir(parents=True)
    for seed in range(4):
        make_picture(seed, (320, 240)).save(home / "Photos" / f"{seed}.jpg")
    make_picture(9, (320, 240)).save(home / "Photos" / "old" / "9.jpg")
    (home / "Products").mkdir()
    for seed in range(20):
        make_picture(100 + seed, (160, 120)).save(home / "Products" / f"{seed}.jpg")
    make_picture(1, (320, 280)).save(home / "mug.jpg")
    (home / "queries.csv").write_text("path,x0,y0,x1,y1\nmug.jpg,40,30,210,260\nPhotos/2.jpg,,,,\n")
    (home / "catalogue.csv").write_text("path,brand,year\n0.jpg,Acme,2017\n1.jpg,Acme,2021\nold/9.jpg,,1999\n")
    (home / "bin").mkdir()
    for name, script in (
        ("open", 'test -s "$1"'),
        ("patchwise", f'exec {shlex.quote(sys.executable)} -m patchwise "$@"'),
    ):
        (home / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (home / "bin" / name).chmod(0o755)


def environment_of(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PATCHWISE")}
    return {**kept, "HOME": str(home), "PATH": f"{home / 'bin'}:{kept['PATH']}"}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `home` as it is before each snippet, and the `.patchwise` of it after `patchwise index Photos`.

    All snippets have their home in one place, one after the other: a gallery knows its images by their whole paths.
    """
    folder = tmp_path_factory.mktemp("docs")
    home = folder / "now" / "home"
    furnish(home)
    shutil.copytree(home, folder / "home")
    command = ["patchwise", "index", "Photos"]
    subprocess.run(command, cwd=home, env=environment_of(home), check=True, capture_output=True)
    shutil.move(home / ".patchwise", folder / ".patchwise")
    return folder


@pytest.fixture
def home(before: Path) -> Path:
    home = before / "now" / "home"
    shutil.rmtree(home)
    return shutil.copytree(before / "home", home)


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    return environment_of(home)


def index_photos(home: Path, before: Path) -> None:
    """What `patchwise index Photos` does."""
    if not (home / ".patchwise").exists():
        shutil.copytree(before / ".patchwise", home / ".patchwise")


SERVER = "http://127.0.0.1:8799"


@contextmanager
def served(script: str, home: Path, before: Path, environment: dict[str, str]) -> Iterator[str]:
    """The script, with the address of a server that runs while it does, if it asks one."""
    if SERVER not in script:
        yield script
        return
    if "curl" in script and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    index_photos(home, before)
    command = ["patchwise", "serve", "--root", "Photos", "--port", "0"]
    address = None
    with subprocess.Popen(command, cwd=home, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        try:
            for line in iter(server.stderr.readline, ""):
                if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                    break
            assert address, "it has ended"
            yield script.replace(SERVER, address[0])
        finally:
            server.terminate()
            server.communicate(timeout=60)
    assert server.returncode == 0, "it did not end as it should"


@pytest.mark.slow
@pytest.mark.parametrize("script", list(snippets("bash")))
def test_commands_run(script: str, home: Path, before: Path, environment: dict[str, str]) -> None:
    """`make` is asked what it would do and `pip` whether it would install: both really happen before and in CI."""
    script = re.sub(r"^make (\w+)", rf"make --dry-run -C {shlex.quote(str(ROOT))} \1 >&2", script, flags=re.MULTILINE)
    present = f"test -f {shlex.quote(str(ROOT / 'pyproject.toml'))}"
    script = re.sub(r"^pip install '?\..*?(?=  |$)", present, script, flags=re.MULTILINE)
    if "patchwise" in script and not re.search("patchwise index (?!--metadata)", script):
        index_photos(home, before)
    with served(script, home, before, environment) as script:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script], cwd=home, env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", list(snippets("python")))
def test_python_runs(script: str, home: Path, before: Path, environment: dict[str, str]) -> None:
    with served(script, home, before, environment) as script:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script], cwd=home, env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr


def shown() -> Iterator[object]:
    """Commands in `console` blocks, which need weights from a hub or another machine."""
    for page in PAGES:
        for number, match in enumerate(
            re.finditer(r"^ *\$ (patchwise .*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        ):
            yield pytest.param(match[1], id=f"{page.name}-{number}")


@pytest.mark.parametrize("line", list(shown()))
def test_commands_that_cannot_run_are_at_least_understood(line: str) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, arguments).params
    if given.get("encoder") and not given["encoder"].startswith("thumbnail:"):  # the plug-in of docs/encoders.md
        assert canonical_id(given["encoder"])


def test_the_table_of_known_encoders_is_theirs() -> None:
    rows = [
        f"| `{one.alias}` | `{one.name}` | {one.dimension} | {one.input_size} | {one.million_parameters:,.1f} | "
        f"{'yes' if one.texts else ''} | {one.licence} |"
        for one in KNOWN.values()
    ]
    head = [
        "| name | full name | dimension | input | parameters | texts | licence |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    table = "\n".join(["<!-- table: patchwise.encoders.known -->", *head, *rows, "<!-- end table -->"])
    assert table in (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8"), f"it should be:\n{table}"


def test_the_table_of_what_auto_means_is_what_it_chooses() -> None:
    machines = [(dimension, gibibytes) for dimension in (256, 768) for gibibytes in (8, 16, 64)]

    def cell(images: int, dimension: int, gibibytes: int) -> str:
        codec = choose_codec(dimension, 30 * images, gibibytes * 2**30)
        return f"`{codec}` {parse_codec(codec).bytes * 30 * images / 2**30:,.1f}"

    head = [
        "| images | " + " | ".join(f"{dimension}-d, {memory} GiB" for dimension, memory in machines) + " |",
        "|---:|" + "---:|" * len(machines),
    ]
    rows = [
        f"| {images:,} | " + " | ".join(cell(images, *machine) for machine in machines) + " |"
        for images in (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
    ]
    table = "\n".join(["<!-- table: patchwise.codecs.choose_codec -->", *head, *rows, "<!-- end table -->"])
    assert table in (ROOT / "docs" / "compression.md").read_text(encoding="utf-8"), f"it should be:\n{table}"


def test_codecs_and_training_sets_are_documented() -> None:
    page = (ROOT / "docs" / "compression.md").read_text(encoding="utf-8")
    assert all(f"| `{family}:BYTES" in page for family in FAMILIES)
    for name, what in TRAINING_SETS.items():
        assert f"| `{name}` | {what} |" in page


def test_what_is_said_of_measuring_recall_is_what_is_done() -> None:
    page = " ".join((ROOT / "docs" / "compression.md").read_text(encoding="utf-8").split())
    first, *_, last = calibrate._RECALLS
    assert run._HELD_OUT_SHARE == 0.1 and keep._GROWN == 1.25 and AUTO_SHARE == 1 / 8
    for claim in (
        f"A tenth of the images, at most {run._HELD_OUT_MOST:,}, is held out",
        f"{keep._QUERIES} of their regions",
        "the best {}, {} and {:,} are".format(*calibrate._KS),
        f"- {calibrate.DEFAULT_RECALL}, the default, is an average",
        f"recalls from {first} to {last};",
        f"learned from, {TRAINING_VECTORS:,} at most",
        f"fewer than {training_sets.FEWEST:,} regions is filled up",
        f"one byte for {DIMENSIONS_PER_BYTE[-1]} numbers",
    ):
        assert claim in page, claim


def test_every_command_and_option_is_documented() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert commands
    for name, command in commands.items():
        section = re.search(rf"^## patchwise {name}\n(.*?)(?=^## |\Z)", guide, re.MULTILINE | re.DOTALL)
        assert section, f"docs/guide.md has no section '## patchwise {name}'"
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("-") and option not in (
                    "--help",
                    "-h",
                    "--gallery",
                    "-g",
                    "--json",
                    "--max-pixels",
                ):
                    assert f"`{option}" in section[1], f"docs/guide.md: patchwise {name} does not document {option}"
    for shared in ("--gallery", "-g", "--json", "--max-pixels"):
        assert f"`{shared}" in guide


def anchors(page: Path) -> set[str]:
    """What `#...` may lead to on a page: its headings, as hosts of repositories write them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", page.read_text(encoding="utf-8")):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name} links to {target}, which is not there"
            assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}, which is not there"


def test_generated_pages_say_what_was_measured() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "make_docs.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
