"""Benchmarks by name, with options behind colons: `ilias`, `mini-ilias:present`, `instre:whole-query:rectangle`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from patchwise.errors import UsageError
from patchwise.evaluation.datasets.base import Benchmark

__all__ = ["BENCHMARKS", "BenchmarkEntry", "read_benchmark"]

_READERS = "patchwise.evaluation.datasets"


@dataclass(frozen=True)
class BenchmarkEntry:
    """One benchmark: what it is, and where its reader is.

    `options` are words that may follow the name, each with the reader's arguments that it stands for; `numbers` are
    the arguments behind `word=NUMBER`. `reader` is `module:function`, imported only when it is asked for, since every
    command line reads the registry.
    """

    summary: str
    reader: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    numbers: Mapping[str, str] = field(default_factory=dict)
    needs_root: bool = True
    tells_progress: bool = False


_ILIAS_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "present": {"distractors": "present"},
    "core": {"distractors": "none"},
    "query-box": {"query_box": True},
}
_INSTRE_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "whole-query": {"whole_query": True},
    "rectangle": {"rule": "rectangle"},
    "trapezoid": {"rule": "trapezoid"},
}

BENCHMARKS: Mapping[str, BenchmarkEntry] = MappingProxyType(
    {
        "ilias": BenchmarkEntry(
            "ILIAS: 1,232 queries among 100 million distractors",
            "ilias:read_ilias",
            options=_ILIAS_OPTIONS,
            tells_progress=True,
        ),
        "mini-ilias": BenchmarkEntry(
            "the same among 5 million distractors",
            "ilias:read_ilias",
            fixed={"mini": True},
            options=_ILIAS_OPTIONS,
            tells_progress=True,
        ),
        "instre": BenchmarkEntry(
            "INSTRE: 1,250 queries among 27,293 images", "instre:read_instre", options=_INSTRE_OPTIONS
        ),
        "coco": BenchmarkEntry(
            "COCO-style JSON with an instance label per annotation",
            "coco:read_coco",
            options={"instance_id": {"label": "instance_id"}, "category": {"label": "category"}},
        ),
        "folders": BenchmarkEntry("a folder of images per instance, without boxes", "folders:read_folders"),
        "logos": BenchmarkEntry(
            "boxes.csv with logos, such as FlickrLogos-27",
            "logos:read_logos",
            options={"no-distractors": {"distractors": False}},
        ),
        "synthetic": BenchmarkEntry(
            "composed scenes with exact boxes, made on the spot",
            "synthetic:read_synthetic",
            numbers={"scenes": "scenes_per_object", "empty": "empty", "seed": "seed"},
            needs_root=False,
            tells_progress=True,
        ),
    }
)


def read_benchmark(
    name: str, root: Path | None = None, *, progress: Callable[[str], None] = lambda _: None
) -> Benchmark:
    """Read and check a benchmark by name.

    Args:
        name: one of `BENCHMARKS`, with its options behind colons (`mini-ilias:present`, `synthetic:seed=1`).
        root: the folder it lies in; only `synthetic` has one of its own.
        progress: told about slow steps.

    Raises:
        UsageError: an unknown name or option, or no root.
        BenchmarkError: what is missing or inconsistent, and how to get it.
        MissingExtra: an optional package is needed to read it.
    """
    kind, *flags = name.strip().split(":")
    entry = BENCHMARKS.get(kind)
    if entry is None:
        raise UsageError(f"benchmark {name!r}: unknown; known are {', '.join(BENCHMARKS)}")
    options = dict(entry.fixed)
    for flag in flags:
        key, equals, value = flag.partition("=")
        if flag in entry.options:
            options |= entry.options[flag]
        elif equals and key in entry.numbers and value.isdecimal():
            options[entry.numbers[key]] = int(value)
        else:
            known = ", ".join([*entry.options, *(f"{key}=NUMBER" for key in entry.numbers)]) or "none"
            raise UsageError(f"benchmark {name!r}: unknown option {flag!r}; {kind} has {known}")
    if root is None and entry.needs_root:
        raise UsageError(f"benchmark {name!r}: name the folder that it lies in (--root DIR)")
    if entry.tells_progress:
        options["progress"] = progress
    module, function = entry.reader.split(":")
    benchmark: Benchmark = getattr(import_module(f"{_READERS}.{module}"), function)(root, **options)
    return benchmark
