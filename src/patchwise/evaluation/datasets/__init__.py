"""Benchmarks: one file per layout on disk, each checked as it is read."""

from patchwise.evaluation.datasets.base import Benchmark, Query
from patchwise.evaluation.datasets.registry import BENCHMARKS, BenchmarkEntry, read_benchmark

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkEntry", "Query", "read_benchmark"]
