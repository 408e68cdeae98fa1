"""Backbones in ONNX files, run by onnxruntime: without torch, whatever they were made with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from patchwise.encoders.external_data import external_files
from patchwise.encoders.hub import checkpoint
from patchwise.encoders.onnx_metadata import METADATA_KEY, Configuration, ExportRecord, read_configuration
from patchwise.encoders.onnx_network import PictureInput, choose_output, pooled
from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.references import local_folder
from patchwise.encoders.sessions import InSlices, open_session, reason
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.torch_runtime import weights_digest
from patchwise.encoders.whitening import normalised
from patchwise.errors import EncoderError
from patchwise.images import Fit

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OnnxEncoder", "load"]

_BATCH = 64
_REGIONS_PER_CORE = 8  # several slices each, so that none waits long for the last
# Where repositories of the hub keep the part that looks at pictures, and, where there is no such part, the whole.
_FILES = ("onnx/vision_model.onnx", "vision_model.onnx", "onnx/model.onnx", "model.onnx")
_CONFIGURATION = "preprocessor_config.json"
_ADVICE = "is it a whole ONNX file, and its external data beside it?"


class OnnxEncoder:
    """An ONNX network as an encoder.

    On a processor a batch is spread over the cores; on an accelerator it goes in at once, halved where memory is short.

    Raises:
        EncoderError: the network does not take pictures of the input size, or gives no vectors.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        network: tuple[onnxruntime.InferenceSession, bool],
        pictures: PictureInput,
        output: str,
        preprocessing: Preprocessing,
        weights_sha256: str,
    ) -> None:
        self.id = str(spec)
        self.weights_sha256 = weights_sha256
        self.preprocessing = preprocessing
        self.input_size, self.resampling = preprocessing.size, preprocessing.resampling
        self.fit: Fit = preprocessing.fit
        self._session, self._accelerated = network
        self._pictures, self._output, self._pooling = pictures, output, spec.options.pooling
        self.batch_size = _BATCH
        self._in_slices = self._slices()
        if not self._accelerated:
            self.batch_size = max(_BATCH, _REGIONS_PER_CORE * self._in_slices.threads)
        self.dimension = self._try_out()

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if not len(pixels):
            return np.empty((0, self.dimension), dtype=np.float32)
        while True:
            try:
                return self._in_slices(self._vectors, pixels)
            except Exception as error:  # onnxruntime raises its own undocumented classes
                smaller = self._accelerated and self._pictures.batch is None and self.batch_size > 1
                if not (smaller and "memory" in str(error)):
                    raise EncoderError(f"encoder {self.id}: onnxruntime failed ({reason(error)})") from error
            self.batch_size //= 2
            self._in_slices = self._slices()

    def _slices(self) -> InSlices:
        if self._accelerated:
            return InSlices(self._pictures.batch or self.batch_size, threads=1)
        return InSlices(self._pictures.batch) if self._pictures.batch else InSlices()

    def _vectors(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        given = self._pictures.array(pixels, self.preprocessing)
        (found,) = self._session.run([self._output], {self._pictures.name: given})
        vectors = pooled(found, self._pooling, self._pictures.channels_last)
        if len(vectors) != len(given):
            raise ValueError(f"{len(vectors)} vectors for {len(given)} pictures")
        return normalised(vectors[: len(pixels)])

    def _try_out(self) -> int:
        size, count = self.input_size, self._pictures.batch or 2
        try:
            found = self._vectors(np.zeros((count, size, size, 3), dtype=np.uint8))
        except ValueError as error:
            raise EncoderError(f"encoder {self.id}: its output {self._output} is {error}") from error
        except Exception as error:  # onnxruntime raises its own undocumented classes
            raise EncoderError(
                f"encoder {self.id}: does not take {count} pictures of {size} x {size} ({reason(error)})"
            ) from error
        return int(found.shape[1])


def load(spec: EncoderSpec) -> OnnxEncoder:
    """Load `onnx:FILE`, `onnx:FOLDER` or `onnx:OWNER/NAME`.

    Files that `patchwise export-onnx` wrote say everything of themselves. Of others, what a `preprocessor_config.json`
    does not say has to be said in the options.

    Raises:
        EncoderError: the file is missing, damaged, takes no pictures, or its preprocessing is not known.
    """
    spec.allow(("size", "fit", "resampling", "pooling", "output", "mean", "std"))
    path, spec = _find(spec)
    network = open_session(path, spec.device, _ADVICE)
    session = network[0]
    pictures = PictureInput.of(session, path)
    written = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if written is not None:
        preprocessing = _as_exported(spec, ExportRecord.read(written, path))
    else:
        preprocessing = _as_told(spec, pictures, path)
    output = choose_output([one.name for one in session.get_outputs()], spec.options.output, spec.options.pooling, path)
    digest = _digest(path, preprocessing.digest(), json.dumps([output, spec.options.pooling]).encode())
    return OnnxEncoder(spec, network, pictures, output, preprocessing, digest)


def _find(spec: EncoderSpec) -> tuple[Path, EncoderSpec]:
    """The file that a spec means, and the spec pinned to it."""
    path = local_folder(spec.reference)
    if path is None and spec.reference.endswith(".onnx"):
        path = Path(spec.reference).absolute()
    if path is not None and not path.is_dir():
        if not path.is_file():
            raise EncoderError(
                f"{path}: no such file; an ONNX file must stay where it was when a gallery was made with it"
            )
        return path, spec.with_reference(str(path))
    found = checkpoint(
        spec, weights=[pattern for name in _FILES for pattern in (name, f"{name}_data*", f"{name}.data")]
    )
    for name in _FILES:
        if (found.folder / name).is_file():
            return found.folder / name, found.spec
    raise EncoderError(f"{found.folder}: holds none of {', '.join(_FILES)}; name the file: onnx:{found.folder}/...")


def _as_exported(spec: EncoderSpec, record: ExportRecord) -> Preprocessing:
    """The preprocessing of a file that we wrote; only what happens before the network can be changed."""
    options, own = spec.options, record.preprocessing
    for name in ("pooling", "output", "mean", "std"):
        if getattr(options, name) is not None:
            raise EncoderError(
                f"encoder {spec}: {name} is fixed in the file; leave it out, or export {record.encoder} anew"
            )
    if options.size not in (None, own.size):
        raise EncoderError(f"encoder {spec}: made for size={own.size}; export {record.encoder} with the size wanted")
    return own.asked(replace(options, fit=options.fit or own.fit.kind))


def _as_told(spec: EncoderSpec, pictures: PictureInput, path: Path) -> Preprocessing:
    """The preprocessing of somebody else's file, from the options and from the configuration beside it."""
    options, told = spec.options, _configuration(path)
    if pictures.takes_bytes and (options.mean or options.std):
        raise EncoderError(f"encoder {spec}: takes pixels as they are; leave mean and std out")
    if pictures.size is not None and options.size not in (None, pictures.size):
        raise EncoderError(f"encoder {spec}: takes pictures of {pictures.size} x {pictures.size} only; leave size out")
    size = options.size or pictures.size or told.size
    resampling = options.resampling or told.resampling
    mean, std = options.mean or told.mean, options.std or told.std
    needed: dict[str, object] = {"size=PIXELS": size, "resampling=bilinear or bicubic": resampling}
    if not pictures.takes_bytes:
        needed |= {"mean=R/G/B": mean, "std=R/G/B": std}
    missing = [name for name, value in needed.items() if value is None]
    if missing or size is None or resampling is None:
        raise EncoderError(
            f"{path}: says nothing of how its pictures were prepared, and no {_CONFIGURATION} beside it says all; add "
            f"to the encoder's name, after commas, what its authors give: {', '.join(missing)} (colours in [0, 1])"
        )
    return Preprocessing(
        told.size or size,
        resampling=resampling,
        mean=mean or (0.0, 0.0, 0.0),
        std=std or (1.0, 1.0, 1.0),
        rescale=told.rescale if options.mean is None and options.std is None else 1 / 255,
        short_side=told.short_side,
    ).asked(replace(options, size=size))


def _configuration(path: Path) -> Configuration:
    """What lies beside the file, or one folder up where repositories keep their ONNX files in one of their own."""
    folders = [path.parent, path.parent.parent] if path.parent.name == "onnx" else [path.parent]
    for folder in folders:
        if (folder / _CONFIGURATION).is_file():
            return read_configuration(folder / _CONFIGURATION)
    return Configuration()


def _digest(path: Path, *more: bytes) -> str:
    try:
        return weights_digest([path, *external_files(path)], *more)
    except (OSError, ValueError, IndexError) as error:
        raise EncoderError(f"{path}: cannot be read ({error})") from error
