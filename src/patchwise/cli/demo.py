"""patchwise demo: the point of the product on real photographs."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from patchwise.cli.options import AsJson, print_json, say


def demo(
    output: Annotated[Path, typer.Argument(help="Folder for scenes, galleries and report.")] = Path("demo-output"),
    as_json: AsJson = False,
) -> None:
    """Hide photographs in cluttered scenes, then find them: whole images, regions, and regions looked at again.

    Needs the extra packages of patchwise[demo], which bring the photographs; nothing is downloaded.
    """
    from patchwise.demo import run_demo
    from patchwise.demo.run import STRATEGIES

    result = run_demo(output, say)
    if as_json:
        print_json(
            {
                "objects": [asdict(found) for found in result.objects],
                "report": str(result.report),
                "picture": str(result.picture),
            }
        )
        return
    by_key = {(found.name, found.strategy): found for found in result.objects}
    labels = dict(zip(STRATEGIES, ("whole images", "regions", "refined"), strict=True))
    typer.echo(f"{'':14}{'found among the first hits':^42}{'IoU of the box':^30}")
    typer.echo(f"{'object':14}" + 2 * "".join(f"{label:>14}" for label in labels.values()))
    for name in dict.fromkeys(found.name for found in result.objects):
        own = [by_key[name, strategy] for strategy in STRATEGIES]
        counts = "".join(f"{f'{found.found} of {found.scenes}':>14}" for found in own)
        typer.echo(f"{name:14}{counts}" + "".join(f"{found.mean_iou:>14.2f}" for found in own))
    for strategy, label in labels.items():
        chosen = [found for found in result.objects if found.strategy == strategy]
        typer.echo(
            f"{label:14}found {sum(found.found for found in chosen)} of {sum(found.scenes for found in chosen)}, "
            f"mAP {_mean([found.average_precision for found in chosen]):.1f}, "
            f"LocScore {_mean([found.loc_score for found in chosen]):.1f}, "
            f"mean IoU {_mean([found.mean_iou for found in chosen]) / 100:.2f}"
        )
    typer.echo(f"look at {result.report} (and {result.picture})")
    say(f"to search them yourself: patchwise serve --open --gallery {shlex.quote(str(result.galleries['pyramid:3']))}")


def _mean(values: list[float]) -> float:
    return 100 * sum(values) / len(values)
