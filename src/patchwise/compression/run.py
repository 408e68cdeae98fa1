"""Compressing a gallery: learn codebooks, write every region's code, and measure what a search of them finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from patchwise.codecs import TRAINING_VECTORS, Codec, CodecName, choose_codec, parse_codec, train_codec
from patchwise.compression.calibrate import HeldOut
from patchwise.compression.keep import Progress, code_index, measured, sampled_queries
from patchwise.compression.report import NO_CODES, CompressionReport, compression_info, kept_training
from patchwise.compression.training_sets import parse_training_set, training_vectors
from patchwise.compression.write import write_codes
from patchwise.encoders import Encoder
from patchwise.errors import (
    EncoderError,
    GalleryBusy,
    GalleryDamaged,
    GalleryError,
    GalleryMismatch,
    StorageFull,
    UsageError,
)
from patchwise.machine import memory
from patchwise.search.ranking import region_scores
from patchwise.store import Codes, Snapshot, Store, drop_all

__all__ = ["compress", "compress_again"]

_SEED = 0
_HELD_OUT_SHARE = 0.1
_HELD_OUT_MOST = 1_024
_FEWEST_PICTURES = 2
_GIVEN_UP_DEPTH = 10
_BLOCK_ROWS = 65_536


def compress(
    store: Store,
    codec: str = "auto",
    train: str = "random",
    *,
    codes_only: bool = False,
    encoder: Callable[[], Encoder] | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> CompressionReport:
    """Make the codes of a gallery, which every search uses from then on.

    Args:
        store: the gallery.
        codec: `auto`, or what `patchwise.codecs.parse_codec` reads; `none` deletes the codes and the wish for any.
        train: the training set of the codebooks, one of `TRAINING_SETS`.
        codes_only: delete the vectors afterwards, and keep their codes alone.
        encoder: gives the gallery's encoder, for the training sets that need it.
        progress: told what is under way, how much of it is done, and how much there is.

    Raises:
        UsageError: no such codec or training set, too few images, or no codec where only codes are kept.
        GalleryMismatch: only codes of another codec are kept.
        GalleryBusy, StorageFull: as for adding; what was there stays usable.
    """
    if codec == "none":
        return _without_codes(store, codes_only)
    if codec != "auto":
        parse_codec(codec)
    chosen_set = parse_training_set(train)
    notes: list[str] = []
    with store.writer():
        snapshot = store.snapshot()
        if len(snapshot) < _FEWEST_PICTURES:
            raise UsageError(f"{store.folder}: holds {len(snapshot)} images; index some before they are compressed")
        began = time.perf_counter()
        apart = _held_out_pictures(len(snapshot))
        asked: dict[str, Any] = {"codec": codec, "train": train}
        training = {"asked": dict(asked), "set": train, "seed": _SEED}
        codec_made = kept = _kept(store, codec)
        if codec_made is not None:  # nothing is learned any more
            training |= kept_training(store, codec_made)
            asked |= {"codec": codec_made.name, "kept": store.compression_wanted().get("kept")}
        else:
            name = codec
            if codec == "auto":
                name = choose_codec(snapshot.dimension, snapshot.rows, memory(), alone=codes_only)
            vectors = training_vectors(
                chosen_set,
                snapshot,
                count=TRAINING_VECTORS,
                seed=_SEED,
                held_out=apart,
                encoder=encoder,
                progress=progress,
                tell=notes.append,
            )
            progress("training", 0, 1)
            codec_made = train_codec(name, vectors, seed=_SEED)
            progress("training", 1, 1)
            training["vectors"] = len(vectors)
        trained = time.perf_counter()
        codes = Codes.begin(store.folder, codec_made, training)
        try:
            write_codes(snapshot, codes, lambda done, total: progress("encoding", done, total))
            encoded = time.perf_counter()
            index = code_index(snapshot, codes, mend=True)
            queries = sampled_queries(snapshot, np.flatnonzero(apart), _SEED, progress)
            codes.record_as(replace(codes.record, calibration=measured(snapshot, index, queries, progress)))
            if codes_only and kept is None:  # all that will be known of the vectors, so it is kept with the truth
                given_up = _given_up(snapshot, codes, queries)
                asked["kept"] = {**training, "digest": codec_made.digest, "given_up": given_up}
        except BaseException:
            codes.discard()
            raise
        codes.publish()
        images, regions = len(snapshot), snapshot.rows
        store.remember_compression(asked)
    if codes_only:
        del snapshot, index
        store.keep_only_codes(codec_made, lambda done, total: progress("dropping vectors", done, total), codes)
        with store.writer():  # the codes are the gallery's own now; those beside them are not needed any more
            write_codes(store.snapshot(), codes, lambda done, total: progress("encoding", done, total))
    ended = time.perf_counter()
    info = compression_info(store)
    if info is None:
        raise GalleryMismatch(f"{store.folder}: changed while it was compressed; run the same command again")
    return CompressionReport(info, images, regions, trained - began, encoded - trained, ended - encoded, tuple(notes))


def _without_codes(store: Store, codes_only: bool) -> CompressionReport:
    """Delete the codes, and forget that there were to be any."""
    with store.writer():
        if codes_only or store.kept_codec() is not None:
            raise UsageError(
                f"{store.folder}: codec none: only codes {'are to be' if codes_only else 'are'} kept, and without them "
                "nothing is left to search"
            )
        store.remember_compression({})  # first: a search that looks in between must not make them again
        drop_all(store.folder)
        counts = store.catalogue.counts()
    return CompressionReport(NO_CODES, counts["images"], counts["regions"], 0.0, 0.0, 0.0)


def compress_again(store: Store, encoder: Callable[[], Encoder] | None = None) -> CompressionReport:
    """Make lost codes anew, with what was asked for last, or at random where the training set cannot be had again.

    Raises:
        PatchwiseError: as for `compress`.
    """
    asked = store.compression_wanted()
    codec = "auto" if store.kept_codec() is not None else str(asked.get("codec", "auto"))
    train = str(asked.get("train", "random"))
    try:
        return compress(store, codec, train, encoder=encoder)
    except (GalleryBusy, StorageFull):
        raise
    except (EncoderError, GalleryError, UsageError):
        if not parse_training_set(train).needs_encoder:
            raise
        return compress(store, codec, encoder=encoder)  # pictures, queries or weights are not where they were


def _kept(store: Store, asked: str) -> Codec | None:
    """The codec whose codes are all that the gallery has."""
    kept = store.kept_codec()
    if kept is not None and asked != "auto" and not _meant(parse_codec(asked), parse_codec(kept.name)):
        raise GalleryMismatch(
            f"{store.folder}: keeps only codes of {kept.name}; the vectors that {asked} would be learned from are "
            "gone. Index into a new gallery for another codec"
        )
    return kept


def _meant(asked: CodecName, kept: CodecName) -> bool:
    """Whether a name stands for a codec; the number of lists may have been left to training."""
    return asked == kept or (asked.lists == 0 and asked == replace(kept, lists=0))


def _held_out_pictures(pictures: int) -> npt.NDArray[np.bool_]:
    """(pictures,) bool: those that nothing is learned from, so that they can be queries."""
    apart = np.zeros(pictures, dtype=np.bool_)
    count = min(max(int(pictures * _HELD_OUT_SHARE), 1), _HELD_OUT_MOST)
    apart[np.random.default_rng(_SEED).choice(pictures, count, replace=False)] = True
    return apart


def _given_up(snapshot: Snapshot, codes: Codes, queries: HeldOut) -> dict[str, float]:
    """How the codes alone rank the exact top 10 of each query, and place its regions.

    In two passes, so that memory is taken for a block of codes and a few numbers for each query.
    """
    codec = codes.codec
    true = [best.pictures[:_GIVEN_UP_DEPTH] for best in queries.best]
    scores, same = [], []
    for query, pictures in zip(queries.vectors, true, strict=True):
        of_query = []
        for picture in pictures.tolist():
            vectors = snapshot.vectors(picture).astype(np.float32)
            coded = codec.vectors(codec.encode(vectors)) @ query
            same.append(int(coded.argmax()) == int(region_scores(snapshot, picture, query).argmax()))
            of_query.append(float(coded.max()))
        scores.append(np.array(of_query))
    ahead = [np.zeros(len(pictures), dtype=np.int64) for pictures in true]
    for first, end, found in _scored_by_codes(snapshot, codes, queries.vectors):
        block = np.arange(first, end)
        for of_block, own, pictures, limits, count in zip(found, queries.own, true, scores, ahead, strict=True):
            others = of_block[~np.isin(block, [*pictures, own])]
            count += np.count_nonzero(others > limits[:, None], axis=1)
    precisions, overlaps = [], []
    for limits, count in zip(scores, ahead, strict=True):
        order = np.argsort(-limits, kind="stable")
        ranks = np.arange(len(order)) + 1
        places = count[order] + ranks  # among all pictures
        precisions.append(float((ranks / places).mean()))
        overlaps.append(float((places <= len(order)).mean()))
    return {"map": float(np.mean(precisions)), "overlap": float(np.mean(overlaps)), "same_region": float(np.mean(same))}


def _scored_by_codes(
    snapshot: Snapshot, codes: Codes, queries: npt.NDArray[np.float32]
) -> Iterator[tuple[int, int, npt.NDArray[np.float32]]]:
    """Blocks of pictures: the first, one past the last, and (Q, pictures) scores of their decoded vectors."""
    starts, held = snapshot.starts, -1
    for first, end, shard, row, past in snapshot.stretches(_BLOCK_ROWS):
        if shard != held:
            stored, held = codes.read(shard), shard
        if stored is None:
            raise GalleryDamaged(f"{codes.path(shard)}: not as it was just written. Run the same command again")
        scores = codes.codec.vectors(stored[row:past]) @ queries.T
        yield first, end, np.maximum.reduceat(scores, starts[first:end] - starts[first], axis=0).T
