"""Codes written beside the shards: all of them, or those of rows that were added since."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from patchwise.store import Codes, Snapshot

__all__ = ["write_codes"]

_BLOCK_ROWS = 65_536


def write_codes(snapshot: Snapshot, codes: Codes, progress: Callable[[int, int], None]) -> int:
    """Write the codes that are missing, shard by shard, and delete those of rows that are gone; returns how many.

    Memory is taken for one block of vectors at a time. Shards that hold codes of the same codec need no others.

    Raises:
        StorageFull: the disk refused; what was written before is kept.
    """
    own = {shard for shard in snapshot.shards if snapshot.codec_digest(shard) == codes.codec.digest}
    codes.keep_only({shard: rows for shard, rows in snapshot.shards.items() if shard not in own})
    missing = {shard: rows - codes.rows(shard) for shard, rows in snapshot.shards.items() if shard not in own}
    total, done = sum(missing.values()), 0

    def blocks(shard: int, first: int, end: int) -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal done
        for start in range(first, end, _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, end)
            yield codes.codec.encode(snapshot.shard_vectors(shard, start, stop).astype(np.float32))
            snapshot.release(shard, start, stop)
            done += stop - start
            progress(done, total)

    for shard, count in missing.items():
        if count:
            end = snapshot.shards[shard]
            codes.append(shard, end - count, blocks(shard, end - count, end))
    return total
