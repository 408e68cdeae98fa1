"""A benchmark searched with several region strategies, each in a gallery that is kept for the next time."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from patchwise.caches import cache_folder
from patchwise.encoders import canonical_id
from patchwise.errors import GalleryMismatch, GalleryNotFound, UsageError
from patchwise.evaluation.datasets.base import Benchmark
from patchwise.evaluation.ilias_results import IliasResultsWriter
from patchwise.evaluation.outcomes import Run
from patchwise.evaluation.runner import Ranked, evaluate, oracle_boxes
from patchwise.gallery import Gallery
from patchwise.indexing import IndexProgress
from patchwise.regions import FixedBoxes, RegionStrategy, parse_regions
from patchwise.rerank import parse_rerankers

__all__ = ["ORACLE", "default_cache", "slug", "sweep"]

ORACLE = "oracle"


def default_cache() -> Path:
    """Where galleries of benchmarks are kept."""
    return cache_folder() / "eval"


def sweep(
    benchmark: Benchmark,
    regions: Sequence[str],
    *,
    encoder: str = "builtin",
    whitening: str = "shipped",
    device: str = "auto",
    rerank: str = "",
    cache: Path | None = None,
    results: Path | None = None,
    starting: Callable[[str], None] = lambda _: None,
    indexing: Callable[[IndexProgress], None] | None = None,
    searching: Callable[[int, int], None] | None = None,
) -> Iterator[Run]:
    """Evaluate one strategy after another.

    Args:
        benchmark: what to ask.
        regions: strategies as `parse_regions` reads them, or `oracle`: the ground-truth boxes themselves.
        encoder: id of the encoder.
        whitening: "shipped" or "gallery".
        device: where the encoder runs.
        rerank: second looks, as for `Gallery.search`; each strategy is then evaluated without and with them.
        cache: folder of the galleries (default: `default_cache()`); an image is encoded once per strategy, and an
            interrupted sweep goes on where it stopped.
        results: folder for the rankings of each strategy in ILIAS's format, to be judged by other scripts.
        starting: told the name of each strategy.
        indexing, searching: as for `evaluate`.

    Raises:
        UsageError: no strategy, or one named twice.
        RegionsError, EncoderError: an argument names nothing known.
        GalleryMismatch: the cache holds a gallery of another encoder; the message says how to mend it.
    """
    strategies = [_strategy(text, benchmark) for text in regions]
    names = [strategy.name for strategy in strategies]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"regions {','.join(regions)!r}: name at least one strategy, and each once")
    encoder = canonical_id(encoder)
    parse_rerankers(rerank)  # a slip of the pen is told before hours have gone by
    for strategy in strategies:
        starting(strategy.name)
        with _gallery(benchmark, strategy, encoder, whitening, device, cache or default_cache()) as gallery:
            for look in ("", rerank) if rerank else ("",):
                ask = partial(evaluate, benchmark, gallery, rerank=look, indexing=indexing, searching=searching)
                if results is None:
                    yield ask()
                else:
                    name = slug("-".join(filter(None, (benchmark.name, strategy.name, look))))
                    with IliasResultsWriter(results / f"{name}.json") as file:
                        run = ask(ranked=_writing(benchmark, file))
                    yield run


def slug(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)[:80].strip("-")


def _writing(benchmark: Benchmark, file: IliasResultsWriter) -> Ranked:
    return lambda query, ids, scores: file.add(query.id, [benchmark.published_id(one) for one in ids], scores)


def _strategy(text: str, benchmark: Benchmark) -> RegionStrategy:
    return FixedBoxes(ORACLE, oracle_boxes(benchmark)) if text.strip() == ORACLE else parse_regions(text)


def _gallery(
    benchmark: Benchmark, strategy: RegionStrategy, encoder: str, whitening: str, device: str, cache: Path
) -> Gallery:
    """The gallery of a benchmark under a strategy: one folder per everything that decides its vectors."""
    truth = sorted(oracle_boxes(benchmark).items()) if strategy.name == ORACLE else ""
    decisive = repr((os.path.abspath(benchmark.root), benchmark.name, strategy.name, encoder, whitening, truth))
    readable = "-".join((benchmark.name, encoder, whitening, strategy.name))
    folder = cache / f"{slug(readable)}-{hashlib.sha256(decisive.encode()).hexdigest()[:8]}.pw"
    try:
        gallery = Gallery.open(folder, regions=strategy, device=device)
    except GalleryNotFound:
        return Gallery.create(folder, encoder=encoder, regions=strategy, whitening=whitening, device=device)
    try:
        if whitening == "shipped":
            _ = gallery.encoder  # its weights may be those of another version
    except GalleryMismatch as error:
        gallery.close()
        raise GalleryMismatch(f"{error}; or delete {folder}, which is only a cache") from error
    return gallery
