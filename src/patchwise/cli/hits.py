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

__all__ = ["AnswerPrinter", "copy_hits", "matching", "verdict_of"]


@dataclass
class AnswerPrinter:
    """Prints one answer after another as `shape`: "table", "json", "csv" or "paths", these ended by `end`.

    With `verdict`, hits that may well be chance are left out, but for JSON, which marks them, and whose answers get a
    `verdict`: "match", "no match", or "unknown" in a gallery too small to tell.
    """

    shape: str
    end: bytes = b"\n"
    verdict: bool = False
    _header: bool = True

    def print(self, answer: QueryResult) -> None:
        from patchwise.report import CSV_HEADER, by_chance, csv_rows, result_to_json, split_by_verdict, table_lines

        hits: Sequence[Hit] = answer.hits
        folded: Sequence[Hit] = ()
        if self.verdict:
            hits, folded = split_by_verdict(hits)
        if self.shape == "json":
            plain = result_to_json(answer.query, answer.box, answer.hits, answer.error, answer.parts)
            if self.verdict and answer.error is None:
                plain["verdict"] = verdict_of(answer.hits)
            print_json(plain)
        elif self.shape == "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            if self._header:
                writer.writerow(CSV_HEADER)
            self._header = False
            writer.writerows(csv_rows(answer.query, hits))
        elif self.shape == "paths":
            for hit in hits:
                sys.stdout.buffer.write(os.fsencode(hit.path) + self.end)
            sys.stdout.flush()
        elif hits or folded:
            for line in table_lines(hits) if hits else ():
                typer.echo(line)
            if folded:
                best = folded[0]
                typer.echo(
                    f"{len(folded)} more that may be chance, the best at {best.score:.3f}: "
                    f"{by_chance(best.expected_false_matches)} as good are expected by chance"
                )


def matching(hits: Sequence[Hit]) -> list[Hit]:
    """Hits that match, or of which it is not known."""
    from patchwise.report import split_by_verdict

    return split_by_verdict(hits)[0]


def verdict_of(hits: Sequence[Hit]) -> str:
    """What all hits of a query say together."""
    if any(hit.matches for hit in hits):
        return "match"
    return "unknown" if any(hit.matches is None for hit in hits) else "no match"


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
