"""AMES as a search asks for it: from the name of a folder to a re-ranker."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import NamedTuple

from patchwise.encoders import Encoder, Projected, list_known, load_encoder, same_encoder
from patchwise.errors import EncoderError
from patchwise.rerank.ames.describing import Describer, HitDescriptors, TokenEncoder
from patchwise.rerank.ames.descriptors import Attention, DescriptorSet, load_attention
from patchwise.rerank.ames.files import DescriptorFile
from patchwise.rerank.ames.network import Matcher, load_matcher
from patchwise.rerank.ames.reranker import Ames
from patchwise.rerank.ames.settings import BACKBONE, SETTINGS, AmesSettings, read_settings
from patchwise.rerank.base import Question, Setting

__all__ = ["ames_in"]

_loading = threading.Lock()


class _Parts(NamedTuple):
    """What lies in files: loaded once for all searches that name them."""

    matcher: Matcher
    attention: Attention | None
    file: DescriptorFile | None


def ames_in(setting: Setting, depth: int, place: str) -> Ames:
    """AMES with the files of a folder, or with one of its checkpoints.

    Args:
        setting: what it may use of a gallery.
        depth: how many hits are looked at; 100, 400 and 1,000 are the paper's.
        place: a folder, or a checkpoint in it; see `read_settings`.

    Raises:
        EncoderError: files are missing, cannot be read, or do not belong together; the message says what to do.
        MissingExtra: a package is needed.
    """
    settings = read_settings(place)
    with _loading:
        backbone = _backbone(settings, setting.encoder)
        device = getattr(backbone, "device", "cpu")  # networks that are no torch encoders have none
        parts = _parts(settings, _stamps(settings), str(device))
    matcher = parts.matcher.to(device)
    attention = None if parts.attention is None else parts.attention.to(device)
    describer = Describer(backbone, attention, longer_side=settings.longer_side)
    if matcher.shape.descriptor != describer.dimension:
        raise EncoderError(
            f"rerank ames: {settings.matcher}: for descriptors of {matcher.shape.descriptor} numbers, and the "
            f"network {backbone.id} gives {describer.dimension}: they do not belong together"
        )
    if parts.file is not None and parts.file.dimension != describer.dimension:
        raise EncoderError(
            f"rerank ames: {parts.file.path}: holds descriptors of {parts.file.dimension} numbers, and the network "
            f"{backbone.id} gives {describer.dimension}: they do not belong together"
        )

    def of_query(question: Question) -> DescriptorSet | None:
        return None if question.picture is None else describer.describe(question.picture, settings.query_descriptors)

    of_hits = HitDescriptors(setting, describer, settings.image_descriptors, parts.file)
    return Ames(matcher, of_query, of_hits, depth=depth, mixture=settings.mixture)


@lru_cache(maxsize=1)
def _parts(settings: AmesSettings, _stamps: tuple[int, ...], _device: str) -> _Parts:
    attention = None if settings.attention is None else load_attention(settings.attention)
    file = None
    if settings.descriptors is not None:
        file = DescriptorFile(settings.descriptors, settings.images, settings.root)
    return _Parts(load_matcher(settings.matcher), attention, file)


def _stamps(settings: AmesSettings) -> tuple[int, ...]:
    """When each file was written: other files under the same names are read again."""
    files = (settings.matcher, settings.attention, settings.descriptors, settings.images)
    return tuple(file.stat().st_mtime_ns for file in files if file is not None)


def _backbone(settings: AmesSettings, encoder: Encoder) -> TokenEncoder:
    """The network that looks: the gallery's own where it is the one that is asked for."""
    while isinstance(encoder, Projected):
        encoder = encoder.backbone
    if isinstance(encoder, TokenEncoder) and same_encoder(settings.backbone or BACKBONE, encoder.id):
        return encoder
    if not settings.backbone and _is_to_download(BACKBONE):
        folder = settings.matcher.parent
        raise EncoderError(
            f"rerank ames: {folder}: has no network that looks at pictures, DINOv2 ViT-B/14 with registers, and it is "
            "not on this machine; run: hf download facebook/dinov2-with-registers-base --local-dir "
            f'{folder / "backbone"} (or name it in {folder / SETTINGS}: {{"backbone": "{BACKBONE}"}})'
        )
    found = _loaded(settings.backbone or BACKBONE, str(getattr(encoder, "device", "auto")))
    if not isinstance(found, TokenEncoder):
        raise EncoderError(
            f"rerank ames: {found.id} gives no tokens of patches; AMES looks with {BACKBONE}, or another network of "
            "the transformers library: hf:FOLDER"
        )
    return found


@lru_cache(maxsize=1)
def _loaded(name: str, device: str) -> Encoder:
    encoder = load_encoder(name, device=device)
    while isinstance(encoder, Projected):
        encoder = encoder.backbone
    return encoder


def _is_to_download(alias: str) -> bool:
    """Whether the weights of a known encoder are not on this machine, though its packages are."""
    return any(known.encoder.alias == alias and known.weights == "to download" for known in list_known())
