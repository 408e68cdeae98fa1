"""Adapting an encoder to somebody's own pictures, without labels: learn, measure before and after, write a file."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from patchwise._version import __version__
from patchwise.adaptation.examples import CROPS, Advance, Stored, encode_examples
from patchwise.adaptation.learning import ALONE, WHITENING, Learned, Subject, check_count, check_regions, learn
from patchwise.adaptation.measure import Measured
from patchwise.adaptation.training import require_torch
from patchwise.encoders import (
    Encoder,
    EncoderSpec,
    Projected,
    load_backbone,
    load_encoder,
)
from patchwise.encoders.whitening import normalised
from patchwise.errors import EncoderError, GalleryError, UsageError
from patchwise.evaluation.statistics import Comparison, paired
from patchwise.gallery import Gallery
from patchwise.images import DEFAULT_MAX_PIXELS
from patchwise.indexing import walk
from patchwise.indexing.walk import listed
from patchwise.indexing.whiten import spread
from patchwise.regions import RegionStrategy, parse_regions
from patchwise.store import Snapshot, Store
from patchwise.store.catalogue import Catalogue

__all__ = ["METHODS", "AdaptationReport", "adapt", "adapt_gallery"]

Method = Literal["linear", "whitening"]
METHODS = ("linear", "whitening")

DEFAULT_PICTURES = 1000
_VECTORS = 40_000  # of regions, and as many of crops, held in memory at once
MOST_PICTURES = _VECTORS // CROPS  # every one is compared with every other


@dataclass(frozen=True)
class AdaptationReport:
    """What was learned, from how much, and what it is worth.

    `measured` holds, for the encoder alone, the whitening and the layer, how the crops of held-out pictures find their
    own picture; it is empty where there were too few to hold any out. `gain` compares the average precision of what was
    written with that of the encoder alone, and `over_whitening` with that of the whitening. `failed` are
    (path, reason).
    """

    output: Path
    encoder: str
    method: Method
    input_dimension: int
    dimension: int
    pictures: int
    held_out: int
    crops: int
    epochs: int
    seconds: float
    measured: Mapping[str, Measured] = field(default_factory=dict)
    gain: Comparison | None = None
    over_whitening: Comparison | None = None
    failed: Sequence[tuple[str, str]] = ()

    @property
    def verdict(self) -> str:
        """Of the encoder with the file against it alone: better, worse, no clear difference, or not measured."""
        if self.gain is None:
            return "not measured"
        interval = self.gain.difference
        return "better" if interval.low > 0 else "worse" if interval.high < 0 else "no clear difference"


def adapt(
    pictures: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    encoder: str | Encoder = "builtin",
    regions: str | RegionStrategy = "pyramid:3",
    method: str = "linear",
    dimension: int | None = None,
    limit: int = DEFAULT_PICTURES,
    seed: int = 0,
    device: str = "auto",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    force: bool = False,
    advance: Advance = lambda _what, _done, _total: None,
) -> AdaptationReport:
    """Learn a linear map of an encoder's vectors from pictures without labels, and write it as `.safetensors`.

    The encoder `NAME,adapt=OUTPUT` then applies it. "linear" begins with the whitening (or with the encoder as it
    is, if that finds held-out pictures better) and teaches crops of a picture, under other light and angle, to find
    their own picture among others. A quarter of the pictures is held out from all learning, and measures.

    Args:
        pictures: folders and image files.
        output: the file to write.
        encoder: a name, or an encoder of your own.
        regions: where a gallery of the pictures would look.
        method: "linear", or "whitening": PCA-whitening, or the shipped one adapted to the pictures, without torch.
        dimension: of a vector that comes out (default: that of the encoder today, at most 512).
        limit: learn from at most so many pictures, spread evenly over those found; never more than `MOST_PICTURES`,
            and fewer where `regions` lays many.
        seed: the same seed, pictures and device give the same file.
        device: where the encoder runs.
        max_pixels: larger pictures are refused.
        force: replace a file that is there; a gallery made with it can then not be searched any more.
        advance: told what is done.

    Raises:
        UsageError: an argument makes no sense.
        EncoderError: the encoder cannot be loaded or is adapted already, the pictures are too few, or the file cannot
            be written.
        MissingExtra: the method is "linear", and torch is not installed.
    """
    began = time.monotonic()
    output = Path(output)
    checked = _checked(method, dimension, limit, output, force)
    strategy = parse_regions(regions) if isinstance(regions, str) else regions
    for path in pictures:
        if not os.path.lexists(path):
            raise UsageError(f"{os.fspath(path)}: no such file or folder")
    found = walk(pictures)
    check_count(len(found.files), method)
    subject = _subject(encoder, device)
    chosen = [found.files[one] for one in _chosen(len(found.files), limit, strategy.typical_count)]
    check_regions(subject, len(chosen), strategy.typical_count, method, dimension)
    examples, failed = encode_examples(
        subject.encoder, strategy, chosen, seed=seed, max_pixels=max_pixels, advance=advance
    )
    learned = learn(subject, examples, method, dimension, seed, advance)
    return _written(learned, subject, checked, strategy, output, seed, began, failed + found.unreadable)


def adapt_gallery(
    gallery: Gallery,
    output: str | os.PathLike[str],
    *,
    method: str = "linear",
    dimension: int | None = None,
    limit: int = DEFAULT_PICTURES,
    seed: int = 0,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    force: bool = False,
    advance: Advance = lambda _what, _done, _total: None,
) -> AdaptationReport:
    """The same from the regions that a gallery holds: only crops of its pictures are encoded, if they are still there.

    Raises:
        GalleryError: a gallery with a whitening of its own.
        UsageError, EncoderError, MissingExtra: as for `adapt`.
    """
    began = time.monotonic()
    output = Path(output)
    checked = _checked(method, dimension, limit, output, force)
    if gallery.info().whitening != "shipped":
        raise GalleryError(
            f"{gallery.path}: its vectors are whitened by the gallery itself, which no other gallery can do; "
            "learn from the pictures instead, or from a gallery without --whitening"
        )
    encoder = gallery.encoder
    _refuse_adapted(encoder)
    subject = Subject(encoder, normalised, encoder.dimension)
    with Store(gallery.path) as store:  # a connection of its own: it says which content each path had
        snapshot = store.snapshot()
        check_count(len(snapshot), method)
        with store.catalogue.reading():
            path_of = dict(reversed([(picture, path) for path, picture in snapshot.paths(range(len(snapshot)))]))
            known = [picture for picture in range(len(snapshot)) if picture in path_of]
            numbers = _chosen(len(known), limit, snapshot.rows // len(snapshot))
            chosen = {path_of[known[number]]: known[number] for number in numbers}
            check_regions(subject, len(chosen), snapshot.rows / len(snapshot), method, dimension)
            stored = {path: _stored(store.catalogue, snapshot, path, one) for path, one in chosen.items()}
        found = listed("/", chosen)
        examples, failed = encode_examples(
            encoder, gallery.strategy, found.files, seed=seed, max_pixels=max_pixels, advance=advance, stored=stored
        )
    learned = learn(subject, examples, method, dimension, seed, advance)
    return _written(learned, subject, checked, gallery.strategy, output, seed, began, failed + found.unreadable)


def _chosen(pictures: int, limit: int, regions_each: int) -> list[int]:
    return spread(pictures, min(limit, max(_VECTORS // max(regions_each, CROPS), 1)))


def _stored(catalogue: Catalogue, snapshot: Snapshot, path: str, picture: int) -> Stored:
    content = catalogue.content_of(path)

    def holds(digest: bytes) -> bool:
        found = catalogue.content_by_hash(digest)
        return found is not None and found.id == content

    return Stored(snapshot.regions(picture).boxes, snapshot.vectors(picture).astype("float32"), holds)


def _written(
    learned: Learned,
    subject: Subject,
    method: Method,
    strategy: RegionStrategy,
    output: Path,
    seed: int,
    began: float,
    failed: Sequence[tuple[str, str]],
) -> AdaptationReport:
    values = {name: one.average_precision for name, one in learned.measured.items()}
    groups: list[int] = learned.groups.tolist()

    def against(name: str) -> Comparison | None:
        written = list(values)[-1:]
        return paired(values[name], values[written[0]], groups) if written and written[0] != name else None

    report = AdaptationReport(
        output=output,
        encoder=subject.encoder.id,
        method=method,
        input_dimension=subject.encoder.dimension,
        dimension=learned.layer.dimension,
        pictures=learned.pictures,
        held_out=learned.held_out,
        crops=len(groups),
        epochs=learned.epochs,
        seconds=0.0,
        measured=learned.measured,
        gain=against(ALONE) if values else None,
        over_whitening=against(WHITENING) if values else None,
        failed=tuple(failed),
    )
    notes = {
        "encoder": subject.encoder.id,
        "weights_sha256": subject.encoder.weights_sha256,
        "method": method,
        "regions": strategy.name,
        "pictures": str(learned.pictures),
        "seed": str(seed),
        "held_out": f"{report.verdict} than the encoder alone"
        if report.verdict in ("better", "worse")
        else report.verdict,
        "patchwise": __version__,
    }
    replace(learned.layer, notes=notes).save(output)
    return replace(report, seconds=time.monotonic() - began)


def _checked(method: str, dimension: int | None, limit: int, output: Path, force: bool) -> Method:
    if method not in METHODS:
        raise UsageError(f"method {method!r}: expected {' or '.join(METHODS)}")
    if (dimension is not None and dimension < 1) or limit < 1:
        raise UsageError("dimension and limit must be at least 1")
    if output.suffix != ".safetensors":  # said before an hour of encoding, not after
        raise UsageError(f"{output}: let the name end in .safetensors")
    if output.parent.exists() and not output.parent.is_dir():
        raise UsageError(f"{output}: {output.parent} is no folder")
    if os.path.isdir(output):
        raise UsageError(f"{output}: a folder is in the way")
    if os.path.exists(output) and not force:  # galleries may need it as it is
        raise UsageError(f"{output}: is there already; give --force to replace it, or another name")
    if method == "linear":
        require_torch()
        return "linear"
    return "whitening"


def _refuse_adapted(encoder: Encoder) -> None:
    layer = EncoderSpec.parse(encoder.id).options.adapt
    if layer is not None:
        raise EncoderError(f"{encoder.id}: adapted by {layer} already; adapt the encoder without it")


def _subject(given: str | Encoder, device: str) -> Subject:
    encoder = load_encoder(given, device=device) if isinstance(given, str) else given
    if isinstance(given, str):
        _refuse_adapted(encoder)
    if isinstance(given, str) and isinstance(encoder, Projected):
        return Subject(encoder.backbone, encoder.projection.apply, encoder.dimension, load_backbone(given, device)[1])
    return Subject(encoder, normalised, encoder.dimension)
