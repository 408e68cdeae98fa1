"""Local features that a network finds: ALIKED and DISK as kornia has them, with weights from a file."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.errors import EncoderError, MissingExtra
from patchwise.rerank.geometric.local_features import WORKING_SIDE, Keypoints, working_size

__all__ = ["LearnedFeatures", "known_features", "load_features"]

# Half of what ALIKED was published with: what is weak but stable counts, and matching throws out what is not.
_LEAST_SCORE = 0.1
_LONGEST = 127  # of int8
_CHUNK = 1 << 20
_LEAST_SIDE = 16  # pixels of the longer side below which a network has nothing to look at
_SIDES = (WORKING_SIDE, WORKING_SIDE // 2, WORKING_SIDE // 4)
_BUFFERS = frozenset({"dkd.hw_grid"})  # made by kornia, in no file
_ALIKED_HEAD = "desc_head.agg_weights"
_ALIKED = {(16, 64): "aliked-t16", (16, 128): "aliked-n16", (32, 128): "aliked-n32"}  # n16rot has the shapes of n16
_DISK = "unet.path_down"

_loading = threading.Lock()


class _Network(NamedTuple):
    """A module for pictures (1, 3, height, width) in [0, 1], and how it is called."""

    name: str
    module: Any
    dimension: int
    looks: Callable[[Any, Any], tuple[Any, Any, Any]]
    """Module and picture to pixels (N, 2), unit descriptors (N, dimension) and scores (N,)."""


class LearnedFeatures:
    """Keypoints that a network finds in a picture; `load_features` makes it."""

    def __init__(self, network: _Network, digest: str, most: int, device: object) -> None:
        self._network, self._most, self._device = network, most, device
        version = import_module("kornia").__version__
        sides = "/".join(map(str, _SIDES))
        self.id = f"{network.name}:{digest}:{most}:{sides}:kornia-{version}:2"

    def found(self, picture: Image.Image) -> dict[str, npt.NDArray[np.generic]]:
        """`places` (N, 2) float32 in [0, 1] and `descriptors` (N, D) int8, by scale and then the strongest first.

        These networks know objects again at about the size they have seen them in, so a picture is looked at in three.
        A descriptor's longest number becomes 127 or -127. Its length is not kept: it is 1.
        """
        rgb = picture.convert("RGB")
        places, descriptors = zip(*(self._found_at(rgb, side) for side in _SIDES), strict=True)
        return {"places": np.concatenate(places), "descriptors": np.concatenate(descriptors)}

    def _found_at(self, rgb: Image.Image, side: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
        torch = import_module("torch")
        rgb = rgb.resize(working_size(rgb.size, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
        if max(rgb.size) <= _LEAST_SIDE:
            return np.empty((0, 2), dtype=np.float32), np.empty((0, self._network.dimension), dtype=np.int8)
        pixels = torch.from_numpy(np.array(rgb)).to(self._device).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            looked = self._network.looks(self._network.module, pixels)
        points, descriptors, scores = (each.float().cpu().numpy() for each in looked)
        order = np.argsort(-scores, kind="stable")[: self._most]
        longest = np.abs(descriptors).max(axis=1, keepdims=True, initial=1e-9)
        return (
            ((points[order] + 0.5) / rgb.size).astype(np.float32),  # pixels have their middles at integers
            np.rint(descriptors * (_LONGEST / longest))[order].astype(np.int8),
        )

    def keypoints(self, found: Mapping[str, npt.NDArray[np.generic]]) -> Keypoints:
        places, descriptors = found["places"], found["descriptors"]
        if places.shape != (len(descriptors), 2) or descriptors.shape[1:] != (self._network.dimension,):
            raise ValueError(f"not keypoints of {self._network.name}: shapes {places.shape} and {descriptors.shape}")
        units = descriptors.astype(np.float32)
        units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1)
        return Keypoints(places.astype(np.float32), units)


def known_features(place: str, device: object = "cpu") -> LearnedFeatures:
    """`load_features`, once for all searches that name the same file."""
    try:
        path = Path(place).expanduser()
        path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise EncoderError(f"rerank geometric: {place[:200]!r} names no file ({error})") from error
    with _loading:
        return _loaded(path.resolve(), path.stat().st_mtime_ns if path.is_file() else 0, str(device))


@lru_cache(maxsize=1)
def _loaded(path: Path, _: int, device: str) -> LearnedFeatures:
    return load_features(path, device=device)


def load_features(path: Path, *, most: int = 1_024, device: object = "cpu") -> LearnedFeatures:
    """ALIKED (Zhao et al., IEEE TIM 2023) or DISK (Tyszkiewicz et al., NeurIPS 2020) with the weights of a file.

    The names of its tensors say which. No code in the file is run, and nothing is downloaded.

    Args:
        path: weights as published: `aliked-t16.pth`, `aliked-n16.pth`, `aliked-n16rot.pth`, `aliked-n32.pth`, or
            DISK's `depth-save.pth`, `epipolar-save.pth`.
        most: keypoints of a picture at each of three scales, the strongest.
        device: where the network runs.

    Raises:
        EncoderError: the file is missing, cannot be read, or holds something else.
        MissingExtra: kornia or torch is not installed.
    """
    try:
        torch, features = import_module("torch"), import_module("kornia.feature")
    except ImportError as error:
        raise MissingExtra(f"rerank geometric with {path.name} (Python 3.11 or newer)", "rerank") from error
    try:
        with path.open("rb") as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
            file.seek(0)
            digest = hashlib.sha256()
            while block := file.read(_CHUNK):
                digest.update(block)
    except OSError as error:
        raise EncoderError(f"rerank geometric: {path}: {error.strerror or error}") from error
    except (RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        # What torch says is about its own options, which are no help here.
        raise EncoderError(f"rerank geometric: {path}: no file of weights that torch can read") from error
    network = _network(features, path, _tensors(torch, state), most)
    network.module.eval().requires_grad_(False).to(device)
    return LearnedFeatures(network, digest.hexdigest(), most, device)


def _tensors(torch: Any, state: object) -> Mapping[str, Any]:
    """Tensors by name, none where there is something else; DISK is published with them in `extractor`."""
    if isinstance(state, Mapping) and isinstance(state.get("extractor"), Mapping):
        state = state["extractor"]
    if not isinstance(state, Mapping):
        return {}
    return {name: value for name, value in state.items() if isinstance(name, str) and torch.is_tensor(value)}


def _network(features: Any, path: Path, state: Mapping[str, Any], most: int) -> _Network:
    if _ALIKED_HEAD in state:
        shape = tuple(state[_ALIKED_HEAD].shape)[:2]
        if shape not in _ALIKED:
            known = ", ".join(_ALIKED.values())
            raise EncoderError(f"rerank geometric: {path}: an ALIKED of another shape than {known}")
        name = _ALIKED[shape]
        module = features.ALIKED(name, max_num_keypoints=most, detection_threshold=_LEAST_SCORE)
        network = _Network(name, module, shape[1], _aliked)
    elif any(name.startswith(_DISK) for name in state):
        module = features.DISK()
        network = _Network("disk", module, module.desc_dim, lambda disk, pixels: _disk(disk, pixels, most))
    else:
        raise EncoderError(f"rerank geometric: {path}: neither ALIKED nor DISK: its tensors have other names")
    try:
        missing, left_over = module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes
        reason = str(error).splitlines()[-1].strip()
        raise EncoderError(f"rerank geometric: {path}: does not fit {network.name} ({reason})") from error
    wrong = [f"no {name}" for name in missing if name not in _BUFFERS] + [f"has {name}" for name in left_over]
    wrong += [f"{name} is not finite" for name, value in state.items() if not value.isfinite().all()]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise EncoderError(f"rerank geometric: {path}: does not fit {network.name} ({wrong[0]}{more})")
    return network


def _aliked(module: Any, pixels: Any) -> tuple[Any, Any, Any]:
    seen = module(pixels)[0]
    # Where nothing reaches the least score kornia gives what is above the mean: noise.
    sure = seen.keypoint_scores > _LEAST_SCORE
    return seen.keypoints[sure], seen.descriptors[sure], seen.keypoint_scores[sure]


def _disk(module: Any, pixels: Any, most: int) -> tuple[Any, Any, Any]:
    seen = module(pixels, n=most, pad_if_not_divisible=True)[0]
    return seen.keypoints, seen.descriptors, seen.detection_scores
