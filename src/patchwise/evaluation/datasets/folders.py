"""A folder per instance: the quickest way to measure on one's own photographs.

    ROOT/<instance>/*.jpg            each image is asked for among all others, or
    ROOT/<instance>/query/*.jpg      only these are asked, and are not searched
    ROOT/*.jpg                       images that show none of the instances

No boxes: rankings are measured, localisation is not.
"""

from __future__ import annotations

import os
from pathlib import Path

from patchwise.errors import BenchmarkError
from patchwise.evaluation.datasets.base import Benchmark, Query
from patchwise.evaluation.datasets.checks import few, image_files, own_folder

__all__ = ["read_folders"]

QUERY_FOLDER = "query"
_HOW = "A folder per instance with at least two images in it is expected (docs/benchmark-data.md)."


def read_folders(root: Path) -> Benchmark:
    """Read a folder per instance.

    An instance with a single image that is not a query is searched but not asked for.

    Raises:
        BenchmarkError: no folder with two images, or queries without anything to find.
    """
    own_folder(root, "a folder per instance", _HOW)
    instances = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    gallery = image_files(root)
    queries: list[Query] = []
    alone, unread = [], []
    for instance in instances:
        shown = [f"{instance}/{name}" for name in image_files(root / instance)]
        gallery += shown
        asked_folder = root / instance / QUERY_FOLDER
        if asked_folder.is_dir():
            asked = [f"{instance}/{QUERY_FOLDER}/{name}" for name in image_files(asked_folder)]
            if not asked or not shown:
                lacking = asked_folder if not asked else root / instance
                raise BenchmarkError(f"{lacking}: holds no image; {instance} needs queries and images to find. {_HOW}")
        else:
            asked = shown if len(shown) > 1 else []
            alone += [instance] if len(shown) == 1 else []
            unread += [instance] if not shown else []
        queries += [
            Query(
                name,
                root / name,
                None,
                {other: () for other in shown if other != name},
                frozenset({name}) if name in shown else frozenset(),
                instance,
            )
            for name in asked
        ]
    if not queries:
        raise BenchmarkError(f"{root}: no folder with two images. {_HOW}")
    notes: tuple[str, ...] = (f"one image only, searched but not asked for: {few(alone)}",) if alone else ()
    if unread:
        notes += (f"folders without images directly in them: {few(unread)}",)
    return Benchmark(f"folders {root.resolve().name}", root, sorted(gallery), queries, notes=notes)
