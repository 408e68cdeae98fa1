"""Checkpoints as AMES publishes them: a dictionary with the tensors in `state`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from patchwise.errors import EncoderError

__all__ = ["load_checkpoint"]

_Module = TypeVar("_Module", bound=nn.Module)


def load_checkpoint(path: Path, what: str, shaped: Callable[[Mapping[str, torch.Tensor]], _Module]) -> _Module:
    """Read a checkpoint into the module that `shaped` makes for it, on the processor; no code in it is run.

    Nothing may be missing or left over.

    Raises:
        EncoderError: the file is missing, or is not `what`.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state"]
        module = shaped(state)
        module.load_state_dict(state, strict=True)
    except (
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = next(iter(told.splitlines()), "") or type(error).__name__
        raise EncoderError(f"{path}: no {what} of AMES ({reason})") from error
    return module.eval().requires_grad_(False)
