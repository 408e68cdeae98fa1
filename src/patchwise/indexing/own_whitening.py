"""The whitening that a gallery learns from its own first pictures: a file, and what the manifest says of it."""

from __future__ import annotations

from dataclasses import asdict

from patchwise.encoders import Whitening, encoder_record, load_backbone, projected
from patchwise.errors import EncoderError, GalleryDamaged
from patchwise.indexing.walk import Walk
from patchwise.indexing.whiten import learn_whitening
from patchwise.regions import RegionStrategy
from patchwise.store import Manifest, Store

__all__ = ["adopt_whitening", "forget_whitening", "own_whitening"]

_FILE = "whitening.npz"


def own_whitening(store: Store) -> Whitening | None:
    """The whitening of a gallery's own, or None where it uses the shipped one.

    Raises:
        EncoderError: it is not learned yet.
        GalleryDamaged: it is lost.
    """
    if store.manifest.whitening != "gallery":
        return None
    if _must_learn(store):
        raise EncoderError(f"{store.folder}: its whitening is not learned yet; index some pictures first")
    return Whitening.load(store.folder / _FILE)


def forget_whitening(store: Store) -> None:
    """Drop what was learned for a gallery that holds no vectors and is made anew."""
    (store.folder / _FILE).unlink(missing_ok=True)


def adopt_whitening(store: Store, strategy: RegionStrategy, found: Walk, *, max_pixels: int, device: str) -> None:
    """Learn the whitening from the first pictures that are added to a gallery that wants its own.

    Raises:
        EncoderError: no picture can be read, or too few.
        GalleryDamaged: it was learned before and is lost.
    """
    if not found.files or not _must_learn(store):
        return
    manifest = store.manifest
    backbone, prior = load_backbone(str(manifest.encoder["id"]), device)
    whitening = learn_whitening(backbone, prior, strategy, found, manifest.dimension, max_pixels=max_pixels)
    temporary = store.folder / f"{_FILE}.new"
    whitening.save(temporary)
    adopted = Manifest(**{**asdict(manifest), "encoder": encoder_record(projected(backbone, whitening))})
    adopted.write(store.folder)
    temporary.replace(store.folder / _FILE)
    store.manifest = adopted


def _must_learn(store: Store) -> bool:
    if store.manifest.whitening != "gallery" or (store.folder / _FILE).exists():
        return False
    if store.catalogue.shards():  # another one would not fit the vectors that are stored
        raise GalleryDamaged(
            f"{store.folder / _FILE}: missing. Restore it from a backup, or delete {store.folder} and index again"
        )
    return True
