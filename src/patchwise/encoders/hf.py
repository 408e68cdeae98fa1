"""Backbones of the transformers library: DINOv2, DINOv3, SigLIP, SigLIP2, CLIP, and others of their kind."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from patchwise.encoders.hf_loading import Library, configuration_digest, weight_files
from patchwise.encoders.hf_processors import FILES, read_preprocessing
from patchwise.encoders.hf_texts import Texts
from patchwise.encoders.hub import checkpoint
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.torch_runtime import Network, TorchEncoder, torch_encoder, weights_digest
from patchwise.encoders.vision_packages import in_one_line
from patchwise.errors import EncoderError, MissingExtra

if TYPE_CHECKING:
    import torch

__all__ = ["load"]

_OPTIONS = ("size", "fit", "resampling", "pooling", "precision", "encode", "picture_size")
_WEIGHTS = ("model.safetensors", "model-*.safetensors")
_MOST_SPECIAL_TOKENS = 16  # class, distillation and register tokens; the known models have at most five


@dataclass(frozen=True)
class _Family:
    """How a kind of model is loaded: its usual pooling, and the classes of its towers where it has two."""

    pooling: str
    vision: str = ""
    text: str = ""
    fixed_length: bool = False


_CLIP = _Family("projection", "CLIPVisionModelWithProjection", "CLIPTextModelWithProjection")
_METACLIP_2 = _Family("projection", "MetaClip2VisionModelWithProjection", "MetaClip2TextModelWithProjection")
_SIGLIP = _Family("pooler", "SiglipVisionModel", "SiglipTextModel", fixed_length=True)
_SIGLIP2 = _Family("pooler", "Siglip2VisionModel", "Siglip2TextModel", fixed_length=True)
_CLASS_TOKEN = _Family("cls")
_OTHER = _Family("pooler")

_FAMILIES: Mapping[str, _Family] = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "metaclip_2": _METACLIP_2,
    "metaclip_2_vision_model": _METACLIP_2,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "siglip2": _SIGLIP2,
    "siglip2_vision_model": _SIGLIP2,
    "dinov2": _CLASS_TOKEN,
    "dinov2_with_registers": _CLASS_TOKEN,
    "dinov3_vit": _CLASS_TOKEN,
    "vit": _CLASS_TOKEN,
    "deit": _CLASS_TOKEN,
}


def load(spec: EncoderSpec) -> TorchEncoder:
    """Load `hf:OWNER/NAME`, `hf:OWNER/NAME@REVISION` or `hf:FOLDER` as transformers saves it.

    The vector is what the model was trained to tell pictures by: the class token after the last norm (DINOv2, DINOv3,
    ViT, DeiT), the attention-pooling head (SigLIP, SigLIP2), the projection into the space shared with texts (CLIP),
    the model's pooler (others, DINOv3's ConvNeXt among them). `pooling` asks for another: `cls`, `mean` (of the patch
    tokens after the last norm), `pooler`, `projection`. Position embeddings are interpolated as the model itself does.
    Texts are read where the vectors are those that texts were trained against.

    Raises:
        EncoderError: weights that cannot be had, are not whole or are of no vision model; an option that it lacks.
        MissingExtra: torch or transformers is not installed.
    """
    spec.allow(_OPTIONS)
    if not all(map(find_spec, ("torch", "transformers"))):
        raise MissingExtra(f"encoder {spec}", "torch")
    # Before the packages, which take seconds to import: without a network the answer comes at once.
    found = checkpoint(spec, weights=_WEIGHTS, needed=("config.json", "|".join(FILES)))
    library = Library.find(found.spec)
    configuration = library.configuration(found.folder)
    family = _FAMILIES.get(configuration.model_type, _OTHER)
    with library.quietly():
        preprocessing = read_preprocessing(found.spec, found.folder, library.package)
    tower = _Tower(found.spec, library, found.folder, configuration, family)
    network = Network(tower.model, tower.features, tower.tokens, tower.texts)
    files = weight_files(found.folder)
    pooling = (spec.options.pooling or "").encode()
    digest = weights_digest(files, preprocessing.digest(), pooling, configuration_digest(tower.model.config))
    frequencies = list(_rotary_frequencies(tower.model))
    encoder = torch_encoder(found.spec, network, preprocessing, digest)
    if frequencies and encoder.dtype != frequencies[0][2].dtype:
        _restore(encoder, frequencies)
    return encoder


def _rotary_frequencies(model: Any) -> Iterator[tuple[Any, str, torch.Tensor]]:
    """The frequencies of rotary embeddings, which models keep and use in fp32 whatever precision they run in."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if "inv_freq" in name:
                yield module, name, buffer


def _restore(encoder: TorchEncoder, exact: Iterable[tuple[Any, str, torch.Tensor]]) -> None:
    """Give an encoder in half precision its exact buffers back, and try out whether its network runs so."""
    for module, name, buffer in exact:
        module._buffers[name] = buffer.to(encoder.device)
    blank = np.zeros((1, encoder.input_size, encoder.input_size, 3), dtype=np.uint8)
    try:
        encoder.encode(blank)
    except RuntimeError as error:
        raise EncoderError(
            f"encoder {encoder.id}: its network does not run in half precision ({in_one_line(error)}); say "
            "precision=fp32"
        ) from error


@dataclass(frozen=True)
class _Seen:
    """What a vision tower gives for N pictures.

    Args:
        hidden: tokens after the last norm, (N, L, D).
        special: how many of them, the first, are no patches.
        grid: rows and columns of the patches, (0, 0) where they form none.
        pooled: what the model itself takes of them, (N, D).
    """

    hidden: torch.Tensor
    special: int
    grid: tuple[int, int]
    pooled: torch.Tensor | None

    @property
    def patches(self) -> torch.Tensor:
        return self.hidden[:, self.special :]


class _Tower:
    """The vision tower of a checkpoint, and how its vectors are taken from it."""

    def __init__(self, spec: EncoderSpec, library: Library, folder: Path, configuration: Any, family: _Family) -> None:
        self._spec, self._asked, self._usual = spec, spec.options.pooling, family.pooling
        own = getattr(configuration, "vision_config", configuration) if family.vision else configuration
        if family.pooling == "projection" and own is not configuration:
            own.projection_dim = configuration.projection_dim
        kind = getattr(library.package, family.vision) if family.vision else _vision_model(library, folder, own)
        self.model, missing = library.model(folder, kind, own)
        lacks_projection = missing == ["visual_projection.weight"]
        if lacks_projection:
            missing = []
        missing = _without_pooler(self.model, missing)
        library.refuse_missing(folder, kind, missing)
        self._projection = None if lacks_projection else getattr(self.model, "visual_projection", None)
        self._body = self.model.vision_model if family.pooling == "projection" else self.model
        self._norm = self._body.post_layernorm if family.pooling == "projection" else None
        self._patch = _patch_side(own)
        self._any_resolution = family is _SIGLIP2
        takes = inspect.signature(self._body.forward).parameters
        self._arguments = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        self._texts = self._text_tower(library, folder, configuration, family)

    def _text_tower(self, library: Library, folder: Path, configuration: Any, family: _Family) -> Texts | None:
        own = getattr(configuration, "text_config", None) if family.text else None
        usual = self._asked in (None, family.pooling) and (self._projection is not None or family.fixed_length)
        if own is None or not usual:
            return None
        if family.pooling == "projection":
            own.projection_dim = configuration.projection_dim
        return Texts(library, folder, family.text, own, family.fixed_length)

    @property
    def texts(self) -> Callable[[Sequence[str]], torch.Tensor] | None:
        """N texts to vectors (N, D), where they can be compared with those of `features`."""
        tower = self._texts
        if tower is None:
            return None

        def read(texts: Sequence[str]) -> torch.Tensor:
            some = next(self.model.parameters())
            return tower(texts, some.device, some.dtype)

        return read

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (N, 3, S, S) to vectors (N, D)."""
        seen = self._look(pixels)
        ways = {"mean": seen.patches.mean(1)}
        if seen.special:
            ways["cls"] = seen.hidden[:, 0]
        if seen.pooled is not None:
            ways["pooler"] = seen.pooled
            if self._projection is not None:
                ways["projection"] = self._projection(seen.pooled)
        if self._asked is None:
            return next(ways[name] for name in (self._usual, "pooler", "cls", "mean") if name in ways)
        if self._asked not in ways:
            raise EncoderError(
                f"encoder {self._spec}: {type(self.model).__name__} has no pooling={self._asked}; it has "
                f"{', '.join(sorted(ways))}"
            )
        return ways[self._asked]

    def tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same pixels to patch tokens after the last norm, (N, rows, columns, D).

        Pictures need not be square for networks that interpolate their position embeddings.
        """
        seen = self._look(pixels)
        if not all(seen.grid):
            raise EncoderError(f"encoder {self._spec}: the tokens of {type(self.model).__name__} form no grid")
        return seen.patches.reshape(len(pixels), *seen.grid, -1)

    def _look(self, pixels: torch.Tensor) -> _Seen:
        size = int(pixels.shape[-1])
        if self._any_resolution:
            side = self._whole_patches(size)
            found = self._body(
                pixel_values=_in_patches(pixels, self._patch),
                pixel_attention_mask=None,  # all of them count
                spatial_shapes=_shapes(len(pixels), side),
            )
        else:
            found = self._body(pixel_values=pixels, **self._arguments)
        hidden, pooled = getattr(found, "last_hidden_state", None), getattr(found, "pooler_output", None)
        if hidden is None:
            raise EncoderError(f"encoder {self._spec}: {type(self.model).__name__} gives no tokens to pool")
        if pooled is not None:
            pooled = pooled.flatten(1)  # convolutional ones give (N, D, 1, 1)
        if hidden.ndim == 4:  # a map of features
            return _Seen(hidden.flatten(2).transpose(1, 2), 0, (int(hidden.shape[2]), int(hidden.shape[3])), pooled)
        if self._norm is not None:
            hidden = self._norm(hidden)
        grid = _grid(int(hidden.shape[1]), int(pixels.shape[-2]), size, self._patch)
        return _Seen(hidden, int(hidden.shape[1]) - grid[0] * grid[1] if all(grid) else 0, grid, pooled)

    def _whole_patches(self, size: int) -> int:
        if size % self._patch:
            raise EncoderError(
                f"encoder {self._spec}: its input is cut into patches of {self._patch} pixels, so that size must be a "
                f"multiple of it, such as {max(size // self._patch, 1) * self._patch}"
            )
        return size // self._patch


def _vision_model(library: Library, folder: Path, configuration: Any) -> Any:
    """The class that transformers has for a configuration, if it takes pictures and shows all of them to itself."""
    package = library.package
    kind = package.MODEL_MAPPING.get(type(configuration), None)
    if not isinstance(kind, type) or not _sees_pictures_alone(kind):
        raise EncoderError(f"{folder}: {configuration.model_type!r} is no vision model that gives vectors of pictures")
    if getattr(configuration, "mask_ratio", 0):
        raise EncoderError(f"{folder}: {configuration.model_type!r} hides parts of its pictures at random")
    return kind


def _sees_pictures_alone(kind: Any) -> bool:
    needed = [one.name for one in inspect.signature(kind.forward).parameters.values() if one.default is one.empty]
    named = [name for name in needed if name not in ("self", "args", "kwargs", "pixel_values")]
    return getattr(kind, "main_input_name", None) == "pixel_values" and not named


def _without_pooler(model: Any, missing: list[str]) -> list[str]:
    """Take away a pooler that the checkpoint has no weights for, as is usual for classifiers; what else is missing."""
    poolers = [name for name in missing if name.startswith("pooler.")]
    if poolers:
        model.pooler = None
    return [name for name in missing if name not in poolers]


def _patch_side(configuration: Any) -> int:
    """Side of a patch in pixels, 0 where the model has none."""
    side = getattr(configuration, "patch_size", 0)
    return int(side[0] if isinstance(side, (list, tuple)) else side or 0)


def _grid(tokens: int, height: int, width: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches among the tokens of a picture; zeros where they form no grid."""
    rows, columns = (height // patch, width // patch) if patch else (0, 0)
    if rows and columns and 0 <= tokens - rows * columns <= _MOST_SPECIAL_TOKENS:
        return rows, columns
    for special in (0, 1):  # networks that merge patches on their way, whose last grid is coarser
        side = math.isqrt(tokens - special)
        if height == width and side * side == tokens - special:
            return side, side
    return 0, 0


def _in_patches(pixels: torch.Tensor, patch: int) -> torch.Tensor:
    """(N, 3, S, S) as (N, patches, patch * patch * 3), row by row, colours last, as SigLIP2's processor does."""
    side = pixels.shape[-1] // patch
    apart = pixels.reshape(len(pixels), -1, side, patch, side, patch)
    return apart.permute(0, 2, 4, 3, 5, 1).reshape(len(pixels), side * side, -1)


def _shapes(count: int, side: int) -> torch.Tensor:
    """Rows and columns of each picture, (N, 2), left in main memory because they are read as numbers."""
    import torch

    return torch.full((count, 2), side)
