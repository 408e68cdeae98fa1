"""The application: its commands, and how errors become one line and an exit code."""

from __future__ import annotations

import os
import sys

import typer

from patchwise import __version__
from patchwise.cli import compact, demo, index, info, remove, search, verify
from patchwise.errors import PatchwiseError, UsageError

__all__ = ["app", "main"]

EXIT_ERROR, EXIT_USAGE, EXIT_NOTHING_MATCHED, EXIT_INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    name="patchwise",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 an error it explains, 2 wrong usage, 3 nothing matched, 130 interrupted.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"patchwise {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Find every image in a collection that shows the same object, and show where."""


for _name, _command in (
    ("index", index.index),
    ("search", search.search),
    ("info", info.info),
    ("remove", remove.remove),
    ("verify", verify.verify),
    ("compact", compact.compact),
    ("demo", demo.demo),
):
    app.command(_name)(_command)


def main() -> None:
    """Run the command line; every error that is the user's to mend becomes one line on stderr."""
    try:
        app()
    except PatchwiseError as error:
        print(f"patchwise: {_one_line(error)}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_ERROR)
    except KeyboardInterrupt:
        print("patchwise: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe has gone, as with `| head`; Python must not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _one_line(error: Exception) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(error))
