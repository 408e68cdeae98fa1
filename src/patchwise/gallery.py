"""The one door for callers: a gallery of images that can be indexed, searched and explained."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from types import TracebackType

from patchwise.compression import (
    DEFAULT_RECALL,
    CompressionReport,
    compress,
    keep_up,
)
from patchwise.encoders import Encoder, encoder_record, load_encoder
from patchwise.errors import (
    EncoderError,
    GalleryExists,
    GalleryMismatch,
    GalleryNotFound,
    PatchwiseError,
    UsageError,
)
from patchwise.gallery_contents import GalleryContents
from patchwise.gallery_search import GallerySearch, QueryResult
from patchwise.gallery_searchers import Searchers
from patchwise.gallery_settings import agree, new_manifest
from patchwise.images import DEFAULT_MAX_PIXELS, SQUARE
from patchwise.indexing import (
    IndexProgress,
    IndexReport,
    Walk,
    adopt_whitening,
    index_paths,
    listed,
    own_whitening,
    walk,
)
from patchwise.metadata import MetadataFile, join_metadata, open_metadata
from patchwise.regions import RegionStrategy, parse_regions
from patchwise.search import Background, Searcher
from patchwise.store import (
    GalleryInfo,
    Snapshot,
    Store,
)

__all__ = ["Gallery", "GalleryInfo", "QueryResult"]


class Gallery(GalleryContents, GallerySearch):
    """An open gallery; use `Gallery.create`, `Gallery.open` or `Gallery.open_or_create`."""

    def __init__(
        self,
        store: Store,
        encoder: Encoder | None = None,
        strategy: RegionStrategy | None = None,
        device: str = "auto",
    ) -> None:
        super().__init__(store)
        self._device = device
        self._given_strategy = strategy
        self._given_encoder = encoder
        self._checked_encoder: Encoder | None = None
        self._lock = threading.RLock()
        self._searchers: Searchers | None = None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder: str | Encoder = "builtin",
        regions: str | RegionStrategy = "pyramid:3",
        whitening: str = "shipped",
        device: str = "auto",
    ) -> Gallery:
        """Make an empty gallery.

        Args:
            path: directory to make.
            encoder: a name that `patchwise.encoders.load_encoder` reads, or an encoder of your own.
            regions: region strategy, such as "pyramid:3" or "whole", or a strategy of your own.
            whitening: "shipped" is fixed; "gallery" is learned from the first pictures added.
            device: where the encoder runs: "auto", "cpu", "cuda", "cuda:1" or "mps".

        Raises:
            GalleryExists: something is there already.
            EncoderError, RegionsError, UsageError: an argument names nothing known.
        """
        strategy = parse_regions(regions) if isinstance(regions, str) else regions
        manifest, given = new_manifest(encoder, strategy, whitening, device)
        store = Store.create(Path(path), manifest)
        return cls(store, given, None if isinstance(regions, str) else regions, device)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder: Encoder | None = None,
        regions: RegionStrategy | None = None,
        device: str = "auto",
    ) -> Gallery:
        """Open a gallery; an encoder or region strategy of your own, if it was made with one, must be given again.

        Raises:
            GalleryNotFound, GalleryDamaged, GalleryMismatch: it cannot be used; the message says how to mend it.
        """
        store = Store(Path(path))
        if regions is not None and regions.name != store.manifest.regions:
            store.close()
            raise GalleryMismatch(
                f"{path}: made with regions {store.manifest.regions!r}, not {regions.name!r}; vectors of two kinds "
                "cannot be mixed"
            )
        return cls(store, encoder, regions, device)

    @classmethod
    def open_or_create(
        cls,
        path: str | os.PathLike[str],
        *,
        encoder: str | None = None,
        regions: str | None = None,
        whitening: str | None = None,
        device: str = "auto",
    ) -> Gallery:
        """Open a gallery, or make one where there is none; arguments left out take what is there, or the default.

        Raises:
            GalleryMismatch: an argument differs from what the gallery was made with.
        """
        folder = Path(path)
        wanted = {"encoder": encoder, "regions": regions, "whitening": whitening}
        given = {name: value for name, value in wanted.items() if value is not None}
        try:
            gallery = cls.open(folder, device=device)
        except GalleryNotFound:
            try:
                return cls.create(folder, **given, device=device)
            except GalleryExists as exists:
                try:
                    gallery = cls.open(folder, device=device)  # another process was quicker
                except GalleryNotFound:
                    raise exists from None
        try:
            gallery._store = agree(gallery._store, **given, device=device)
        except PatchwiseError:
            gallery.close()
            raise
        return gallery

    def close(self) -> None:
        """Close the files; the gallery cannot be used afterwards, and says so by a `GalleryError`."""
        with self._lock:
            self._searchers = None
            self._store.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The gallery's directory."""
        return self._store.folder

    @cached_property
    def strategy(self) -> RegionStrategy:
        """The region strategy."""
        return self._given_strategy or parse_regions(self._store.manifest.regions)

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded and checked against the manifest.

        Raises:
            EncoderError: it cannot be loaded.
            GalleryMismatch: it is not the one that the gallery was made with.
        """
        with self._lock:
            if self._checked_encoder is None:
                self._checked_encoder = self._load_encoder()
            return self._checked_encoder

    def _load_encoder(self) -> Encoder:
        manifest = self._store.manifest
        whitening, name = own_whitening(self._store), str(manifest.encoder["id"])
        try:
            encoder = self._given_encoder or load_encoder(name, whitening, self._device)
        except EncoderError as error:
            moved = f". If its files have moved: patchwise index FOLDER --gallery {self.path} --encoder NAME"
            raise EncoderError(
                f"{self.path}: its encoder cannot be loaded: {error}{moved if os.sep in name else ''}"
            ) from error
        kept = {"fit": str(SQUARE), **manifest.encoder}  # galleries of the first version knew no other
        for key, value in encoder_record(encoder).items():
            if kept.get(key) != value:
                raise GalleryMismatch(
                    f"{self.path}: made with another encoder: {key} was {kept.get(key)!r}, now {value!r} "
                    f"({encoder.id}). {self._way_back(encoder)}, or index into a new gallery with --gallery"
                )
        return encoder

    def _way_back(self, encoder: Encoder) -> str:
        version = self._store.manifest.patchwise
        if encoder.id == "builtin":
            return f"Install patchwise {version}, with which it was made"
        return (
            f"Put back its files as they were; if none has changed, install patchwise {version}, with which it was made"
        )

    def add(
        self,
        *paths: str | os.PathLike[str],
        follow_links: bool = False,
        within: Iterable[str | os.PathLike[str]] | None = None,
        metadata: str | os.PathLike[str] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Callable[[IndexProgress], None] | None = None,
    ) -> IndexReport:
        """Bring the gallery up to date with files and folders: new, changed, renamed and vanished images.

        Images outside the given paths are not touched. Interrupted, as by an error that `progress` raises, the next
        call goes on where this one stopped. With `within`, what really lies outside all of these folders, as links may
        lead out, is left out and noted among the `unreadable_folders` of the report. A file of `metadata` is joined to
        the images at the end, as by `add_metadata`.

        Raises:
            UsageError: a path does not exist, or the metadata cannot be read.
            GalleryBusy: another process is writing.
            GalleryError: a folder holds no image any more although the gallery knows some from there.
            StorageFull: the disk refused; what was committed is safe.
        """
        if not paths:
            raise UsageError("nothing to index: name at least one file or folder")
        described = None if metadata is None else open_metadata(Path(metadata))
        return self._add(walk(paths, follow_links=follow_links, within=within), max_pixels, progress, described)

    def add_listed(
        self,
        root: str | os.PathLike[str],
        names: Iterable[str],
        *,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        progress: Callable[[IndexProgress], None] | None = None,
    ) -> IndexReport:
        """Bring the gallery up to date with the files `root / name`; what else it knows from below `root` is dropped.

        Raises:
            GalleryBusy, GalleryError, StorageFull: as for `add`.
        """
        return self._add(listed(root, names), max_pixels, progress)

    def _add(
        self,
        found: Walk,
        max_pixels: int,
        progress: Callable[[IndexProgress], None] | None,
        described: MetadataFile | None = None,
    ) -> IndexReport:
        with self._store.writer() as writer:
            adopt_whitening(self._store, self.strategy, found, max_pixels=max_pixels, device=self._device)
            report = index_paths(
                writer, lambda: self.encoder, self.strategy, found, max_pixels=max_pixels, progress=progress
            )
            keep_up(self._store)
            if described is not None:
                folders = [os.path.dirname(root) if os.path.isfile(root) else root for root in found.roots]
                report.metadata = join_metadata(writer, described, folders)
            return report

    def compact(self) -> int:
        """Free the space of removed and changed images; returns how many regions were dropped."""
        with self._store.writer() as writer:
            dropped = writer.compact()
            keep_up(self._store)
            return dropped

    def compress(
        self,
        codec: str = "auto",
        train: str = "random",
        *,
        codes_only: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> CompressionReport:
        """Write every region in few bytes as well, so that a search looks at these and scores only the best by vectors.

        What is added later is compressed at once; images that are removed are never found.

        Args:
            codec: "auto" chooses by the size of the gallery and the memory of this machine; or "fastscan:BYTES",
                "pq:BYTES", "opq:BYTES", "ivf:BYTES[:LISTS]", or a factory string of FAISS. "none" deletes the codes:
                every search is exact from then on.
            train: what codebooks are learned from: a key of `patchwise.compression.TRAINING_SETS`.
            codes_only: delete the vectors themselves afterwards, for good; codes are searched as if they were vectors.
            progress: told what is under way, how much of it is done, and how much there is.

        Raises:
            UsageError: no such codec or training set, fewer than two images, or "none" where only codes are kept.
            GalleryMismatch: only codes of another codec are kept.
            GalleryBusy: another process is writing.
            StorageFull: the disk refused; what was there stays usable.
        """
        return compress(
            self._store,
            codec,
            train,
            codes_only=codes_only,
            encoder=lambda: self.encoder,
            progress=progress or (lambda _what, _done, _total: None),
        )

    def current(self, recall: float = DEFAULT_RECALL) -> tuple[Snapshot, Searcher]:
        with self._lock:
            searchers = self._current_searchers()
            return searchers.snapshot, searchers.of(recall)

    def background(self) -> Background:
        with self._lock:
            return self._current_searchers().background

    def unrelated_likeness(self) -> float:
        with self._lock:
            return self._current_searchers().unrelated_likeness

    def snapshot(self) -> Snapshot:
        with self._lock:
            return self._current_searchers().snapshot

    def _current_searchers(self) -> Searchers:
        searchers = self._searchers
        if searchers is None or not searchers.up_to_date():
            searchers = self._searchers = Searchers(self._store, lambda: self.encoder, searchers)
        return searchers
