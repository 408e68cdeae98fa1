"""Benchmarks by name: options reach their reader, and what is misspelt is answered with what there is."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from patchwise.errors import UsageError
from patchwise.evaluation.datasets import BENCHMARKS, read_benchmark


def test_the_names() -> None:
    assert set(BENCHMARKS) == {"ilias", "mini-ilias", "instre", "coco", "folders", "logos", "synthetic"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_option_is_an_argument_of_the_reader(name: str) -> None:
    entry = BENCHMARKS[name]
    module, function = entry.reader.split(":")
    reader = getattr(import_module(f"patchwise.evaluation.datasets.{module}"), function)
    parameters = inspect.signature(reader).parameters
    used = {*entry.fixed, *entry.numbers.values(), *(key for option in entry.options.values() for key in option)}
    assert used <= set(parameters)
    assert entry.tells_progress == ("progress" in parameters)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ilia", "benchmark 'ilia': unknown; known are ilias, mini-ilias, instre, coco"),
        ("instre:whole", "unknown option 'whole'; instre has whole-query, rectangle, trapezoid"),
        ("folders:x", "unknown option 'x'; folders has none"),
        ("synthetic:seed=one", "unknown option 'seed=one'; synthetic has scenes=NUMBER, empty=NUMBER, seed=NUMBER"),
        ("", "unknown; known are"),
    ],
)
def test_misspelt(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_benchmark(name, tmp_path)
    assert message in str(caught.value)


def test_a_folder_is_needed() -> None:
    with pytest.raises(UsageError, match="benchmark 'instre': name the folder that it lies in"):
        read_benchmark("instre")
