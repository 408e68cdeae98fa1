"""ONNX networks: loading them, and keeping all cores busy with them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from patchwise.errors import EncoderError
from patchwise.machine import processors

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["InSlices", "open_session", "reason", "single_threaded_session", "with_output"]

# Regions per network call on a processor: activations then stay in its cache. Against 32, a convolutional network is
# twice as fast, a vision transformer gains a fifth (benchmarks/onnx_threads.py).
_SLICE = 2

_CPU = "CPUExecutionProvider"


class InSlices:
    """Calls a function on slices of an array, over threads, and joins what it returns.

    With a network of one thread each core then runs its own slice, which wastes no time in synchronising every layer.
    """

    def __init__(self, size: int = _SLICE, threads: int | None = None) -> None:
        self._size = size
        self.threads = threads or processors()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="patchwise-encode")

    def __call__(
        self, function: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]], pixels: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32]:
        slices = [pixels[start : start + self._size] for start in range(0, len(pixels), self._size)]
        return np.concatenate(list(self._pool.map(function, slices)))


def single_threaded_session(
    path: Path, advice: str = "reinstall patchwise", *, output: str | None = None
) -> onnxruntime.InferenceSession:
    """Load a network that runs on the thread that calls it; `output` names an inner value that it shall give as well.

    Raises:
        EncoderError: the file is missing or damaged; the message ends with `advice`.
    """
    try:
        return _session(path if output is None else with_output(path.read_bytes(), output), [_CPU])
    except Exception as error:  # onnxruntime raises its own undocumented classes
        raise EncoderError(f"{path}: onnxruntime cannot load it ({reason(error)}); {advice}") from error


def open_session(path: Path, device: str, advice: str) -> tuple[onnxruntime.InferenceSession, bool]:
    """Load a network where `device` says: "auto", "cpu", "cuda", "cuda:N" or "mps".

    "auto" takes a CUDA device where onnxruntime can use one, otherwise the processor. Apple's CoreML is taken for "mps"
    only: it compiles a network anew for every size of a batch.

    Returns:
        The session, and whether it runs on an accelerator; if not, it runs on the thread that calls it.

    Raises:
        EncoderError: the file cannot be loaded, or the device cannot be used.
    """
    wanted = _accelerator(device)
    if wanted is not None:
        try:
            session = _session(path, [wanted, _CPU])
            if session.get_providers()[0] == wanted[0]:
                return session, True
            why = "onnxruntime runs this network on the processor instead"
        except Exception as error:  # onnxruntime raises its own undocumented classes
            why = reason(error)
        if device != "auto":
            single_threaded_session(path, advice)  # the file's own faults come first
            raise EncoderError(f"device {device!r}: onnxruntime cannot use it ({why}); try --device cpu")
    return single_threaded_session(path, advice), False


def with_output(network: bytes, name: str) -> bytes:
    """An ONNX file that gives one of its inner values as well, last of its outputs.

    Protocol buffers that follow one another are read as one message (protobuf, "last one wins", where repeated fields
    are joined), so that an output is added by writing it behind the file: ModelProto.graph (field 7) with
    GraphProto.output (12) with ValueInfoProto.name (1).
    """
    added = name.encode()
    for field in (1, 12, 7):
        if len(added) > 127:
            raise ValueError(f"{name!r}: too long a name")
        added = bytes([field << 3 | 2, len(added)]) + added
    return network + added


def reason(error: Exception) -> str:
    """What onnxruntime says is wrong, on one line, without the codes in front of it."""
    return " ".join(str(error).split(" : ", 3)[-1].split())


def _accelerator(device: str) -> tuple[str, dict[str, str]] | None:
    import onnxruntime

    kind, _, number = device.partition(":")
    available = onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and "CUDAExecutionProvider" not in available):
        return None
    if kind == "mps":
        name, remedy = "CoreMLExecutionProvider", ""
    else:
        name, remedy = "CUDAExecutionProvider", "; pip install onnxruntime-gpu in its place"
    if name not in available:
        raise EncoderError(f"device {device!r}: the onnxruntime installed here cannot use it{remedy}, or --device cpu")
    return name, {"device_id": number} if number else {}


def _session(source: Path | bytes, providers: list[Any]) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised as well
    # Without enable_fallback=0 onnxruntime prints on stdout when a device cannot be used.
    network = source if isinstance(source, bytes) else str(source)
    return onnxruntime.InferenceSession(network, sess_options=options, providers=providers, enable_fallback=0)
