"""patchwise compare: is one run better than another, query by query?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from patchwise.cli.options import AsJson, print_json


def compare(
    a: Annotated[Path, typer.Argument(help="A run that patchwise eval --save-run kept.", readable=False)],
    b: Annotated[Path, typer.Argument(help="Another run of the same benchmark.", readable=False)],
    delta: Annotated[
        float, typer.Option(min=0, max=1, help="IoU that a box must exceed for the discrete LocScore.")
    ] = 0.5,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two runs query by query: differences with 95 % intervals and p-values."""
    from patchwise.evaluation import compare_runs, comparison_table, load_run
    from patchwise.evaluation.tables import comparison_rows, method_name

    first, second = load_run(a), load_run(b)
    found = compare_runs(first, second, delta)
    if as_json:
        print_json({"a": method_name(first), "b": method_name(second), "metrics": comparison_rows(found)})
        return
    table = comparison_table(first, second, found, delta, 0.95)
    typer.echo(table.markdown() if markdown else table.text(), nl=False)
