"""The package itself: its public names, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import patchwise

HEAVY = {"numpy", "PIL", "onnxruntime", "sqlite3", "torch", "sklearn", "skimage", "faiss", "safetensors"}


def modules_after(code: str) -> set[str]:
    """Top-level modules loaded once `code` has run in a fresh interpreter."""
    script = f"import sys\ntry:\n    exec({code!r})\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("name", patchwise.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(patchwise, name)
    assert name == "__version__" or value.__name__ == name


def test_star_import_gives_exactly_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from patchwise import *", names)
    assert set(names) - {"__builtins__"} == set(patchwise.__all__)


def test_lazy_names_are_all_public() -> None:
    assert sorted([*patchwise._HOMES, "__version__"]) == sorted(patchwise.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"patchwise.*Galery"):
        patchwise.Galery  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not modules_after("import patchwise") & (HEAVY | {"typer", "rich"})


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["search", "--help"], ["index", "--help"], ["compress", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"sys.argv = {['patchwise', *arguments]!r}\nfrom patchwise.cli import main\nmain()"
    assert not modules_after(code) & HEAVY


def test_the_command_line_does_not_repeat_the_remarks_of_pillow(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 1, "maker" * 10
    broken = bytes(exif.tobytes()[:-30])
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=broken)
    with (
        pytest.warns(UserWarning, match="Corrupt EXIF|Truncated|larger than file"),
        Image.open(tmp_path / "a.jpg") as it,
    ):
        it.getexif()
    code = """
from pathlib import Path
from patchwise.cli import app
from patchwise.images import read_picture
app.app = lambda **_: read_picture(Path(sys.argv[1])) and None
app.main()
"""
    script = f"import sys\n{code}"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.jpg")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
