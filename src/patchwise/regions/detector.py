"""A detector's boxes, whatever it takes them for: networks of the transformers library, from a folder on disk."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from patchwise.boxes import clip_xyxy
from patchwise.errors import MissingExtra, RegionsError
from patchwise.regions.base import Regions, View, region_table
from patchwise.regions.proposals import MAX_PROPOSALS, suppressed

__all__ = ["Detector"]

_SMALLEST_SHARE = 1 / 64  # of the longer side of the image
_CONFIGURATION = ("config.json", "preprocessor_config.json")
_DIGITS = 16
_CHUNK = 1 << 20


@dataclass
class _Loaded:
    """A network once it is loaded; worker threads take turns with it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    processor: Any = None
    model: Any = None


@dataclass(frozen=True)
class Detector:
    """The whole image, then at most `count` - 1 boxes of a detector, best first, their classes passed over.

    OWLv2 is asked for objectness, and needs no text; any other is asked for the score of each box's best class. Boxes
    that overlap a better one or the whole image by an IoU of 0.7 or more are dropped, and so are those with a side
    under 1/64 of the image's longer one. Nothing is ever downloaded.

    Args:
        folder: absolute path of a checkpoint as transformers saves it, with weights in safetensors.
        count: how many regions an image has at most.
        digest: the first 16 hexadecimal digits of the SHA-256 over its configuration and weights.
    """

    folder: str
    count: int
    digest: str
    _loaded: _Loaded = field(default_factory=_Loaded, repr=False, compare=False)

    @classmethod
    def find(cls, folder: str, count: int, *, digest: str | None = None) -> Detector:
        """Look at a folder; with `digest`, refuse it unless it still holds the same network.

        Raises:
            RegionsError: it holds no network, another one, or `count` is out of range.
            MissingExtra: transformers or torch is not installed.
        """
        place = Path(os.path.abspath(os.path.expanduser(folder)))
        if not 1 <= count <= MAX_PROPOSALS:
            raise RegionsError(f"regions detector:{place}:{count}: the count must be between 1 and {MAX_PROPOSALS:,}")
        weights = sorted(place.glob("*.safetensors"))
        missing = [name for name in _CONFIGURATION if not (place / name).is_file()]
        missing += [] if weights else ["*.safetensors"]
        if missing:
            raise RegionsError(
                f"{place}: not a folder with a detector, {' and '.join(missing)} missing. patchwise downloads no "
                "detector by itself: get one with `hf download ID --local-dir FOLDER`, for example with "
                "PekingU/rtdetr_r50vd or google/owlv2-base-patch16-ensemble as ID"
            )
        _transformers()
        found = _digest([*(place / name for name in _CONFIGURATION), *weights])
        if digest is not None and found != digest:
            raise RegionsError(
                f"{place}: holds another network than when the gallery was made (sha256 {found}... instead of "
                f"{digest}...). Restore it to index more, or index everything into a new gallery: "
                f"patchwise index FOLDER --gallery NEW --regions detector:{place}:{count}"
            )
        return cls(str(place), count, found)

    @property
    def name(self) -> str:
        return f"detector:{self.folder}:{self.count}:sha256={self.digest}"

    @property
    def typical_count(self) -> int:
        return self.count

    def finest_side(self, view: View) -> float:
        return max(max(view.size) * _SMALLEST_SHARE, 1.0)

    def regions(self, view: View) -> Regions:
        """Raises ValueError where `view` has no pixels, RegionsError where the network cannot be used."""
        if view.pixels is None:
            raise ValueError(f"{self.name} needs the pixels of {view.path or 'the image'}")
        with self._loaded.lock:
            if self._loaded.model is None:
                self._loaded.processor, self._loaded.model = _load(self.folder)
            boxes, scores = _detect(self._loaded.processor, self._loaded.model, view.pixels)
        scale_x, scale_y = view.size[0] / view.pixels.width, view.size[1] / view.pixels.height
        boxes = clip_xyxy(boxes * (scale_x, scale_y, scale_x, scale_y), view.size)
        large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= self.finest_side(view)
        return region_table(suppressed(boxes[large], scores[large], view.size)[: self.count - 1], view.size)


def _transformers() -> Any:
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise MissingExtra("regions detector", "torch") from error
    except RuntimeError as error:  # such as a torchvision that was built for another torch
        raise RegionsError(f"regions detector: transformers cannot be imported here ({error})") from error
    return transformers


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
    return digest.hexdigest()[:_DIGITS]


def _load(folder: str) -> tuple[Any, Any]:
    transformers = _transformers()
    from safetensors import SafetensorError

    try:
        kind = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("model_type")
        family = transformers.Owlv2ForObjectDetection if kind == "owlv2" else transformers.AutoModelForObjectDetection
        model = family.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        # Pillow's preprocessing, so that regions do not depend on whether torchvision is installed.
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, SafetensorError) as error:
        raise RegionsError(
            f"{folder}: cannot be loaded as an object detector of transformers {transformers.__version__} ({error})"
        ) from error
    return processor, model.eval()


def _detect(processor: Any, model: Any, pixels: Image.Image) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Boxes (N, 4) xyxy in pixels of an RGB picture, and their scores (N,) in [0, 1]."""
    import torch

    with torch.inference_mode():
        inputs = processor(images=pixels, return_tensors="pt")
        if model.config.model_type == "owlv2":
            features, _ = model.image_embedder(inputs["pixel_values"])
            flat = features.reshape(1, -1, features.shape[-1])
            outputs: Any = SimpleNamespace(
                logits=model.objectness_predictor(flat)[..., None], pred_boxes=model.box_predictor(flat, features)
            )
        else:
            outputs = model(**inputs)
        (found,) = processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=[(pixels.height, pixels.width)]
        )
    return found["boxes"].numpy().astype(np.float64), found["scores"].numpy().astype(np.float64)
