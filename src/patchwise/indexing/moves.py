"""Which known file another took over: settled from the files' bytes before a run changes anything.

A picture *leaves* a path where the file is gone or holds other bytes. A file that holds such a picture now was moved
there, be it a rename, one of a chain of them, a swap or a move over another file; every leaving path is taken once.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from patchwise.indexing.walk import FoundFile
from patchwise.store import FileRow

__all__ = ["moved_files", "worth_comparing"]

_MOST_PARTS = 4


def worth_comparing(todo: Iterable[FoundFile], known: Mapping[str, FileRow], vanished: Iterable[str]) -> set[str]:
    """Of the files that need a look, those that may have been moved, by their size, and those that they may be from."""
    sizes = {file.path: file.size for file in todo}
    before = {path: known[path].size for path in sizes if path in known and known[path].content is not None}
    left = Counter(before.values())
    left.update(known[path].size for path in vanished if known[path].content is not None)

    def itself(path: str) -> bool:
        return before.get(path) == sizes[path]

    moved = {path for path, size in sizes.items() if left[size] > itself(path)}
    arrived = Counter(sizes[path] for path in moved)
    return moved | {path for path, size in before.items() if arrived[size] > (path in moved and itself(path))}


def moved_files(
    now: Mapping[str, int | None],
    known: Mapping[str, FileRow],
    vanished: Iterable[str],
    is_described: Callable[[str], bool],
) -> dict[str, str]:
    """Old path by new, of the compared files: `now` is the picture that each holds, None where it is not known.

    Of several that left with one picture, the one with most of the last parts of its path in common is taken, and of
    those one that something is said of.
    """
    left: defaultdict[int | None, list[str]] = defaultdict(list)
    for path in vanished:
        left[known[path].content].append(path)
    for path, content in now.items():
        if path in known and known[path].content != content:
            left[known[path].content].append(path)
    arrived: defaultdict[int, list[str]] = defaultdict(list)
    for path, content in now.items():
        if content is not None and content in left and (path not in known or known[path].content != content):
            arrived[content].append(path)
    found: dict[str, str] = {}
    for content, paths in arrived.items():
        found |= _paired(paths, left[content], is_described)
    return found


def _paired(arrived: Sequence[str], left: Sequence[str], is_described: Callable[[str], bool]) -> dict[str, str]:
    if len(left) > 1:
        left = sorted(left, key=is_described)  # taken from the end
    found: dict[str, str] = {}
    taken: set[str] = set()
    for parts in range(_MOST_PARTS, -1, -1):
        by_end: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for path in left:
            if path not in taken:
                by_end[_end(path, parts)].append(path)
        for path in arrived:
            if path not in found and (fitting := by_end[_end(path, parts)]):
                found[path] = fitting.pop()
                taken.add(found[path])
    return found


def _end(path: str, parts: int) -> tuple[str, ...]:
    return tuple(path.rsplit(os.sep, parts)[1:]) if parts else ()
