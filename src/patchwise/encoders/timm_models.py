"""Backbones of the timm library: more than a thousand image networks, DINOv2, DINOv3 and SigLIP towers among them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patchwise.encoders.hub import checkpoint
from patchwise.encoders.preprocessing import Preprocessing
from patchwise.encoders.references import local_folder, split_revision
from patchwise.encoders.spec import EncoderSpec
from patchwise.encoders.torch_runtime import Network, TorchEncoder, torch_encoder, weights_digest
from patchwise.encoders.vision_packages import (
    import_package,
    in_one_line,
    near,
    quiet,
    safetensors_file,
    tensor_shapes,
)
from patchwise.errors import EncoderError
from patchwise.images import RESAMPLING

__all__ = ["load"]

_OPTIONS = ("size", "fit", "resampling", "pooling", "precision", "encode", "picture_size", "weights")
_POOLING = {"cls": "token", "mean": "avg", "pooler": "map"}  # timm's words
_CONFIGURATION = "config.json"
_WEIGHTS = ("model.safetensors",)


@dataclass(frozen=True)
class _Source:
    """Which network timm shall build, by a name or folder that its `create_model` takes, and from which file."""

    spec: EncoderSpec
    name: str
    file: Path
    metadata: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)


def load(spec: EncoderSpec) -> TorchEncoder:
    """Load `timm:NAME`, `timm:OWNER/NAME` of the hub, or `timm:FOLDER` as timm writes it; `weights=FILE` replaces them.

    The vector is what timm's network gives with `num_classes=0`, pooled as its metadata says: the class token (ViT,
    DINOv2), the mean of the tokens (DINOv3 and most networks without a class token), the attention-pooling head
    (SigLIP), the pooled feature map (convolutional). Towers of CLIP give what comes before their projection, so that
    their vectors are not those of `open_clip:` or `hf:`. `pooling` asks for another: `cls`, `mean`, or `pooler` for
    the attention-pooling head. With `fit=crop` regions are prepared as by timm's own transform for evaluation where
    that keeps their aspect. Some (SigLIP's, `crop_mode` squash) stretch a picture to a square instead, as happens here
    without `fit`; `fit=crop` keeps the aspect there as well. A few (`crop_mode` border) pad it, which is `fit=pad`.

    Raises:
        EncoderError: unknown name, or weights that cannot be had or do not fit the network.
        MissingExtra: timm is not installed.
    """
    spec.allow(_OPTIONS)
    timm = import_package(spec, "timm", "timm")
    source = _source(spec, timm)
    model = _built(source, timm)
    preprocessing = _preprocessing(source.spec, timm.data.resolve_model_data_config(model))
    _pooled(source.spec, model)
    network = Network(model, model, _tokens(source.spec, model))
    described = json.dumps([source.metadata.get("architecture"), source.arguments, spec.options.pooling], default=str)
    digest = weights_digest([source.file], preprocessing.digest(), described.encode())
    return torch_encoder(source.spec, network, preprocessing, digest)


def _source(spec: EncoderSpec, timm: Any) -> _Source:
    own_weights = Path(spec.options.weights) if spec.options.weights is not None else None
    name, _ = split_revision(spec.reference)
    if local_folder(spec.reference) is None and "/" not in name:
        return _named(spec, name, own_weights, timm)
    found = checkpoint(spec, weights=_WEIGHTS if own_weights is None else (), needed=(_CONFIGURATION,))
    metadata, arguments = _configuration(spec, found.folder, timm)
    file = own_weights or safetensors_file(found.folder, _WEIGHTS)
    return _Source(found.spec, f"local-dir:{found.folder}", file, metadata, arguments)


def _named(spec: EncoderSpec, name: str, own_weights: Path | None, timm: Any) -> _Source:
    architecture, tag = timm.models.split_model_name_tag(name)
    if not timm.is_model(architecture):
        known = [one.partition(".")[0] for one in timm.list_models()]
        raise EncoderError(f"encoder {spec}: timm knows no network {architecture!r}{near(architecture, known)}")
    tags = timm.models.get_arch_pretrained_cfgs(architecture)
    if tag and name not in tags:
        theirs = ", ".join(one for one in tags if "." in one)
        raise EncoderError(f"encoder {spec}: timm knows no weights {tag!r} of {architecture}; it knows {theirs}")
    metadata = timm.models.get_pretrained_cfg(name).to_dict()
    if own_weights is not None:
        return _Source(spec, name, own_weights, metadata)
    repository = metadata.get("hf_hub_id")
    if not repository:
        raise EncoderError(
            f"encoder {spec}: timm names no weights for {name} on the hub; give a file: timm:{name},weights=FILE"
        )
    found = checkpoint(spec, repository, _WEIGHTS)
    return _Source(found.spec, name, safetensors_file(found.folder, _WEIGHTS), metadata)


def _configuration(spec: EncoderSpec, folder: Path, timm: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata of the weights and arguments of the network in timm's `config.json`, whose older form is flat."""
    file = folder / _CONFIGURATION
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        architecture = read["architecture"]
        metadata = {"num_classes": read.get("num_classes"), **read.get("pretrained_cfg", read)}
        arguments = dict(read.get("model_args") or {})
    except OSError as error:
        raise EncoderError(f"{file}: cannot be read ({error.strerror}); timm keeps the network's name there") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderError(
            f"{file}: no configuration of timm, which names an architecture; for a model of transformers say "
            f"hf:{spec.reference}"
        ) from error
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise EncoderError(
            f"{file}: timm knows no network {architecture!r}{near(str(architecture), timm.list_models())}"
        )
    return {**metadata, "architecture": architecture}, arguments


def _built(source: _Source, timm: Any) -> Any:
    """The network with its weights, every one of them, and without its classifier.

    timm drops a classifier of another size from the weights, and then forgives anything else that is missing. So the
    network is first built with the classifier that the file holds, which timm loads strictly.
    """
    shapes = tensor_shapes(source.file)
    failure: Exception | None = None
    own_file = {"source": "", "file": str(source.file), "custom_load": False}
    for classes in _numbers_of_classes(source.metadata, shapes):
        try:
            with quiet(), _missing_keys() as missing:
                model = timm.create_model(
                    source.name,
                    pretrained=True,
                    pretrained_cfg_overlay={**own_file, "num_classes": classes},
                    num_classes=classes,
                    **_size_arguments(source),
                )
            if missing:
                raise RuntimeError(missing[0])
        except TypeError as error:  # an argument that this kind of network does not take
            raise EncoderError(
                f"encoder {source.spec}: timm cannot build this network so ({in_one_line(error)})"
            ) from error
        except (RuntimeError, ValueError, AssertionError, KeyError) as error:
            failure = failure or error
        else:
            model.reset_classifier(0)
            return model
    reason = in_one_line(failure) if failure is not None else "no reason is known"
    raise EncoderError(f"{source.file}: these weights do not fit {source.metadata['architecture']} ({reason})")


def _numbers_of_classes(metadata: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> list[int]:
    """How large the classifier in a file of weights may be, likeliest first; 0 is none."""
    names = metadata.get("classifier") or ()
    names = (names,) if isinstance(names, str) else tuple(names)
    held = [shapes[f"{name}.weight"][0] for name in names if f"{name}.weight" in shapes]
    if held:
        return held[:1]
    declared = metadata.get("num_classes")  # a file in the form of another library, which timm rewrites
    return list(dict.fromkeys([declared if isinstance(declared, int) else 0, 0]))


@contextmanager
def _missing_keys() -> Iterator[list[str]]:
    """What timm logs of weights that a network lacks; a few kinds of networks are never loaded strictly."""
    found: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "missing keys" in record.getMessage().lower():
                found.append(record.getMessage())

    logger, listener = logging.getLogger("timm"), Listener()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate


def _size_arguments(source: _Source) -> dict[str, Any]:
    """What makes a network with position embeddings take pictures of the size that was asked for, or of any."""
    options, fixed = source.spec.options, source.metadata.get("fixed_input_size")
    if source.arguments.get("dynamic_img_size"):
        fixed = False
    elif "img_size" in source.arguments:
        fixed = True
    asked: dict[str, Any] = {}
    if fixed and options.size is not None:
        asked["img_size"] = options.size
    if fixed and options.encode == "dense":
        asked["dynamic_img_size"] = True
    return asked


def _preprocessing(spec: EncoderSpec, own: dict[str, Any]) -> Preprocessing:
    channels, height, width = own["input_size"]
    if channels != 3:
        raise EncoderError(f"encoder {spec}: takes pictures of {channels} channels instead of 3")
    size = spec.options.size or height
    if height != width and spec.options.size is None:
        raise EncoderError(
            f"encoder {spec}: made for pictures of {width} x {height}; regions are square, so say size={width}"
        )
    resampling = spec.options.resampling or own["interpolation"]
    if resampling not in RESAMPLING:
        raise EncoderError(
            f"encoder {spec}: resizes by {resampling!r}, which patchwise does not; say resampling=bicubic"
        )
    if spec.options.fit == "crop" and own["crop_mode"] == "border":
        raise EncoderError(f"encoder {spec}: made for whole pictures with a border, not for their middle; say fit=pad")
    return Preprocessing(
        size,
        resampling,
        mean=tuple(own["mean"]),
        std=tuple(own["std"]),
        # For the size that is asked for, because timm rounds here and not at the network's own size.
        short_side=math.floor(size / own["crop_pct"]),
        to_even=True,
    )


def _pooled(spec: EncoderSpec, model: Any) -> None:
    """Let the network pool as it was asked to; timm keeps its last norm before or after that, where it was."""
    asked = spec.options.pooling
    if asked is None:
        return
    if asked not in _POOLING:
        raise EncoderError(f"encoder {spec}: pooling is cls, mean or pooler for networks of timm, not {asked!r}")
    try:
        if asked == "pooler" and getattr(model, "attn_pool", None) is None:
            raise ValueError("it has no attention-pooling head")
        model.reset_classifier(0, _POOLING[asked])
    except (AssertionError, ValueError, TypeError, RuntimeError) as error:
        raise EncoderError(
            f"encoder {spec}: this network has no pooling={asked} ({in_one_line(error)}); leave pooling out for its own"
        ) from error


def _tokens(spec: EncoderSpec, model: Any) -> Callable[[Any], Any]:
    """Patch tokens or feature map as (N, rows, columns, D), with the norm that the network applies to its vector."""
    prefix = getattr(model, "num_prefix_tokens", 0)
    norm = getattr(model, "fc_norm", None)
    channels_first = getattr(model, "output_fmt", "NCHW") == "NCHW"

    def grid(pixels: Any) -> Any:
        found = model.forward_features(pixels)
        if found.ndim == 4:
            return found.permute(0, 2, 3, 1) if channels_first else found
        found = found[:, prefix:]
        side = math.isqrt(found.shape[1])
        if found.ndim != 3 or side * side != found.shape[1]:
            raise EncoderError(f"encoder {spec}: its features are no grid of tokens, so it cannot encode densely")
        found = found if norm is None else norm(found)
        return found.reshape(len(found), side, side, -1)

    return grid
