"""Everything that AMES needs, tiny and with weights at random, as the public files are laid out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from patchwise.rerank.ames import Attention, Matcher, MatcherShape  # noqa: E402

DIMENSION = 32  # of the tiny networks of hf_checkpoints


def write_matcher(path: Path, *, binary: bool = False, dimension: int = DIMENSION) -> Path:
    """A checkpoint whose logits differ widely from pair to pair."""
    shape = MatcherShape(descriptor=dimension, width=16, layers=2, feed_forward=24, binary=binary)
    torch.manual_seed(5 + binary)
    state = _stirred(Matcher(shape))
    state["classifier.bias"][:] = 48 if binary else -24  # so that logits of pictures lie around 0
    torch.save({"state": state, "epoch": 1}, path)
    return path


def write_detector(path: Path, dimension: int = DIMENSION) -> Path:
    torch.manual_seed(6)
    torch.save({"state": _stirred(Attention(dimension))}, path)
    return path


def write_folder(folder: Path, *, binary: bool = False, **said: Any) -> Path:
    """A matcher, a detector, DINOv2 with registers, and settings for pictures of 64 pixels."""
    pytest.importorskip("transformers")
    from encoders.hf_checkpoints import write_checkpoint

    write_checkpoint("dinov2_with_registers", folder / "backbone")
    write_matcher(folder / f"dinov2_ames{'_dist' * binary}.pt", binary=binary)
    write_detector(folder / "dinov2_detector.pt")
    settings = {"longer_side": 64, "query_descriptors": 20, "image_descriptors": 12, **said}
    (folder / "ames.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _stirred(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    generator, state = np.random.default_rng(7), module.state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        values = generator.normal(0, 1, tuple(tensor.shape)).astype("f4")
        if "var" in name:
            values = np.abs(values) + 0.5
        elif name.endswith("weight") and tensor.ndim == 1:
            values = 1 + 0.2 * values
        elif tensor.ndim == 1:
            values *= 0.1
        else:
            values *= (30 if name.startswith("classifier") else 3) / tensor.shape[1] ** 0.5
        state[name] = torch.from_numpy(values)
    return state
