"""patchwise encoders: what there is, what it costs, what is missing, said without loading any of it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from patchwise.encoders.known import KNOWN

from .conftest import Cli, environment

HEAVY = ("torch", "transformers", "timm", "open_clip", "torchvision", "onnxruntime")


def cached(home: Path, repository: str, file: str) -> None:
    """A repository in the hub's cache, as huggingface_hub lays it out."""
    commit = "4a0f3e1" + "0" * 33
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / file).write_bytes(b"weights")


def test_for_people(in_process: Cli) -> None:
    ran = in_process("encoders")
    assert (ran.code, ran.err) == (0, "")
    known, _, families = ran.out.partition("\n\n")
    header, *rows = known.splitlines()
    assert header.split() == ["name", "full", "name", "dim", "input", "params", "texts", "licence", "weights"]
    assert [row.split()[0] for row in rows] == list(KNOWN)
    assert rows[0].split() == ["builtin", "builtin", "256", "224", "3.4", "M", "no", "Apache-2.0", "shipped"]
    assert len({row.index(" M ") for row in rows}) == 1, "columns are aligned"
    assert not any(line != line.rstrip() for line in ran.out.splitlines())
    assert families.splitlines()[0].startswith("Any other by its family")
    assert "hf         hf:OWNER/NAME or hf:FOLDER" in families


def test_json(in_process: Cli) -> None:
    ran = in_process("encoders", "--json")
    assert (ran.code, ran.err) == (0, "")
    answer = json.loads(ran.out)
    assert [one["alias"] for one in answer["encoders"]] == list(KNOWN)
    assert answer["encoders"][0] == {
        "alias": "builtin",
        "name": "builtin",
        "repository": "",
        "dimension": 256,
        "input_size": 224,
        "million_parameters": 3.4,
        "licence": "Apache-2.0",
        "texts": False,
        "weights": "shipped",
        "install": "",
    }
    assert {"name": "builtin", "forms": "builtin", "install": "", "plugin": ""} in answer["families"]


def test_weights_in_the_cache_are_seen(cli: Cli, tmp_path: Path) -> None:
    cached(tmp_path / "hf", "facebook/dinov2-base", "model.safetensors")
    cached(tmp_path / "hf", "facebook/dinov2-large", "config.json")
    cached(tmp_path / "hf", "facebook/dinov2-giant", "pytorch_model.bin")
    ran = cli("encoders", "--json", env={"HF_HOME": str(tmp_path / "hf")})
    answer = {one["alias"]: one["weights"] for one in json.loads(ran.out)["encoders"]}
    if find_spec("transformers") is None:
        assert answer["dinov2-b"] == "package missing"
        return
    assert [answer[f"dinov2-{size}"] for size in "sblg"] == ["to download", "here", "to download", "to download"]


def test_missing_packages_come_with_the_command_that_brings_them() -> None:
    hidden = "import sys\nfor name in ('timm', 'transformers'): sys.modules[name] = None\n"
    script = f"{hidden}from patchwise.cli import main\nsys.argv = ['patchwise', 'encoders']\nmain()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("dinov3-s"))
    assert row.endswith("package missing")
    assert "package missing: pip install 'patchwise[timm]'" in done.stdout
    assert "package missing: pip install 'patchwise[torch]'" in done.stdout


def test_nothing_heavy_is_loaded() -> None:
    script = (
        "import sys; from patchwise.cli.encoders import encoders; encoders(as_json=False); "
        f"sys.exit(','.join(name for name in {HEAVY} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert done.stderr == "" and done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("dinov2_s", "unknown; did you mean dinov2-s"),
        ("facebook/dinov2-small", "before it: hf:facebook/dinov2-small"),
        ("hf", "names nothing to load"),
        ("builtin,size=5", "'builtin' takes no option 'size'"),
    ],
)
def test_a_name_that_does_not_work_is_answered_in_one_line(
    in_process: Cli, pictures: Path, tmp_path: Path, name: str, advice: str
) -> None:
    in_process("index", pictures, "-g", tmp_path / "new", "--encoder", name).complains(1, "encoder", name, advice)
    assert not (tmp_path / "new").exists()


def test_a_gallery_that_is_there_is_told_apart_from_a_name_that_is_not(
    in_process: Cli, gallery: Path, pictures: Path
) -> None:
    in_process("index", pictures, "-g", gallery, "--encoder", "dinov2_s").complains(1, "did you mean dinov2-s")
    in_process("index", pictures, "-g", gallery, "--encoder", "dinov2-s").complains(1, "made with encoder 'builtin'")
