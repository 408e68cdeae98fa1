"""Torch encoders as ONNX files, which run without torch and give the same vectors."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise import __version__
from patchwise.encoders.base import DenseEncoder, Encoder
from patchwise.encoders.external_data import external_files
from patchwise.encoders.linear import LinearAdaptation
from patchwise.encoders.onnx_files import load
from patchwise.encoders.onnx_metadata import METADATA_KEY, ExportRecord
from patchwise.encoders.projection import Projected, Projection
from patchwise.encoders.registry import canonical_id, load_encoder
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.whitening import Whitening
from patchwise.errors import EncoderError, MissingExtra, UsageError

if TYPE_CHECKING:
    import torch

    from patchwise.encoders.torch_runtime import TorchEncoder

__all__ = ["TOLERANCE", "ExportedEncoder", "export_onnx"]

TOLERANCE = 1e-3  # of any number of a unit vector
_BATCHES = (1, 3, 17)
_INPUT, _OUTPUT = "pixels", "vectors"
_LARGEST_FILE = 2**31 - 2**24  # what one protocol buffer may hold, less what is no tensor


@dataclass(frozen=True)
class ExportedEncoder:
    """A file that was written, and how far its vectors lie from those of the encoder that it was made from.

    `largest_difference` is over all numbers of all vectors compared, `smallest_cosine` over all vectors.
    """

    path: Path
    encoder: str
    dimension: int
    input_size: int
    bytes: int
    largest_difference: float
    smallest_cosine: float


def export_onnx(encoder_id: str, path: Path, *, force: bool = False) -> ExportedEncoder:
    """Write a torch encoder, with its options and any linear adaptation, into one ONNX file for `onnx:FILE`.

    The file is compared with the encoder on random regions before it gets its name. Networks of more than 2 GB keep
    their tensors in a second file beside it, named like it with `.data` behind.

    Args:
        encoder_id: a name that `patchwise.encoders.load_encoder` reads.
        path: where to write; its name ends in .onnx.
        force: replace a file that is there.

    Raises:
        EncoderError: the encoder cannot be loaded or exported, or the file gives other vectors.
        UsageError: `path` cannot be used.
        MissingExtra: a package is needed.
    """
    _refuse_path(path, force)
    spec = EncoderSpec.parse(canonical_id(encoder_id))
    _refuse_encoder(spec)
    _require_exporter()
    encoder = load_encoder(encoder_id, device="cpu")
    backbone, projections = _unwrapped(encoder)
    record = ExportRecord(encoder.id, encoder.weights_sha256, encoder.dimension, backbone.preprocessing, __version__)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            written = Path(folder) / path.name
            _write(_module(backbone, projections), backbone.input_size, record, written)
            difference, cosine = _compare(encoder, EncoderSpec("onnx", str(written), device="cpu"))
            if not difference <= TOLERANCE:
                raise EncoderError(
                    f"encoder {encoder.id}: the exported network gives other vectors (largest difference "
                    f"{difference:.2g}, allowed {TOLERANCE:g}; smallest cosine {cosine:.6f}), so that no file was kept"
                )
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
            _move(written, path)
    except OSError as error:
        raise EncoderError(f"{path}: cannot be written ({error.strerror or error})") from error
    return ExportedEncoder(path, encoder.id, encoder.dimension, encoder.input_size, size, difference, cosine)


def _refuse_path(path: Path, force: bool) -> None:
    if path.suffix != ".onnx":
        raise UsageError(f"{path}: the name of an ONNX file ends in .onnx")
    if path.is_dir():
        raise UsageError(f"{path}: a folder is in the way")
    if path.exists() and not force:
        raise UsageError(f"{path}: is there already; give --force to replace it, or another name")


def _refuse_encoder(spec: EncoderSpec) -> None:
    """Say what cannot be exported before anything large is loaded."""
    if spec.family in ("builtin", "onnx"):
        raise EncoderError(f"encoder {spec}: runs on onnxruntime as it is, and needs no export")
    if spec.options.encode == "dense":
        raise EncoderError(f"encoder {spec}: an ONNX file encodes regions one by one; leave encode=dense out")
    if spec.options.precision not in (None, "fp32"):
        raise EncoderError(f"encoder {spec}: an ONNX file computes in fp32; leave precision out")


def _require_exporter() -> None:
    try:
        import onnxscript  # noqa: F401, which torch's exporter is built on
    except ImportError as error:
        raise MissingExtra("exporting to ONNX", "onnx") from error


def _unwrapped(encoder: Encoder) -> tuple[TorchEncoder, list[Projection]]:
    """The torch network inside an encoder, and the linear maps of its vectors in the order they are applied."""
    from patchwise.encoders.torch_runtime import TorchEncoder

    projections: list[Projection] = []
    while isinstance(encoder, Projected):
        projections.insert(0, encoder.projection)
        encoder = encoder.backbone
    if not isinstance(encoder, TorchEncoder) or isinstance(encoder, DenseEncoder):
        raise EncoderError(f"encoder {encoder.id}: no torch network that sees one region at a time; it stays as it is")
    return encoder, projections


def _module(encoder: TorchEncoder, projections: list[Projection]) -> torch.nn.Module:
    """All that happens between pixels (N, S, S, 3) uint8 and unit vectors (N, D)."""
    import torch

    class PixelsToVectors(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = encoder.network.module
            own = encoder.preprocessing
            self.register_buffer("mean", torch.tensor(own.mean, dtype=torch.float32).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(own.std, dtype=torch.float32).view(1, 3, 1, 1))
            self.maps = torch.nn.ModuleList(map(_linear, projections))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            colours = pixels.permute(0, 3, 1, 2).float() * encoder.preprocessing.rescale
            vectors = encoder.network.features((colours - self.mean) / self.std)
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
            for each in self.maps:
                vectors = torch.nn.functional.normalize(each(vectors), dim=-1)
            return vectors

    return PixelsToVectors().eval().requires_grad_(False)


def _linear(projection: Projection) -> torch.nn.Linear:
    import torch

    if isinstance(projection, Whitening):
        projection = LinearAdaptation.of_whitening(projection)
    if not isinstance(projection, LinearAdaptation):
        raise EncoderError(f"a projection of the kind {type(projection).__name__} cannot be exported")
    layer = torch.nn.Linear(projection.weight.shape[1], projection.dimension)
    layer.weight.data, layer.bias.data = torch.tensor(projection.weight), torch.tensor(projection.bias)
    return layer


def _write(module: torch.nn.Module, size: int, record: ExportRecord, path: Path) -> None:
    import torch

    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("regions", max=2**16)},),
                verbose=False,
            )
        except Exception as error:  # the exporter runs all of torch's machinery, which fails in many ways
            cause = str(error.__cause__ or error).strip().splitlines()
            raise EncoderError(
                f"encoder {record.encoder}: torch cannot export its network ({cause[0] if cause else type(error)})"
            ) from error
        program.model.metadata_props.clear()
        program.model.metadata_props[METADATA_KEY] = str(record)
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()  # lines of source and paths of the machine that it was made on
        weights = sum(tensor.nbytes for tensor in module.state_dict().values())
        program.save(path, external_data=weights > _LARGEST_FILE)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what the exporter remarks on its own workings; what is wrong with the file is found by comparing."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _compare(encoder: Encoder, exported: EncoderSpec) -> tuple[float, float]:
    """The largest difference between vectors of the two, and the smallest cosine, over batches of several sizes."""
    generator = np.random.default_rng(0)
    batches = [np.stack([_region(generator, encoder.input_size) for _ in range(count)]) for count in _BATCHES]
    try:
        other = load(exported)
        given = [other.encode(pixels) for pixels in batches]
    except EncoderError as error:
        raise EncoderError(
            f"encoder {encoder.id}: onnxruntime does not run the exported network, so that no file was kept ({error})"
        ) from error
    differences, cosines = [], []
    for pixels, found in zip(batches, given, strict=True):
        expected = encoder.encode(pixels)
        differences.append(float(np.abs(found - expected).max()))
        cosines.append(float((found * expected).sum(axis=1).min()))
    return float(np.max(differences)), float(np.min(cosines))  # not a number stays so


def _region(generator: np.random.Generator, side: int) -> npt.NDArray[np.uint8]:
    """Coloured blobs under fine grain, with as much contrast as a photograph."""
    blobs = Image.fromarray(generator.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize((side, side))
    grain = generator.normal(0, 12, (side, side, 3))
    return np.clip(np.asarray(blobs) + grain, 0, 255).astype(np.uint8)


def _move(written: Path, path: Path) -> None:
    """Give the files their names, the network last, so that it never stands with the tensors of another."""
    for data in external_files(written):
        path.unlink(missing_ok=True)
        os.replace(data, path.parent / data.name)
    os.replace(written, path)
