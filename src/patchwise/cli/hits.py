"""Answers as they are printed, and copies of what was found."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from patchwise.cli.options import print_json, say
from patchwise.errors import ImageError

if TYPE_CHECKING:
    from patchwise.gallery import QueryResult
    from patchwise.search import Hit

__all__ = ["AnswerPrinter", "copy_hits"]


@dataclass
class AnswerPrinter:
    """Prints one answer after another as `shape`: "table", "json", "csv" or "paths", these ended by `end`."""

    shape: str
    end: bytes = b"\n"
    _header: bool = True

    def print(self, answer: QueryResult) -> None:
        from patchwise.report import CSV_HEADER, csv_rows, result_to_json, table_lines

        if self.shape == "json":
            print_json(result_to_json(answer.query, answer.box, answer.hits, answer.error, answer.parts))
        elif self.shape == "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            if self._header:
                writer.writerow(CSV_HEADER)
            self._header = False
            writer.writerows(csv_rows(answer.query, answer.hits))
        elif self.shape == "paths":
            for hit in answer.hits:
                sys.stdout.buffer.write(os.fsencode(hit.path) + self.end)
            sys.stdout.flush()
        elif answer.hits:
            for line in table_lines(answer.hits):
                typer.echo(line)


def copy_hits(hits: Sequence[Hit], folder: Path) -> None:
    """Copy the images found into a folder, named by rank; nothing there is overwritten.

    Raises:
        ImageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for hit in hits:
            source = Path(hit.path)
            if not source.is_file():
                say(f"not copied: {source} is gone; run: patchwise index {source.parent}")
                continue
            target = folder / f"{hit.rank:04d}_{source.name}"
            number = 1
            while target.exists() and not _same_content(source, target):
                number += 1
                target = folder / f"{hit.rank:04d}_{number}_{source.name}"
            shutil.copy2(source, target)
    except OSError as error:
        raise ImageError(str(folder), f"the hits cannot be copied there ({error.strerror or error})") from error


def _same_content(a: Path, b: Path) -> bool:
    import filecmp

    return filecmp.cmp(a, b, shallow=False)
