"""Millions of image ids in little memory: names packed by folder or shard."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

__all__ = ["PackedIds"]


class PackedIds(Sequence[str]):
    """Ids `prefix + name`, held as one array of bytes per prefix; a string is made when one is asked for.

    Args:
        groups: pairs of a prefix, such as `yfcc100m/shard.tar/`, and (N,) names as UTF-8 bytes. Prefixes and names
            within a prefix are expected to be unique.
    """

    def __init__(self, groups: Sequence[tuple[str, npt.NDArray[np.bytes_]]]) -> None:
        self._groups = [(prefix, names) for prefix, names in groups if len(names)]
        self._ends = np.cumsum([len(names) for _, names in self._groups], dtype=np.int64).tolist()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(f"id {index} of {len(self)}")
        group = bisect_right(self._ends, row)
        prefix, names = self._groups[group]
        name: bytes = names[row - (self._ends[group] - len(names))]
        return prefix + name.decode()

    def __iter__(self) -> Iterator[str]:
        for prefix, names in self._groups:
            for name in names:
                yield prefix + name.decode()

    def __contains__(self, wanted: object) -> bool:
        if not isinstance(wanted, str):
            return False
        for prefix, names in self._groups:
            if wanted.startswith(prefix) and bool((names == wanted[len(prefix) :].encode()).any()):
                return True
        return False

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(names.nbytes for _, names in self._groups)
