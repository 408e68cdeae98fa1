"""Linear adaptation: one linear layer, then L2 normalisation, as learned by the authors of ILIAS."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from patchwise.encoders.base import Encoder
from patchwise.encoders.whitening import Whitening
from patchwise.errors import EncoderError, MissingExtra
from patchwise.whole_files import whole_file

__all__ = ["LinearAdaptation"]

_WEIGHT, _BIAS = "layer.weight", "layer.bias"
_NOTES = "patchwise"  # one entry of the file's metadata, which has no order of its own
_PICKLED = (".pt", ".pth", ".bin")


@dataclass(frozen=True, eq=False)
class LinearAdaptation:
    """`l2(vector @ weight.T + bias)`: `weight` is (dimension, D), `bias` (dimension,), both float32.

    Source: ILIAS (Kordopatis-Zilos et al., CVPR 2025), repository ilias-vrg/ilias, `linear_adaptation`. `notes` is
    what the file says of itself: `encoder` and `weights_sha256` name what it was learned for.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        return len(self.bias)

    @cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.weight).tobytes())
        digest.update(np.ascontiguousarray(self.bias).tobytes())
        return digest.hexdigest()

    @cached_property
    def _affine(self) -> Whitening:
        """The layer as one product: the bias is the weight of a number that is always 1."""
        stacked = np.concatenate([self.weight.T, self.bias[None]])
        return Whitening(np.zeros(len(stacked), dtype=np.float32), np.ascontiguousarray(stacked))

    def apply(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map (N, D) to (N, dimension) float32 of unit length."""
        ones = np.ones((len(vectors), 1), dtype=np.float32)
        return self._affine.apply(np.concatenate([vectors, ones], axis=1))

    @classmethod
    def of_whitening(cls, whitening: Whitening, notes: dict[str, str] | None = None) -> LinearAdaptation:
        """The layer that does what a whitening does."""
        weight = np.ascontiguousarray(whitening.projection.T)
        return cls(weight, -(weight @ whitening.mean), notes or {})

    def made_for(self, encoder: Encoder) -> bool:
        """Whether it takes the vectors of an encoder, and was learned for its weights, as far as it says."""
        weights = self.notes.get("weights_sha256", encoder.weights_sha256)
        return self.weight.shape[1] == encoder.dimension and weights == encoder.weights_sha256

    def save(self, path: Path) -> None:
        """Write a `.safetensors` file with `layer.weight` and `layer.bias`, whole or not at all.

        Raises:
            EncoderError: the file cannot be written.
        """
        from safetensors.numpy import save

        if path.suffix != ".safetensors":
            raise EncoderError(f"{path}: a linear layer is written as safetensors; let the name end in .safetensors")
        arrays = {_WEIGHT: np.ascontiguousarray(self.weight), _BIAS: np.ascontiguousarray(self.bias)}
        metadata = {_NOTES: json.dumps(self.notes, sort_keys=True)} if self.notes else None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as place:
                place.write_bytes(save(arrays, metadata))
        except OSError as error:
            raise EncoderError(f"{path}: cannot be written ({error.strerror or error})") from error

    @classmethod
    def load(cls, path: Path) -> LinearAdaptation:
        """Read a `.safetensors` file, or a `.pth` file as ILIAS publishes them (read without running code in it).

        Raises:
            EncoderError: the file is missing or holds no linear layer.
            MissingExtra: a `.pth` file, and torch is not installed.
        """
        notes: dict[str, str] = {}
        try:
            if path.suffix in _PICKLED:
                arrays = _read_pickled(path)
            else:
                arrays, notes = _read_safetensors(path)
            weight, bias = (np.asarray(arrays[name], dtype=np.float32) for name in (_WEIGHT, _BIAS))
            if weight.ndim != 2 or bias.shape != weight.shape[:1] or not weight.size:
                raise ValueError(f"{_WEIGHT} {weight.shape} and {_BIAS} {bias.shape} do not fit together")
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise ValueError("it holds values that are not finite")
        except KeyError as error:
            raise EncoderError(f"{path}: no linear adaptation: it has no {error.args[0]!r}") from error
        except (OSError, ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise EncoderError(f"{path}: cannot be read as a linear adaptation ({reason})") from error
        return cls(weight, bias, notes)


def _read_pickled(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra(f"reading {path}", "torch") from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"expected a dictionary of tensors, found {type(state).__name__}")
    return {name: value.float().numpy() for name, value in state.items() if isinstance(value, torch.Tensor)}


def _read_safetensors(path: Path) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys() if name in (_WEIGHT, _BIAS)}  # noqa: SIM118
            notes = json.loads((file.metadata() or {}).get(_NOTES, "{}"))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if not isinstance(notes, dict):
        raise ValueError(f"its notes are {type(notes).__name__}")
    return arrays, {str(name): str(value) for name, value in notes.items()}
