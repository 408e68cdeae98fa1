"""ILIAS and mini-ILIAS (Kordopatis-Zilos et al., CVPR 2025; layout and protocol of github.com/ilias-vrg/ilias).

ROOT/image_ids/image_query_ids.txt       id, ... ; only the first column is used
ROOT/image_ids/positive_ids.txt          id, scale, clutter
ROOT/image_ids/distractor_ids.txt.gz     shard.tar/key, one per line (ILIAS)
ROOT/image_ids/mini_ilias_yfcc100m_ids.txt   key, one per line (mini-ILIAS); either list may be packed or not
ROOT/ilias_core/<instance>/query/Q000_00.jpg, .../pos/P000_00.jpg, beside each ..._bbox.txt: x y width height
ROOT/yfcc100m/*.tar                      members key.jpg
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from patchwise.boxes import Box, enclosing_box
from patchwise.errors import BenchmarkError, ImageUnreadable
from patchwise.evaluation.datasets.base import Benchmark, Query
from patchwise.evaluation.datasets.checks import (
    BoxChecker,
    few,
    own_folder,
    read_lines,
    refuse_duplicates,
    refuse_missing_files,
    upright_size,
    xyxy,
)
from patchwise.evaluation.datasets.ids import PackedIds
from patchwise.images import tar_index

__all__ = ["from_official_id", "official_id", "read_ilias"]

CORE = "ilias_core"
SHARDS = "yfcc100m"
DEPTH = 1000
_PUBLISHED_QUERIES = 1232

_PORTAL = "https://vrg.fel.cvut.cz/ilias_data"
_HOW_LISTS = f"The lists are at {_PORTAL}/image_ids/ and belong into ROOT/image_ids (docs/benchmark-data.md)."
_HOW_CORE = f"Unpack {_PORTAL}/ilias_core.tar in ROOT (docs/benchmark-data.md)."
_HOW_SHARDS = (
    f"Shards are at {_PORTAL}/yfcc100m/ and belong into ROOT/{SHARDS}. To go on without them, choose {{name}}:present "
    "(those that are there) or {name}:core (none); the benchmark's name then says so."
)

Names = npt.NDArray[np.bytes_]
Distractors = Literal["all", "present", "none"]


def read_ilias(
    root: Path,
    *,
    mini: bool = False,
    distractors: Distractors = "all",
    query_box: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Read and check ILIAS, or mini-ILIAS: the same queries and positives among 5 million of the distractors.

    Args:
        root: the folder that the authors' download script fills.
        mini: the distractors of mini-ILIAS.
        distractors: "all" refuses to go on when some are missing; "present" takes those that are there, "none" only
            the positives, and both say so in the benchmark's name.
        query_box: ask with the query's boxes (the one that encloses them) instead of the whole query image, which is
            what the authors' code encodes unless told otherwise.
        progress: told which shard is being read.

    Raises:
        BenchmarkError: what is missing or inconsistent, and how to get it.
    """
    own_folder(root, "ILIAS", _HOW_CORE)
    query_ids, positives = _lists(root)
    refuse_missing_files(root / CORE, [*query_ids, *positives], "listed queries and positives", _HOW_CORE)
    checker = BoxChecker("x y width height")
    of_instance: dict[str, dict[str, tuple[Box, ...]]] = defaultdict(dict)
    for name in positives:
        of_instance[name.split("/")[0]][f"{CORE}/{name}"] = _boxes(root / CORE / name, checker)
    queries = []
    for name in query_ids:
        instance = name.split("/")[0]
        if instance not in of_instance:
            raise BenchmarkError(f"{root}/image_ids: query {name} has no positive in positive_ids.txt. {_HOW_LISTS}")
        asked = enclosing_box(_boxes(root / CORE / name, checker)) if query_box else None
        queries.append(Query(name, root / CORE / name, asked, of_instance[instance], group=instance))
    notes = checker.notes()
    if len(queries) != _PUBLISHED_QUERIES:
        notes += (f"ILIAS has {_PUBLISHED_QUERIES:,} image queries; this list has {len(queries):,}",)

    title = "mini-ILIAS" if mini else "ILIAS"
    shards: list[tuple[str, Names]] = []
    if distractors == "none":
        title = "ILIAS core, no distractors"
    else:
        listed = _mini_list(root) if mini else _full_list(root)
        shards, total = _find(root, listed, progress)
        found = sum(len(names) for _, names in shards)
        if distractors == "all" and found < total:
            how = _HOW_SHARDS.format(name=title.lower())
            raise BenchmarkError(f"{root / SHARDS}: {total - found:,} of {total:,} distractors are missing. {how}")
        if distractors == "present":
            title = f"{title}, {found:,} of {total:,} distractors"
    core = (f"{CORE}/", np.array([name.encode() for name in sorted(positives)], dtype=np.bytes_))
    return Benchmark(
        name=title + (", boxes as queries" if query_box else ""),
        root=root,
        image_ids=PackedIds([core, *shards]),
        queries=queries,
        depth=DEPTH,
        average_precision="at depth",
        published_id=official_id,
        own_id=from_official_id,
        attributes={f"{CORE}/{name}": values for name, values in positives.items()},
        notes=notes,
    )


def official_id(image_id: str) -> str:
    """The authors' id of an image: `instance/pos/P000_00.jpg` or `shard.tar/key`, as in their result files."""
    folder, _, rest = image_id.partition("/")
    if folder == CORE:
        return rest
    if folder == SHARDS and rest.endswith(".jpg"):
        return rest.removesuffix(".jpg")
    raise BenchmarkError(f"{image_id}: not the id of an image of ILIAS, which begins with {CORE}/ or {SHARDS}/")


def from_official_id(official: str) -> str:
    """The inverse of `official_id`."""
    return f"{SHARDS}/{official}.jpg" if ".tar/" in official else f"{CORE}/{official}"


def _lists(root: Path) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Ids of queries; attributes of positives by id."""
    folder = root / "image_ids"
    query_ids = [line.split(",")[0].strip() for line in read_lines(folder / "image_query_ids.txt", _HOW_LISTS)]
    rows = [
        (number, [part.strip() for part in line.split(",")])
        for number, line in enumerate(read_lines(folder / "positive_ids.txt", _HOW_LISTS), start=1)
    ]
    refuse_duplicates(query_ids, str(folder / "image_query_ids.txt"))
    refuse_duplicates((row[0] for _, row in rows), str(folder / "positive_ids.txt"))
    positives = {}
    for number, row in rows:
        try:
            name, scale, clutter = row
            positives[name] = {"scale": float(scale), "clutter": float(clutter)}
        except ValueError as error:
            raise BenchmarkError(
                f"{folder / 'positive_ids.txt'}: line {number} is not id,scale,clutter: {','.join(row)}. {_HOW_LISTS}"
            ) from error
    strange = [
        name
        for name, kind in [(q, "query") for q in query_ids] + [(p, "pos") for p in positives]
        if name.split("/")[1:-1] != [kind]
    ]
    if strange:
        raise BenchmarkError(f"{folder}: not instance/query/NAME or instance/pos/NAME: {few(strange)}. {_HOW_LISTS}")
    if not query_ids or not positives:
        raise BenchmarkError(f"{folder}: a list of queries or positives is empty. {_HOW_LISTS}")
    return sorted(query_ids), dict(sorted(positives.items()))


def _boxes(image: Path, checker: BoxChecker) -> tuple[Box, ...]:
    file = image.with_name(image.stem + "_bbox.txt")
    size = upright_size(image)
    boxes = []
    for number, line in enumerate(read_lines(file, _HOW_CORE), start=1):
        try:
            x, y, width, height = (float(part) for part in line.split())
        except ValueError as error:
            raise BenchmarkError(f"{file}: line {number} is not x y width height: {line}. {_HOW_CORE}") from error
        boxes.append(checker.cut(xyxy((x, y, width, height)), size, f"{file}, line {number}"))
    if not boxes:
        raise BenchmarkError(f"{file}: holds no box. {_HOW_CORE}")
    return tuple(boxes)


def _mini_list(root: Path) -> Names:
    path = root / "image_ids" / "mini_ilias_yfcc100m_ids.txt"
    keys = np.sort(_pack(read_lines(path, _HOW_LISTS)))
    twice = keys[1:][keys[1:] == keys[:-1]]
    if len(twice):
        raise BenchmarkError(f"{path}: listed twice: {few([key.decode() for key in twice[:4].tolist()])}")
    return keys


def _full_list(root: Path) -> dict[str, Names]:
    """Sorted keys by shard."""
    path = root / "image_ids" / "distractor_ids.txt"
    packed: dict[str, list[Names]] = defaultdict(list)
    lines = read_lines(path, _HOW_LISTS)
    while block := list(islice(lines, 100_000)):
        keys: dict[str, list[bytes]] = defaultdict(list)
        for line in block:
            shard, _, key = line.partition("/")
            if not key or not shard.endswith(".tar"):
                raise BenchmarkError(f"{path}: not shard.tar/key: {line}. {_HOW_LISTS}")
            keys[shard].append(key.encode())
        for shard, found in keys.items():
            packed[shard].append(np.array(found, dtype=np.bytes_))
    listed = {}
    for shard in sorted(packed):
        sorted_keys = np.sort(np.concatenate(packed.pop(shard)))
        twice = sorted_keys[1:][sorted_keys[1:] == sorted_keys[:-1]]
        if len(twice):
            raise BenchmarkError(f"{path}: listed twice: {few([f'{shard}/{key.decode()}' for key in twice[:4]])}")
        listed[shard] = sorted_keys
    return listed


def _pack(lines: Iterable[str]) -> Names:
    """Lines as one array of bytes, a block at a time, since a list of millions of strings costs ten times as much."""
    lines, blocks = iter(lines), []
    while block := [line.encode() for line in islice(lines, 100_000)]:
        blocks.append(np.array(block, dtype=np.bytes_))
    return np.concatenate(blocks) if blocks else np.empty(0, dtype="S1")


def _find(
    root: Path, listed: Names | dict[str, Names], progress: Callable[[str], None]
) -> tuple[list[tuple[str, Names]], int]:
    """Members of the shards that are listed, as groups of ids, and how many are listed."""
    folder = root / SHARDS
    present = sorted(name for name in os.listdir(folder) if name.endswith(".tar")) if folder.is_dir() else []
    by_shard = listed if isinstance(listed, dict) else None
    total = sum(map(len, by_shard.values())) if by_shard is not None else len(listed)
    taken = np.zeros(0 if by_shard is not None else total, dtype=bool)
    groups = []
    for number, shard in enumerate(present, start=1):
        wanted = listed if not isinstance(listed, dict) else listed.get(shard)
        if wanted is None or not len(wanted):
            continue
        progress(f"shard {number:,} of {len(present):,}: {shard}")
        try:
            names = tar_index(str(folder / shard)).names
        except ImageUnreadable as error:
            raise BenchmarkError(f"{error}; {_HOW_SHARDS.format(name='ilias')}") from error
        keys = np.array([name[:-4] for name in names.tolist() if name.endswith(b".jpg")], dtype=np.bytes_)
        rows = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
        hit = wanted[rows] == keys
        if by_shard is None:
            hit &= ~taken[rows]  # a key that an earlier shard had
            taken[rows[hit]] = True
        chosen = np.array([key + b".jpg" for key in keys[hit].tolist()], dtype=np.bytes_)
        if len(chosen):
            groups.append((f"{SHARDS}/{shard}/", chosen))
    return groups, total
