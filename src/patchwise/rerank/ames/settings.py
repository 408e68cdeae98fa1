"""Where the parts of AMES lie: a folder with files under their public names, and what `ames.json` in it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchwise.errors import EncoderError
from patchwise.rerank.ames.descriptors import LONGER_SIDE
from patchwise.rerank.ames.reranker import Mixture

__all__ = ["BACKBONE", "SETTINGS", "AmesSettings", "read_settings"]

SETTINGS = "ames.json"
BACKBONE = "dinov2-b-reg"
"""The network that the published checkpoints were trained with, by the name that `load_encoder` reads."""

_NETWORKS = "http://ptak.felk.cvut.cz/personal/sumapave/public/ames/networks"
_BACKBONE_FOLDER = "backbone"
_PATHS = ("matcher", "descriptors", "images", "root")
_NUMBERS = ("query_descriptors", "image_descriptors", "longer_side")
_SHARES = ("lambda", "gamma")
_KEYS = (*_PATHS, "attention", "backbone", *_NUMBERS, *_SHARES)


@dataclass(frozen=True)
class AmesSettings:
    """What AMES is made of.

    Args:
        matcher: checkpoint of the matching network.
        attention: checkpoint of the detector; None for tokens as they are, the longest first.
        backbone: the network that looks, as `load_encoder` reads it; "" for DINOv2 ViT-B/14 with registers.
        query_descriptors, image_descriptors: how many of each are matched at most.
        longer_side: that a picture is brought to, in pixels.
        mixture: lambda and gamma; None for those published with the kind of network.
        descriptors: HDF5 file of descriptors, for images that need not be looked at.
        images: text file with the image of each of its rows; None where the file itself has an `index`.
        root: folder that the names of these images begin in.
    """

    matcher: Path
    attention: Path | None
    backbone: str = ""
    query_descriptors: int = 600
    image_descriptors: int = 50
    longer_side: int = LONGER_SIDE
    mixture: Mixture | None = None
    descriptors: Path | None = None
    images: Path | None = None
    root: Path = Path()


def read_settings(place: str) -> AmesSettings:
    """What a folder holds, or the folder of a checkpoint; `ames.json` in it says what its names do not.

    Raises:
        EncoderError: something is missing, there is more than one of it, or `ames.json` cannot be read.
    """
    try:
        path = Path(place).expanduser().absolute()
        there = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(f"rerank ames: {place[:200]!r} names no folder or checkpoint ({error})") from error
    if not there:
        raise EncoderError(f"rerank ames: {path}: no such folder or checkpoint; {_advice(path)}")
    folder, given = (path, None) if path.is_dir() else (path.parent, path)
    said = _said(folder / SETTINGS)
    if given is None and "matcher" in said:
        given = _there(folder, said["matcher"], "matcher")
    matcher = given or _matcher(folder)
    attention = _attention(folder, matcher, said)
    mixture = Mixture(said["lambda"], said["gamma"]) if "lambda" in said else None
    descriptors, images = (_there(folder, said[key], key) if key in said else None for key in ("descriptors", "images"))
    return AmesSettings(
        matcher,
        attention,
        _backbone(folder, said.get("backbone", "")),
        mixture=mixture,
        descriptors=descriptors,
        images=images,
        root=folder / said.get("root", ""),
        **{key: said[key] for key in _NUMBERS if key in said},
    )


def _matcher(folder: Path) -> Path:
    found = sorted(folder.glob("*ames*.pt"))
    if not found:
        raise EncoderError(f"rerank ames: {folder}: holds no checkpoint *ames*.pt; {_advice(folder)}")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise EncoderError(f"rerank ames: {folder}: holds {names}; say which: ames:HITS:{found[0]}")
    return found[0]


def _attention(folder: Path, matcher: Path, said: Mapping[str, Any]) -> Path | None:
    """The detector beside a checkpoint: the only one, or that of the same backbone, such as dinov2_detector.pt."""
    if "attention" in said:
        return None if said["attention"] is None else _there(folder, said["attention"], "attention")
    found = sorted(folder.glob("*detector*.pt"))
    of_backbone = [file for file in found if file.name.startswith(matcher.name.split("_ames")[0])]
    if len(found) > 1 and len(of_backbone) == 1:
        return of_backbone[0]
    if len(found) == 1:
        return found[0]
    problem = f"holds {', '.join(file.name for file in found)}" if found else "holds no detector *detector*.pt"
    raise EncoderError(
        f'rerank ames: {folder}: {problem}; the one for {matcher.name} is named by "attention" in {SETTINGS}, and '
        f"published as dinov2_detector.pt at {_NETWORKS}"
    )


def _backbone(folder: Path, said: str) -> str:
    """The name that `load_encoder` reads, with a folder in it made absolute; "" where none is named."""
    if not said:
        return f"hf:{folder / _BACKBONE_FOLDER}" if (folder / _BACKBONE_FOLDER).is_dir() else ""
    family, _, reference = said.partition(":")
    own, *options = reference.split(",", 1)
    return ",".join([f"{family}:{folder / own}", *options]) if own and (folder / own).is_dir() else said


def _there(folder: Path, name: str, key: str) -> Path:
    path = folder / Path(name).expanduser()
    if not path.is_file():
        raise EncoderError(f'{folder / SETTINGS}: "{key}" names {path}, which is no file')
    return path


def _said(path: Path) -> dict[str, Any]:
    """What the file of settings says, {} where there is none."""
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(said, dict):
        raise EncoderError(f"{path}: expected an object with some of {', '.join(_KEYS)}")
    for key, value in said.items():
        if expected := _mistake(key, value):
            raise EncoderError(f'{path}: "{key}": {expected}')
    if ("lambda" in said) != ("gamma" in said):
        raise EncoderError(f'{path}: "lambda" and "gamma" belong together')
    return said


def _mistake(key: str, value: Any) -> str:
    """What was expected of a value, "" where it is right."""
    if key not in _KEYS:
        return f"unknown; known are {', '.join(_KEYS)}"
    if key in _NUMBERS:
        return "" if type(value) is int and value > 0 else f"expected a whole number above 0, not {value!r}"
    if key in _SHARES:
        right = type(value) in (int, float) and value >= 0 and (value <= 1 or key == "gamma")
        return (
            "" if right else f"expected a number {'from 0 to 1' if key == 'lambda' else 'of at least 0'}, not {value!r}"
        )
    if key == "attention" and value is None:
        return ""
    return "" if isinstance(value, str) and value else f"expected a name in quotes, not {value!r}"


def _advice(place: Path) -> str:
    return (
        f"put dinov2_ames.pt or dinov2_ames_dist.pt, and dinov2_detector.pt, from {_NETWORKS} into a folder, and name "
        f"the folder: ames:HITS:{place if not place.suffix else place.parent}"
    )
