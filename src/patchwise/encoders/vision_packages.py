"""Packages that stand on torch and torchvision: imported when they are needed, with one line where they cannot be."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from patchwise.encoders.spec import EncoderSpec
from patchwise.errors import EncoderError, MissingExtra

__all__ = ["OTHER_FORMATS", "import_package", "in_one_line", "near", "quiet", "safetensors_file", "tensor_shapes"]

OTHER_FORMATS = "other formats can run code when they are read. Convert the weights, or name another checkpoint"
_LONGEST = 200


def import_package(spec: EncoderSpec, name: str, extra: str) -> Any:
    """The package of a family.

    Raises:
        MissingExtra: it, or a package that it needs, is not installed.
        EncoderError: torchvision is there, but belongs to another torch.
    """
    try:
        with quiet():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"encoder {spec}", extra) from error
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        # torchvision built for another torch fails with any of these, depending on what it misses first.
        raise EncoderError(
            f"encoder {spec}: {name} cannot be imported ({in_one_line(error)}). Most often torchvision was built for "
            "another torch than the one installed: install both again together, from the same source"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of other packages, which are about their own affairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def in_one_line(error: Exception) -> str:
    """What an error says, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def near(name: str, known: list[str]) -> str:
    """A remark on which known names look like this one, or nothing."""
    found = get_close_matches(name, known, n=4, cutoff=0.5)
    return f". Near it: {', '.join(found)}" if found else ""


def safetensors_file(folder: Path, preferred: tuple[str, ...]) -> Path:
    """The file with the weights of a checkpoint that is one file.

    Raises:
        EncoderError: there is none, or one cannot tell which.
    """
    found = sorted(folder.glob("*.safetensors"))
    for name in preferred:
        if folder / name in found:
            return folder / name
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found)
        raise EncoderError(f"{folder}: which of its files holds the weights? Say weights={folder}/..., one of {names}")
    raise EncoderError(f"{folder}: no *.safetensors file there; {OTHER_FORMATS}")


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a safetensors file, by name; the tensors are not read.

    Raises:
        EncoderError: the file is missing, damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors":
        raise EncoderError(f"{file}: weights are read from *.safetensors files; {OTHER_FORMATS}")
    try:
        with safe_open(str(file), framework="numpy") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else in_one_line(error)
        raise EncoderError(f"{file}: cannot be read as weights ({reason})") from error
