"""What searches a gallery now: exactly, or by its codes where it has them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from patchwise.compression import CodesDamaged, codes_searcher, compress_again, keep_up
from patchwise.encoders import Encoder
from patchwise.errors import PatchwiseError, UsageError
from patchwise.search import Background, CompressedSearcher, ExactSearcher, Searcher, in_place, unrelated_likeness
from patchwise.store import Snapshot, Store, codes_version

__all__ = ["Searchers"]

_COMPARED = 200  # pictures whose likeness stands for that of all


class Searchers:
    """The searchers of one snapshot, built when they are first asked for.

    Args:
        store: the gallery's.
        encoder: loads its encoder.
        before: those of an earlier snapshot, of which all is taken over that has not changed.
    """

    def __init__(
        self, store: Store, encoder: Callable[[], Encoder] | None = None, before: Searchers | None = None
    ) -> None:
        self._store, self._encoder = store, encoder
        self._codes_version = codes_version(store.folder)
        self.snapshot = store.snapshot()
        self._exact: ExactSearcher | None = None
        self._compressed: CompressedSearcher | None = None
        self._looked_for_codes = False
        self._background: Background | None = None
        self._unrelated: float | None = None
        self._earlier_exact: ExactSearcher | None = None
        self._earlier_compressed: CompressedSearcher | None = None
        if before is not None:
            # Beside codes, an exact searcher that was not asked lately is let go of: it may take much memory.
            unused = None if before._compressed is not None else before._earlier_exact
            self._earlier_exact = before._exact or unused
            self._earlier_compressed = before._compressed or before._earlier_compressed
            if _same_pictures(before.snapshot, self.snapshot):
                self._background, self._unrelated = before._background, before._unrelated

    def up_to_date(self) -> bool:
        """Whether the gallery and its codes are still those that these look at."""
        return (self.snapshot.version, self._codes_version) == (
            self._store.catalogue.data_version(),
            codes_version(self._store.folder),
        )

    @property
    def background(self) -> Background:
        """What scores are by chance."""
        if self._background is None:
            self._background = Background(self.snapshot)
        return self._background

    @property
    def unrelated_likeness(self) -> float:
        """The mean cosine of unrelated pictures, region by region."""
        if self._unrelated is None:
            drawn = np.random.default_rng(0).permutation(len(self.snapshot))[:_COMPARED].tolist()
            self._unrelated = unrelated_likeness(
                in_place(self.snapshot.vectors(index), self.snapshot.regions(index).table["level"]) for index in drawn
            )
        return self._unrelated

    def of(self, recall: float) -> Searcher:
        """A searcher that finds this share of the true best images: by codes where there are any, and exact at 1.

        Raises:
            UsageError: no share.
        """
        if not 0 < recall <= 1:
            raise UsageError(f"recall must be above 0 and at most 1, not {recall}")
        if recall < 1 and (compressed := self._by_codes()) is not None:
            return compressed.aiming_at(recall)
        if self._exact is None:
            self._exact, self._earlier_exact = ExactSearcher(self.snapshot, before=self._earlier_exact), None
        return self._exact

    def _by_codes(self) -> CompressedSearcher | None:
        if not self._looked_for_codes:
            self._compressed = self._found_or_mended()
            self._earlier_compressed = None
            self._codes_version = codes_version(self._store.folder)
            self._looked_for_codes = True
        return self._compressed

    def _found_or_mended(self) -> CompressedSearcher | None:
        damaged = None
        try:
            found = codes_searcher(self._store, self.snapshot, self._earlier_compressed)
            if found is not None or not self._store.compression_wanted():
                return found
        except CodesDamaged as damage:
            damaged = damage.shard
        try:
            with self._store.writer():
                mended = keep_up(self._store, damaged=damaged)
            if not mended:
                compress_again(self._store, self._encoder)
            return codes_searcher(self._store, self.snapshot, self._earlier_compressed)
        except (PatchwiseError, CodesDamaged):
            # Somebody else is writing, or nothing may be written. Exact search needs no codes.
            return codes_searcher(self._store, self.snapshot, mend=True)


def _same_pictures(before: Snapshot, now: Snapshot) -> bool:
    """Whether two snapshots hold the same vectors in the same order."""
    return bool(
        np.array_equal(before.ids, now.ids)
        and {shard: before.codec_digest(shard) for shard in before.shards}
        == {shard: now.codec_digest(shard) for shard in now.shards}
    )
