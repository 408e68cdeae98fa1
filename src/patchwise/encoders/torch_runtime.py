"""Running torch networks: device, precision, batches that fit in memory."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.spec import EncoderSpec
from patchwise.errors import EncoderError, MissingExtra
from patchwise.images import Fit

if TYPE_CHECKING:
    import torch

__all__ = ["Network", "TorchEncoder", "import_torch", "torch_encoder", "weights_digest"]

_CPU_BATCH = 8  # regions of 224 x 224; more are no faster on a processor (benchmarks/batch_size.py)
_MPS_BATCH = 64  # its memory is that of the machine, so that what is free cannot be asked for
_MAX_BATCH = 512
_TEXTS = 64  # read at once
_MEMORY_SHARE = 0.5  # of what is free on the device: activations of the next call, and what others take meanwhile
_READ_BYTES = 1 << 22

_T = TypeVar("_T")


@dataclass(frozen=True)
class Network:
    """A loaded network in evaluation mode; its functions take and give tensors on the device of `module`.

    Args:
        module: everything that has to move to the device.
        features: normalised pixels (N, 3, S, S) to vectors (N, D), not yet of unit length.
        tokens: the same pixels to patch tokens (N, rows, columns, D), where the network has any.
        texts: N texts to vectors (N, D), where it reads any.
    """

    module: torch.nn.Module
    features: Callable[[torch.Tensor], torch.Tensor]
    tokens: Callable[[torch.Tensor], torch.Tensor] | None = None
    texts: Callable[[Sequence[str]], torch.Tensor] | None = None


class TorchEncoder:
    """A torch network as an encoder; threads take turns with it.

    Raises:
        EncoderError: the device or precision cannot be had, or the network does not take the input size.
    """

    def __init__(self, spec: EncoderSpec, network: Network, preprocessing: Preprocessing, weights_sha256: str) -> None:
        self.id = str(spec)
        self.weights_sha256 = weights_sha256
        self.preprocessing = preprocessing
        self.input_size, self.resampling = preprocessing.size, preprocessing.resampling
        self.fit: Fit = preprocessing.fit
        self.device = _device(spec)
        self.dtype = _dtype(spec, self.device)
        self._network = network
        self._turn = threading.RLock()
        self._mean, self._scale = self._placed(preprocessing.mean), self._placed(preprocessing.std)
        try:
            network.module.eval().requires_grad_(False).to(self.device, self.dtype)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            raise self._too_large("the network") from error
        self.dimension = self._try_out(lambda pixels: self._forward(network.features, pixels), self.input_size)

    @property
    def network(self) -> Network:
        """What runs, for code that needs more of it than vectors, such as the export to ONNX."""
        return self._network

    @cached_property
    def batch_size(self) -> int:
        """As many regions as the memory of the device takes; later halved where that was too many."""
        return self._fitting(self.input_size)

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if not len(pixels):
            return np.empty((0, self.dimension), dtype=np.float32)
        vectors, self.batch_size = self._in_batches(
            lambda part: self._forward(self._network.features, pixels[part]), len(pixels), self.batch_size
        )
        return np.concatenate(vectors)

    def activations(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Length of the network's vectors before they are scaled to 1: (N,) float32.

        What it says depends on the network. For convolutional ones, and for projections (CLIP), it is the strength of
        what was found. Where the vector is a token behind a layer norm (DINOv2, DINOv3, ViT), the norm has levelled
        it: what is left is how much of it lies on the channels that the norm's weights favour. Nothing says that this
        is information, and in some vision transformers the longest patch tokens lie on empty background (Darcet et
        al., "Vision transformers need registers", ICLR 2024).
        """
        if not len(pixels):
            return np.empty(0, dtype=np.float32)
        lengths, self.batch_size = self._in_batches(
            lambda part: self._lengths(pixels[part]), len(pixels), self.batch_size
        )
        return np.concatenate(lengths)

    def patch_tokens(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Tokens of the patches of one picture: (height, width, 3) uint8 RGB to (rows, columns, D) float32.

        Raises:
            EncoderError: the network has none, or does not take a picture of this size.
        """
        import torch

        tokens = self._network.tokens
        if tokens is None:
            raise EncoderError(f"encoder {self.id}: its network has no patch tokens")
        height, width = picture.shape[:2]
        try:
            with torch.inference_mode(), self._turn:
                found: npt.NDArray[np.float32] = tokens(self.normalised(picture[None]))[0].float().cpu().numpy()
                return found
        except (RuntimeError, ValueError, AssertionError) as error:
            if isinstance(error, RuntimeError) and _out_of_memory(error):
                raise self._too_large(f"one picture of {width} x {height}") from error
            raise EncoderError(f"encoder {self.id}: does not take pictures of {width} x {height} ({error})") from error

    def _lengths(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            vectors = self._network.features(self.normalised(pixels))
            lengths: npt.NDArray[np.float32] = vectors.float().norm(dim=-1).cpu().numpy()
            return lengths

    def _fitting(self, side: int) -> int:
        """How many pictures of side x side pixels the network takes at once."""
        if self.device.type != "cuda":
            usual = _MPS_BATCH if self.device.type == "mps" else _CPU_BATCH
            return min(max(usual * 224**2 // side**2, 1), _MAX_BATCH)
        import torch

        regions_each = max(side**2 // self.input_size**2, 1)
        tried, most = max(8 // regions_each, 1), max(_MAX_BATCH // regions_each, 1)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        blank = np.zeros((tried, side, side, 3), dtype=np.uint8)
        _, held = self._in_batches(lambda part: self._forward(self._network.features, blank[part]), tried, tried)
        if held < tried:
            return held
        per_picture = max((torch.cuda.max_memory_allocated(self.device) - before) / tried, 1.0)
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(2 ** np.floor(np.log2(np.clip(free * _MEMORY_SHARE / per_picture, 1, most))))

    def _in_batches(
        self, run: Callable[[slice], _T], count: int, size: int, what: str = "region"
    ) -> tuple[list[_T], int]:
        """`run` on slices of at most `size`, in order; its results, and the size that memory had room for."""
        results: list[_T] = []
        first = 0
        while first < count:
            part = slice(first, min(first + size, count))
            try:
                with self._turn:
                    results.append(run(part))
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                if not _out_of_memory(error):
                    raise
                size = self._halved(part.stop - part.start, what)
            else:
                first = part.stop
        return results, size

    def _halved(self, failed: int, what: str) -> int:
        import torch

        if failed == 1:
            raise self._too_large(f"one {what}")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return max(failed // 2, 1)

    def _too_large(self, what: str) -> EncoderError:
        return EncoderError(
            f"encoder {self.id}: the memory of {self.device} does not hold {what}; free some, use a smaller encoder or "
            "input size, or --device cpu"
        )

    def _forward(
        self, function: Callable[[torch.Tensor], torch.Tensor], pixels: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            return _unit(function(self.normalised(pixels)))

    def normalised(self, pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
        """(N, S, S, 3) uint8 RGB as the network's input: (N, 3, S, S) on its device, in its precision."""
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(pixels))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        channels = tensor.to(self.device, non_blocking=tensor.is_pinned()).permute(0, 3, 1, 2).float()
        return ((channels * self.preprocessing.rescale - self._mean) / self._scale).to(self.dtype)

    def _placed(self, values: Sequence[float]) -> torch.Tensor:
        import torch

        return torch.tensor(values, dtype=torch.float32, device=self.device).view(1, 3, 1, 1)

    def _try_out(self, run: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]], side: int) -> int:
        """Run on a blank picture of side x side pixels, before anything depends on it; the length of its vector."""
        try:
            found = run(np.zeros((1, side, side, 3), dtype=np.uint8))
        except (RuntimeError, ValueError, AssertionError) as error:
            if isinstance(error, RuntimeError) and _out_of_memory(error):
                raise self._too_large("one picture") from error
            raise EncoderError(f"encoder {self.id}: does not take pictures of {side} x {side} ({error})") from error
        if found.ndim != 2:
            raise EncoderError(f"encoder {self.id}: gives {found.shape[1:]} for a region instead of one vector")
        return int(found.shape[1])


class TorchTextEncoder(TorchEncoder):
    """A torch network that reads texts as well."""

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        import torch

        read = self._network.texts
        if read is None:
            raise EncoderError(f"encoder {self.id}: reads no texts")
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        with torch.inference_mode():
            vectors, _ = self._in_batches(lambda part: _unit(read(list(texts[part]))), len(texts), _TEXTS, "text")
        return np.concatenate(vectors)


def torch_encoder(
    spec: EncoderSpec, network: Network, preprocessing: Preprocessing, weights_sha256: str
) -> TorchEncoder:
    """The encoder that a spec asks for: one pass per region or per image, with texts where the network reads them.

    `preprocessing` is the model's own; the options of `spec` are applied here.

    Raises:
        EncoderError: an option cannot be honoured.
    """
    asked = preprocessing.asked(spec.options)
    if spec.options.encode == "dense":
        from patchwise.encoders.dense import TorchDenseEncoder

        return TorchDenseEncoder(spec, network, asked, weights_sha256)
    if spec.options.picture_size is not None:
        raise EncoderError(f"encoder {spec}: picture_size is for encode=dense, which looks at whole pictures")
    kind = TorchTextEncoder if network.texts is not None else TorchEncoder
    return kind(spec, network, asked, weights_sha256)


def weights_digest(files: Iterable[Path], *more: bytes) -> str:
    """SHA-256 over files of weights and what else decides the vectors, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(_READ_BYTES):
                digest.update(block)
    for part in more:
        digest.update(part)
    return digest.hexdigest()


def import_torch(spec: EncoderSpec) -> Any:
    """The torch package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra(f"encoder {spec}", "torch") from error
    return torch


def _device(spec: EncoderSpec) -> torch.device:
    import torch

    if spec.device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(spec.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = re.split(r"\n|[.:] ", str(error), maxsplit=1)[0]  # torch adds a page on how it was built
        raise EncoderError(f"device {spec.device!r}: cannot be used ({reason}); try auto or cpu") from error
    return device


def _dtype(spec: EncoderSpec, device: torch.device) -> torch.dtype:
    import torch

    # Half precision is twice as fast on a GPU, and vectors are stored in it anyway.
    asked = spec.options.precision or ("fp16" if device.type == "cuda" else "fp32")
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[asked]


def _unit(vectors: torch.Tensor) -> npt.NDArray[np.float32]:
    import torch

    unit: npt.NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return unit


def _out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error) or "can't allocate" in str(error)
