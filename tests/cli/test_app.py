"""The application: help everywhere, results on stdout alone, one line for every error, documented exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from patchwise import __version__
from patchwise.cli.app import app

from .conftest import Cli, environment

COMMANDS = [command.name for command in app.registered_commands]


def test_the_commands_are_those_documented() -> None:
    assert {"index", "search", "info", "remove", "verify", "compact", "compress", "demo"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: Cli, command: str) -> None:
    ran = cli(command, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: python -m patchwise {command} [OPTIONS]")
    _usage, description, *options = ran.out.split("\n\n")
    assert description.strip() and "placeholder" not in description
    assert "--json" in "".join(options)


def test_help_tells_the_commands_and_the_exit_codes(cli: Cli) -> None:
    ran = cli("--help")
    assert (ran.code, ran.err) == (0, "") and cli("-h") == ran
    assert all(f"  {command} " in ran.out for command in COMMANDS)
    assert "Exit codes: 0 ok, 1 an error it explains, 2 wrong usage, 3 nothing matched" in " ".join(ran.out.split())


def test_the_version(cli: Cli) -> None:
    ran = cli("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"patchwise {__version__}\n", "")


def test_no_command_shows_the_help(cli: Cli) -> None:
    ran = cli()
    assert ran.code == 2 and "Usage: " in ran.out + ran.err


def test_the_script_is_the_same_as_the_module(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("patchwise")
    if not script.exists():
        pytest.skip("not installed as a script")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, env=environment(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"patchwise {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nonsense"], "No such command 'nonsense'; see: "),
        (["--nonsense"], "No such option"),
        (["search", "--nonsense"], "search --help"),
        (["info", "extra"], "extra"),
        (["index"], "index --help"),
        (["search", "a.png", "-k", "many"], "'-k'"),
    ],
)
def test_words_that_are_not_understood(in_process: Cli, arguments: list[str], part: str) -> None:
    in_process(*arguments).complains(2, part)


@pytest.mark.parametrize(
    "command", [["search", "a.png"], ["info"], ["remove", "a.png"], ["verify"], ["compact"], ["compress"]]
)
def test_no_gallery(in_process: Cli, command: list[str], tmp_path: Path) -> None:
    in_process(*command).complains(1, ".patchwise: no gallery here", "patchwise index FOLDER --gallery .patchwise")
    assert list(tmp_path.iterdir()) == []


def test_the_gallery_by_option_environment_or_default(cli: Cli, shelf: Path, tmp_path: Path) -> None:
    inside = {"PATCHWISE_GALLERY": str(shelf / "g")}
    assert cli("info", env=inside).code == 0
    assert cli("info", "--gallery", shelf / "g", env={"PATCHWISE_GALLERY": "/nowhere"}).code == 0
    cli("info", "-g", "other", env=inside).complains(1, "other: no gallery here")
    cli("info", env={"PATCHWISE_GALLERY": "/nowhere"}).complains(1, "/nowhere")
    (tmp_path / ".patchwise").symlink_to(shelf / "g")
    assert cli("info").code == 0


def test_json_is_one_value_and_nothing_else(in_process: Cli, gallery: Path, folder: Path) -> None:
    (folder / "bad\n.png").write_bytes(b"")
    for command in (
        ["index", folder],
        ["compress"],
        ["info"],
        ["search", folder / "0.png"],
        ["verify"],
        ["remove", folder],
        ["compact"],
        ["search", folder / "0.png", "--min-score", "2"],
    ):
        ran = in_process(*command, "--json", "-g", gallery)
        assert ran.code in (0, 3)
        assert ran.out.count("\n") == 1 and isinstance(json.loads(ran.out), dict)


def test_one_writer_at_a_time(cli: Cli, gallery: Path, pictures: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from patchwise.store import Store\n"
        "with Store(Path(sys.argv[1])).writer(): print(os.getpid(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(gallery)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        pid = other.stdout.readline().strip()
        for command in (["index", pictures], ["remove", pictures], ["compact"], ["compress"], ["verify", "--repair"]):
            cli(*command, "-g", gallery).complains(1, str(gallery), f"process {pid}", "wait until it has finished")
        for command in (["search", pictures / "0.png"], ["info"], ["verify"]):
            assert cli(*command, "-g", gallery).code == 0
        other.stdin.close()
    assert cli("index", pictures, "-g", gallery).code == 0


def started(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "patchwise", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment(),
    )


def test_interrupted_while_it_waits_for_input(shelf: Path) -> None:
    """Ctrl-C during `search -`: exit code 130, and no traceback."""
    with started(["search", "-", "-g", "g"], shelf) as process:
        assert process.stdin is not None
        process.stdin.write("x" * 1_000_000)  # more than a pipe holds: written only once the command reads
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err and err.count("\n") <= 1


def test_an_error_nobody_foresaw_in_the_file_system_is_one_line(
    cli: Cli, unprivileged: object, gallery: Path, pictures: Path
) -> None:
    shard = gallery / "vectors" / "000001.f16"
    shard.chmod(0)
    done = unprivileged("-m", "patchwise", "search", pictures / "0.png", "-g", gallery, env=environment())  # type: ignore[operator]
    shard.chmod(0o644)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"patchwise: {shard}: Permission denied\n"


def test_closed_outputs(shelf: Path) -> None:
    if os.name == "nt":
        pytest.skip("POSIX shells only")
    for redirect in (">&-", "2>&-", ">&- 2>&-"):
        command = f"'{sys.executable}' -m patchwise info -g g {redirect}"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=shelf, env=environment())
        assert done.returncode == 0 and "Traceback" not in done.stderr


def started_with_an_import_that(interrupts: str, cwd: Path, *arguments: str) -> tuple[int, str, str]:
    """Code, stdout and stderr of a command where importing runs a statement that knows the module's `name`."""
    code = (
        "import sys, signal, importlib.abc\n"
        "class Interrupting(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        {interrupts}\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        f"sys.argv = {['patchwise', *arguments]!r}\n"
        "from patchwise.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_interrupted_while_its_modules_load(shelf: Path) -> None:
    """Ctrl-C before the first line of a command runs ends like any other."""
    interrupts = "if name == 'patchwise.cli.app': signal.raise_signal(signal.SIGINT)"
    assert started_with_an_import_that(interrupts, shelf) == (130, "", "patchwise: interrupted\n")


def test_interrupted_while_a_module_in_c_loads(shelf: Path) -> None:
    """It turns Ctrl-C into an ImportError."""
    interrupts = "if name == 'onnxruntime': raise ImportError('initialization failed') from KeyboardInterrupt()"
    ended = started_with_an_import_that(interrupts, shelf, "search", "pictures/0.png", "-g", "g")
    assert ended == (130, "", "patchwise: interrupted\n")
