"""ONNX networks that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from patchwise.errors import EncoderError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["single_threaded_session"]


def single_threaded_session(path: Path) -> onnxruntime.InferenceSession:
    """Load a network that runs on the thread that calls it.

    Raises:
        EncoderError: the file is missing or damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own undocumented classes
        raise EncoderError(f"{path}: onnxruntime cannot load it ({error}); reinstall patchwise") from error
