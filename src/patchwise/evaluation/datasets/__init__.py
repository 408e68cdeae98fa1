"""Benchmarks: one file per layout on disk, each checked as it is read."""

from patchwise.evaluation.datasets.base import Benchmark, Query

__all__ = ["Benchmark", "Query"]
