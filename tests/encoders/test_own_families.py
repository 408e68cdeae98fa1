"""Families of one's own, exactly as docs/encoders.md shows them: a package beside this one, and a file within it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from conftest import make_picture
from patchwise.encoders import DenseEncoder, load_encoder, registry
from patchwise.encoders.registry import FAMILIES, Family

PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def block(language: str, content: str) -> str:
    """The block of the page that holds this."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (wanted,) = (text for text in found if content in text)
    return wanted


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The package of the page, installed."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        tomllib = pytest.importorskip("tomli")
    project = tomllib.loads(block("toml", "entry-points"))["project"]
    site = tmp_path / "site"
    information = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    (information / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{name} = {to}\n" for name, to in points.items()) for group, points in groups)
    )
    (site / "patchwise_thumbnails.py").write_text(block("python", "class Thumbnail"))
    return site


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Run:
    (tmp_path / "photos").mkdir()
    for seed in range(4):
        make_picture(seed, (120, 90)).save(tmp_path / "photos" / f"{seed}.png")
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "patchwise", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )

    return run


def test_the_package_of_the_page_indexes_and_searches(run: Run) -> None:
    indexed = run("index", "photos", "-g", "g", "--encoder", "thumbnail:8")
    assert indexed.returncode == 0, indexed.stderr
    again = run("index", "photos", "-g", "g")
    assert "4 unchanged" in again.stdout, again.stderr
    found = run("search", "photos/2.png", "-g", "g", "--json")
    best = json.loads(found.stdout)["hits"][0]
    assert best["path"].endswith("2.png") and best["score"] > 0.999 and best["level"] == 0
    assert "thumbnail:8, 192-d" in run("info", "-g", "g").stdout


def test_the_package_of_the_page_is_listed(run: Run) -> None:
    listed = run("encoders")
    line = next(line for line in listed.stdout.splitlines() if line.startswith("thumbnail"))
    assert line.split(maxsplit=2) == ["thumbnail", "thumbnail:...", "plug-in of patchwise-thumbnails 1.0"]
    families = {one["name"]: one for one in json.loads(run("encoders", "--json").stdout)["families"]}
    assert families["thumbnail"]["plugin"] == "patchwise-thumbnails 1.0"


def test_the_package_of_the_page_refuses_in_one_line(run: Run) -> None:
    for name, reason in (("thumbnail:many", "as in thumbnail:8"), ("thumbnail:8,size=5", "takes no option 'size'")):
        refused = run("index", "photos", "-g", "g", "--encoder", name)
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and reason in refused.stderr


def test_a_gallery_whose_package_is_gone_says_so(run: Run, site: Path) -> None:
    assert run("index", "photos", "-g", "g", "--encoder", "thumbnail:8").returncode == 0
    (site / "patchwise_thumbnails.py").unlink()
    without = run("search", "photos/2.png", "-g", "g")
    assert without.returncode == 1 and without.stderr.count("\n") == 1
    assert "plug-in patchwise_thumbnails:Thumbnail failed (ModuleNotFoundError" in without.stderr


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and the line of the page, put in their places."""
    pytest.importorskip("torch")
    module = ModuleType("patchwise.encoders.grid")
    exec(compile(block("python", "AdaptiveAvgPool2d"), "grid.py", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    line = eval("{" + block("text", "patchwise.encoders.grid:load") + "}", {"Family": Family})
    monkeypatch.setattr(registry, "FAMILIES", {**FAMILIES, **line})


@pytest.mark.usefixtures("grid")
def test_a_file_and_a_line_make_a_family_with_every_option() -> None:
    encoder = load_encoder("grid:4,size=32,fit=pad", device="cpu")
    assert (encoder.id, encoder.dimension, encoder.input_size) == ("grid:4,size=32,fit=pad", 48, 32)
    assert encoder.fit.kind == "pad"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    cells = (
        ((pixels / 255 - mean) / std).reshape(3, 4, 8, 4, 8, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(3, -1)
    )
    expected = cells / np.linalg.norm(cells, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(pixels), expected, atol=1e-5)


@pytest.mark.usefixtures("grid")
def test_it_also_looks_once_per_image() -> None:
    encoder = load_encoder("grid:4,encode=dense", device="cpu")
    assert isinstance(encoder, DenseEncoder) and encoder.dimension == 3
    assert not isinstance(load_encoder("grid:4", device="cpu"), DenseEncoder)
