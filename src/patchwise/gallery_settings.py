"""What a gallery is made with, and whether what somebody asks for agrees with it."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from datetime import datetime, timezone

from patchwise._version import __version__
from patchwise.encoders import (
    Encoder,
    EncoderSpec,
    canonical_id,
    encoder_record,
    load_backbone,
    load_encoder,
    same_encoder,
)
from patchwise.errors import EncoderError, GalleryMismatch, UsageError
from patchwise.indexing import forget_whitening, own_whitening
from patchwise.regions import RegionStrategy, parse_regions
from patchwise.store import Manifest, Store

__all__ = ["agree", "new_manifest"]

_WHITENED_DIMENSION = 256


def new_manifest(
    encoder: str | Encoder, strategy: RegionStrategy, whitening: str, device: str
) -> tuple[Manifest, Encoder | None]:
    """The manifest of a gallery to be made, and its encoder as far as it is known already.

    Raises:
        EncoderError, UsageError: an argument names nothing known.
    """
    if whitening not in ("shipped", "gallery"):
        raise UsageError(f"whitening {whitening!r}: expected 'shipped' or 'gallery'")
    loaded: Encoder | None = None
    if whitening == "gallery":
        if not isinstance(encoder, str):
            raise UsageError("whitening 'gallery' needs an encoder given by its id")
        record = encoder_record(load_backbone(encoder, device)[0])
        record["dimension"] = min(_WHITENED_DIMENSION, int(record["dimension"]))
        record["weights_sha256"] = "not learned yet"
    else:
        loaded = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        record = encoder_record(loaded)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Manifest(record, strategy.name, whitening, created, __version__), loaded


def agree(
    store: Store, encoder: str | None = None, regions: str | None = None, whitening: str | None = None, *, device: str
) -> Store:
    """The gallery, if it was made with what is given, or can be: one that holds nothing yet is made anew.

    Weights that are the same at another place are taken from there from now on.

    Raises:
        GalleryMismatch: an argument is not what the gallery was made with.
        RegionsError, EncoderError: an argument names nothing known.
    """
    manifest = store.manifest
    actual = {"encoder": str(manifest.encoder["id"]), "regions": manifest.regions, "whitening": manifest.whitening}
    given = {"encoder": encoder, "regions": regions, "whitening": whitening}
    agrees = {
        "encoder": encoder in (None, actual["encoder"])
        or same_encoder(str(encoder), actual["encoder"], manifest.encoder.get("input_size")),
        "regions": regions is None or parse_regions(regions).name == manifest.regions,
        "whitening": whitening in (None, manifest.whitening),
    }
    if all(agrees.values()):
        return store
    if not store.catalogue.shards():  # nothing was ever stored
        strategy = parse_regions(regions or manifest.regions)
        made, _ = new_manifest(encoder or actual["encoder"], strategy, whitening or manifest.whitening, device)
        forget_whitening(store)
        return _remade(store, made)
    if encoder is not None and not agrees["encoder"] and _moved(store, encoder, device):
        agrees["encoder"] = True
        record = {**manifest.encoder, "id": canonical_id(encoder)}
        store = _remade(store, Manifest(**{**asdict(manifest), "encoder": record}))
    for name, fits in agrees.items():
        if not fits:
            raise GalleryMismatch(
                f"{store.folder}: made with {name} {actual[name]!r}, not {given[name]!r}; vectors of two kinds cannot "
                f"be mixed. Leave --{name} out, or make another gallery with --gallery"
            )
    return store


def _moved(store: Store, encoder: str, device: str) -> bool:
    """Whether an encoder is the gallery's own, with its files at another place."""
    asked, kept = EncoderSpec.parse(canonical_id(encoder)), EncoderSpec.parse(str(store.manifest.encoder["id"]))
    if _without_places(asked) != _without_places(kept):
        return False
    try:
        record = encoder_record(load_encoder(encoder, own_whitening(store), device))
    except EncoderError:
        return False
    return all(store.manifest.encoder.get(key) == value for key, value in record.items() if key != "id")


def _without_places(spec: EncoderSpec) -> tuple[EncoderSpec, bool, bool]:
    """A spec without its paths, and which of its options are paths."""
    options = spec.options
    bare = replace(spec, reference="", options=replace(options, weights=None, adapt=None))
    # A name on the hub is no place on this machine.
    named = bare if os.path.isabs(spec.reference) else replace(bare, reference=spec.reference)
    return named, options.weights is not None, options.adapt is not None


def _remade(store: Store, manifest: Manifest) -> Store:
    with store.writer():
        manifest.write(store.folder)
    store.close()
    return Store(store.folder)
