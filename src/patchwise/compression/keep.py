"""Codes kept in step with their gallery: after additions, compaction, loss or damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from patchwise.codecs import Codec, train_codec
from patchwise.compression.calibrate import DEFAULT_RECALL, HeldOut, calibrate, held_out, measured_recall
from patchwise.compression.found import found_codes
from patchwise.compression.write import write_codes
from patchwise.errors import GalleryDamaged
from patchwise.search import CodeIndex, CompressedSearcher, Margins
from patchwise.store import Codes, Snapshot, Store, drop_unused, forget_codes

__all__ = ["CodesDamaged", "codes_searcher", "keep_up", "measured", "sampled_queries"]

_QUERIES = 192  # of which two thirds set the margins, and the others say what these are worth
_GROWN = 1.25  # times as many regions as were measured with: time to measure again
_DROP = 0.01  # below the default recall: the codebooks fit what was added badly
_DEARER = 2.0  # times as many regions to score as when the codes were made: the same
_GAIN = 1.1  # times the error that new codebooks would have: worth learning them
_LEARNED_VECTORS, _TRIED_VECTORS = 16_384, 4_096  # of which that is found out

Progress = Callable[[str, int, int], None]


class CodesDamaged(Exception):
    """Codes of a shard are not as they were written; `shard` is its number."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"codes of shard {shard}")
        self.shard = shard


def codes_searcher(
    store: Store, snapshot: Snapshot, before: CompressedSearcher | None = None, *, mend: bool = False
) -> CompressedSearcher | None:
    """A searcher over the codes of a gallery; None where there are none that can be used.

    Rows that have no codes yet get theirs in memory; with `mend` also those whose codes are damaged. From a searcher of
    an earlier state all is taken over that has not changed.

    Raises:
        CodesDamaged: a shard's codes are not as they were written.
    """
    found = found_codes(store)
    if found is None:
        return None
    index = code_index(snapshot, found.codes, None if before is None else before.index, mend=mend)
    return CompressedSearcher(snapshot, index, found.margins)


def code_index(snapshot: Snapshot, codes: Codes, before: CodeIndex | None = None, *, mend: bool = False) -> CodeIndex:
    """The codes of a snapshot in memory, where `mend` makes anew those that are damaged.

    Raises:
        CodesDamaged: a shard's codes are not as they were written.
    """

    def source(shard: int) -> Any:
        if snapshot.codec_digest(shard) == codes.codec.digest:
            return snapshot.codes(shard)
        found = codes.read(shard)
        if found is None:
            if not mend:
                raise CodesDamaged(shard)
            return np.empty((0, codes.codec.code_bytes), dtype=np.uint8)
        return found[: snapshot.shards[shard]]

    return CodeIndex(snapshot, codes.codec, source, before)


def keep_up(store: Store, progress: Progress = lambda _what, _done, _total: None, damaged: int | None = None) -> bool:
    """Encode what was added, drop what is gone, and measure again where much was added; the caller holds the lock.

    Returns False where there are no codes that can be used: they have to be made anew. `damaged` is a shard whose codes
    are written again, as are those of all others that are not as they were written.

    Raises:
        StorageFull: the disk refused; the codes that are there stay usable.
        GalleryDamaged: codes are read otherwise than they were just written.
    """
    drop_unused(store.folder)
    found = found_codes(store)
    if found is None:
        return False
    codes = found.codes
    if damaged is not None:
        forget_codes(store.folder, {damaged} | {shard for shard in codes.record.shards if codes.read(shard) is None})
    snapshot = store.snapshot()
    write_codes(snapshot, codes, lambda done, total: progress("encoding", done, total))
    if snapshot.rows > _GROWN * found.regions:
        try:
            index = code_index(snapshot, codes)
        except CodesDamaged as damage:
            if damaged is not None:
                raise GalleryDamaged(f"{codes.path(damage.shard)}: not as it was just written") from damage
            return keep_up(store, progress, damage.shard)
        again = _measured_again(snapshot, index, codes.record.calibration, progress)
        codes.record_as(replace(codes.record, calibration=again))
        codes.publish()  # so that those who have it open look at the new margins
    return True


def sampled_queries(
    snapshot: Snapshot, pictures: np.ndarray[Any, np.dtype[np.int64]], seed: int, progress: Progress
) -> HeldOut:
    """Regions at random of some pictures as queries, with their exact answers among all other pictures.

    Of different pictures, as far as there are so many.
    """
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(pictures, _QUERIES, replace=len(pictures) < _QUERIES))
    counts = snapshot.starts[chosen + 1] - snapshot.starts[chosen]
    rows = snapshot.starts[chosen] + generator.integers(counts)
    vectors = snapshot.gather(rows).astype(np.float32)
    progress("measuring", 0, 3)
    return held_out(snapshot, vectors, chosen, lambda: progress("measuring", 1, 3))


def measured(
    snapshot: Snapshot, index: CodeIndex, queries: HeldOut, progress: Progress, before: Margins | None = None
) -> dict[str, Any]:
    """The calibration of codes as their record keeps it.

    Margins `before` stay where they find more than the new ones, and these too little.
    """
    fitted, others = queries.part(slice(0, None, 3), slice(1, None, 3)), queries.part(slice(2, None, 3))
    margins = calibrate(snapshot, index, fitted)
    progress("measuring", 2, 3)
    recall = measured_recall(CompressedSearcher(snapshot, index, margins, recall=DEFAULT_RECALL), others)
    if before is not None and min(recall.values()) < DEFAULT_RECALL:
        as_it_was = measured_recall(CompressedSearcher(snapshot, index, before, recall=DEFAULT_RECALL), others)
        if min(as_it_was.values()) > min(recall.values()):
            margins, recall = before, as_it_was
    progress("measuring", 3, 3)
    return {
        "margins": margins.as_json(),
        "recall": {str(k): share for k, share in recall.items()},
        "queries": len(queries.vectors),
        "regions": snapshot.rows,
    }


def _measured_again(snapshot: Snapshot, index: CodeIndex, before: Any, progress: Progress) -> dict[str, Any]:
    """Recall with the margins as they were, then margins that hold it again, and what to advise."""
    if len(snapshot) < 2:
        return dict(before)
    queries = sampled_queries(snapshot, np.arange(len(snapshot)), snapshot.rows, progress)
    old = Margins.from_json(before["margins"])
    now = measured(snapshot, index, queries, progress, old)
    as_it_was = measured_recall(CompressedSearcher(snapshot, index, old, recall=DEFAULT_RECALL), queries)
    first = before.get("first_regions", before["margins"]["regions"])
    at_first = replace(old, regions=tuple((int(k), int(count)) for k, count in first))
    # In a smaller gallery it may have been measured at other numbers of hits.
    dearer = max(new / max(at_first.expected_regions(DEFAULT_RECALL, k), 1) for k, new in now["margins"]["regions"])
    advice = None
    worse = min(as_it_was.values()) < DEFAULT_RECALL - _DROP or dearer > _DEARER
    # Codes of a few vectors know those that they were learned from by heart: then new codebooks would do no better.
    retrainable = not any(snapshot.codec_digest(shard) for shard in snapshot.shards)
    if worse and retrainable and (gain := _gain_of_learning_anew(snapshot, index.codec)) > _GAIN:
        advice = (
            f"The codebooks fit what was added less well (recall {min(as_it_was.values()):.3f} before margins were "
            f"widened, {dearer:.1f} times the work; new ones would err by {1 - 1 / gain:.0%} less): learn them anew "
            "with patchwise compress"
        )
    return {
        **now,
        "recall": {str(k): share for k, share in as_it_was.items()},
        "recall_now": now["recall"],
        "first_regions": first,
        "advice": advice,
    }


def _gain_of_learning_anew(snapshot: Snapshot, codec: Codec) -> float:
    """Mean squared error of a codec over that of one learned from the gallery as it is, on regions new to the latter.

    Source of the measure: product quantisation minimises it (Jegou et al., PAMI 2011).
    """
    generator = np.random.default_rng(snapshot.rows)
    pictures = generator.permutation(len(snapshot))[:_LEARNED_VECTORS]
    others = pictures[: max(len(pictures) // 5, 1)]
    rows = [snapshot.rows_of(np.sort(some)) for some in (others, pictures[len(others) :])]
    tried, learned = (
        snapshot.gather(np.sort(generator.choice(of, min(len(of), most), replace=False))).astype(np.float32)
        for of, most in zip(rows, (_TRIED_VECTORS, _LEARNED_VECTORS), strict=True)
    )
    anew = train_codec(codec.name, learned)
    error, least = (float(((tried - each.decode(each.encode(tried))) ** 2).mean()) for each in (codec, anew))
    return error / max(least, float(np.finfo(np.float32).tiny))
