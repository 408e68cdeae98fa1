"""Models of the open_clip library: CLIP, SigLIP and their kin, which put pictures and texts into one space."""

from __future__ import annotations

import copy
import importlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from patchwise.encoders.hf_loading import reason
from patchwise.encoders.hub import checkpoint
from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.references import local_folder, split_revision
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.torch_runtime import Network, TorchEncoder, import_torch, torch_encoder, weights_digest
from patchwise.encoders.vision_packages import (
    OTHER_FORMATS,
    import_package,
    near,
    quiet,
    safetensors_file,
    tensor_shapes,
)
from patchwise.errors import EncoderError

__all__ = ["load"]

_OPTIONS = ("size", "fit", "resampling", "pooling", "precision", "encode", "picture_size", "weights")
_CONFIGURATION = "open_clip_config.json"
# Those that open_clip itself prefers to files of other formats in the same folder.
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class _Source:
    """What `open_clip.create_model` shall build: `name` as it takes it, and `arguments` beside it."""

    spec: EncoderSpec
    name: str
    file: Path
    tokenizer: str
    arguments: dict[str, Any] = field(default_factory=dict)


def load(spec: EncoderSpec) -> TorchEncoder:
    """Load `open_clip:ARCH/TAG`, `open_clip:OWNER/NAME` of the hub, a folder, or `open_clip:ARCH,weights=FILE`.

    A folder holds `open_clip_config.json` and `open_clip_model.safetensors`, as open_clip writes it, and the files of a
    tokenizer where the model has its own. The vector is the projected one of `encode_image`, which lies in the space of
    the texts; `pooling=cls` or `mean` takes the class token or the mean of the patch tokens before the projection, and
    then no texts can be read. The activation is the one that the weights were trained with: `ViT-B-32/openai` means
    what open_clip calls `ViT-B-32-quickgelu/openai`.

    Raises:
        EncoderError: unknown name, or weights that cannot be had or do not fit the network.
        MissingExtra: open_clip is not installed.
    """
    spec.allow(_OPTIONS)
    open_clip = import_package(spec, "open_clip", "open-clip")
    source = _source(spec, open_clip)
    model = _built(source, open_clip)
    network = _network(source, model, open_clip)
    preprocessing = _preprocessing(model.visual.preprocess_cfg, spec.options.size)
    with _unheard():
        built = {**open_clip.get_model_config(source.name), **source.arguments}
    described = json.dumps([built, spec.options.pooling], sort_keys=True)
    digest = weights_digest([source.file], preprocessing.digest(), described.encode())
    return torch_encoder(source.spec, network, preprocessing, digest)


def _source(spec: EncoderSpec, open_clip: Any) -> _Source:
    reference, _ = split_revision(spec.reference)
    folder = local_folder(spec.reference)
    architecture, _, tag = reference.partition("/")
    if folder is None and architecture in open_clip.list_models():
        return _named(spec, architecture, tag, open_clip)
    if folder is None and (not tag or tag in _all_tags(open_clip)):
        raise EncoderError(
            f"encoder {spec}: open_clip knows no network {architecture!r}{near(architecture, open_clip.list_models())}"
        )
    if spec.options.weights is not None:
        raise EncoderError(f"encoder {spec}: weights=FILE goes with the name of a network, as in open_clip:ViT-B-32")
    found = checkpoint(spec, weights=_WEIGHTS, needed=(_CONFIGURATION,))
    file = found.folder / _CONFIGURATION
    try:
        known = isinstance(json.loads(file.read_text(encoding="utf-8"))["model_cfg"], dict)
    except OSError as error:
        raise EncoderError(f"{file}: cannot be read ({error.strerror}); open_clip keeps the model there") from error
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise EncoderError(f"{file}: no configuration of open_clip, which describes a model under model_cfg")
    name = f"local-dir:{found.folder}"
    return _Source(found.spec, name, _weights_in(found.folder), name)


def _named(spec: EncoderSpec, architecture: str, tag: str, open_clip: Any) -> _Source:
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if spec.options.weights is not None:
        if tag:
            raise EncoderError(f"encoder {spec}: give either weights that open_clip knows, or a file of your own")
        return _Source(spec, architecture, Path(spec.options.weights), architecture)
    metadata = open_clip.get_pretrained_cfg(architecture, tag)
    if not metadata:
        known = f"it knows {', '.join(tags)}" if tags else "it knows none, so give a file: weights=FILE"
        wrong = f"open_clip knows no weights {tag!r} of {architecture}" if tag else f"which weights of {architecture}?"
        raise EncoderError(f"encoder {spec}: {wrong}; {known}")
    repository, _, written = str(metadata.get("hf_hub") or "").rpartition("/")
    if not repository:
        raise EncoderError(f"encoder {spec}: not on the hub; name a file: open_clip:{architecture},weights=FILE")
    names = (str(Path(written).with_suffix(".safetensors")),) if written else _WEIGHTS
    found = checkpoint(spec, repository, names)
    own_tokenizer = "hf_tokenizer_name" in open_clip.get_model_config(architecture)["text_cfg"]
    with_it = own_tokenizer and (found.folder / _CONFIGURATION).is_file()
    return _Source(
        found.spec,
        architecture,
        safetensors_file(found.folder, names),
        f"local-dir:{found.folder}" if with_it else architecture,
        {
            "force_quick_gelu": bool(metadata.get("quick_gelu", False)),
            "force_preprocess_cfg": {key: metadata[key] for key in _PREPROCESSING if key in metadata},
        },
    )


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise EncoderError(f"{folder}: no {_WEIGHTS[0]} there; {OTHER_FORMATS}")


def _all_tags(open_clip: Any) -> set[str]:
    return {tag for _, tag in open_clip.list_pretrained()}


def _built(source: _Source, open_clip: Any) -> Any:
    """The model with its weights, which open_clip loads strictly, its position embeddings resized by open_clip."""
    tensor_shapes(source.file)
    own_file = {} if source.name.startswith("local-dir:") else {"pretrained": str(source.file)}
    try:
        with quiet(), _unheard(), _unasked():
            return open_clip.create_model(
                source.name,
                force_image_size=source.spec.options.size,
                require_pretrained=True,
                **own_file,
                **source.arguments,
            )
    except (RuntimeError, ValueError, KeyError, TypeError, AssertionError, OSError, ImportError) as error:
        raise EncoderError(
            f"encoder {source.spec}: open_clip cannot build it with {source.file} ({reason(error)})"
        ) from error


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep open_clip from the root logger, which it talks to, and sets up for the whole program where nobody has."""
    root, handler = logging.getLogger(), logging.NullHandler()
    silence = logging.Filter("nothing that is ever logged")
    root.addHandler(handler)
    root.addFilter(silence)
    try:
        yield
    finally:
        root.removeFilter(silence)
        root.removeHandler(handler)


@contextmanager
def _unasked() -> Iterator[None]:
    """Let transformers refuse code that a checkpoint brings; open_clip lets it ask on the terminal instead."""
    try:
        remote: Any = importlib.import_module("transformers.dynamic_module_utils")
    except ImportError:  # only few networks need it
        yield
        return
    patience = remote.TIME_OUT_REMOTE_CODE
    remote.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        remote.TIME_OUT_REMOTE_CODE = patience


def _preprocessing(own: dict[str, Any], asked_size: int | None) -> Preprocessing:
    size = own["size"]
    side = asked_size or (size if isinstance(size, int) else min(size))
    # Like open_clip, which takes any other word for bicubic.
    resampling = "bilinear" if own.get("interpolation") == "bilinear" else "bicubic"
    mean, std = (own[key] if isinstance(own[key], Sequence) else (own[key],) * 3 for key in ("mean", "std"))
    return Preprocessing(side, resampling, tuple(mean), tuple(std), short_side=side, to_even=True)


def _network(source: _Source, model: Any, open_clip: Any) -> Network:
    pooling, tower = source.spec.options.pooling or "projection", model.visual
    tokens: Callable[[Any], Any] | None = None
    # The attention pooling of CoCa has the tower's last norm behind it, so that its tokens are never normalised.
    if hasattr(tower, "forward_intermediates") and getattr(tower, "attn_pool", None) is None:
        tokens = _tokens(tower, open_clip)
    if pooling == "projection":
        return Network(model, model.encode_image, tokens, _texts(source, model, open_clip))
    if pooling == "mean" and tokens is not None:
        grid = tokens
        return Network(model, lambda pixels: grid(pixels).mean((1, 2)), tokens)
    if pooling == "cls" and tokens is not None and hasattr(tower, "class_embedding"):
        return Network(model, lambda pixels: _last_layer(tower, pixels, True)["image_intermediates_prefix"][0][:, 0])
    raise EncoderError(f"encoder {source.spec}: this model has no pooling={pooling}; leave it out for the projection")


def _last_layer(tower: Any, pixels: Any, with_class_token: bool = False) -> Any:
    return tower.forward_intermediates(
        pixels,
        indices=1,
        normalize_intermediates=True,
        intermediates_only=True,
        output_extra_tokens=with_class_token,
    )


def _tokens(tower: Any, open_clip: Any) -> Callable[[Any], Any]:
    """Normalised patch tokens or feature map (N, rows, columns, D), of pictures of any size that the patches divide.

    Dense encoding looks at whole images at one size and at queries at another; a tower takes one, so there is another
    with the same weights for each size.
    """
    towers = {tuple(tower.image_size): tower} if isinstance(tower.image_size, Sequence) else {}

    def grid(pixels: Any) -> Any:
        size = tuple(pixels.shape[2:])
        if size not in towers:
            towers[size] = _resized(tower, size, open_clip)
        return _last_layer(towers[size], pixels)["image_intermediates"][0].permute(0, 2, 3, 1)

    return grid


def _resized(tower: Any, size: tuple[int, int], open_clip: Any) -> Any:
    """The same tower for pictures of another size (height, width): only its position embeddings take memory again."""
    import torch

    other = copy.deepcopy(tower, {id(one): one for one in tower.parameters()})
    if hasattr(other, "set_input_size"):  # built by timm
        other.set_input_size(size)
    elif hasattr(other, "positional_embedding"):
        other.grid_size = (size[0] // tower.patch_size[0], size[1] // tower.patch_size[1])
        state = {"visual.positional_embedding": tower.positional_embedding.detach().float().cpu()}
        open_clip.model.resize_pos_embed(state, SimpleNamespace(visual=other))
        embedding = state["visual.positional_embedding"].to(tower.positional_embedding)
        other.positional_embedding = torch.nn.Parameter(embedding, requires_grad=False)
    return other


def _texts(source: _Source, model: Any, open_clip: Any) -> Callable[[Sequence[str]], Any]:
    tokenizer: Any = None

    def read(texts: Sequence[str]) -> Any:
        nonlocal tokenizer
        torch = import_torch(source.spec)
        if tokenizer is None:  # only now, because many look for pictures alone
            tokenizer = _tokenizer(source, open_clip)
        tokens = torch.as_tensor(tokenizer(list(texts)))
        return model.encode_text(tokens.to(next(model.parameters()).device))

    return read


def _tokenizer(source: _Source, open_clip: Any) -> Any:
    try:
        with quiet(), _unheard():
            by_transformers = open_clip.get_model_config(source.tokenizer)["text_cfg"].get("hf_tokenizer_name")
            # Said here, because the configuration of a checkpoint can say otherwise.
            own = {"trust_remote_code": False} if by_transformers else {}
            return open_clip.get_tokenizer(source.tokenizer, **own)
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, ImportError) as error:
        raise EncoderError(
            f"encoder {source.spec}: its tokenizer cannot be loaded ({reason(error)}). Put the tokenizer's files "
            "beside the weights in a folder, and name that: open_clip:FOLDER"
        ) from error
