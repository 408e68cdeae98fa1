"""The application: its commands, and how errors become one line and an exit code."""

from __future__ import annotations

import io
import os
import sys
import warnings

import typer

from patchwise import __version__
from patchwise.cli import (
    adapt,
    compact,
    compare,
    compress,
    demo,
    encoders,
    evaluate,
    export_onnx,
    index,
    info,
    remove,
    search,
    serve,
    verify,
)
from patchwise.cli.options import printable
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
    ("compress", compress.compress),
    ("encoders", encoders.encoders),
    ("adapt", adapt.adapt),
    ("export-onnx", export_onnx.export_onnx),
    ("eval", evaluate.evaluate),
    ("compare", compare.compare),
    ("serve", serve.serve),
    ("demo", demo.demo),
):
    app.command(_name)(_command)


def main() -> None:
    """Run the command line; every error that is the user's to mend becomes one line on stderr."""
    # Pillow remarks on odd metadata of pictures that it reads all the same, and on sizes that are refused here anyway.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names leave as the bytes they are, text or not
    try:
        code = app(standalone_mode=False) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit as stop:
        # Typer ends like this when the reader of a pipe has gone, as with `| head`.
        code = 0 if isinstance(stop.__context__, BrokenPipeError) else stop.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python must not complain again at exit
        code = 0
    except KeyboardInterrupt:
        code = _complain("interrupted", EXIT_INTERRUPTED)
    except Exception as error:
        code = _explain(error)
    sys.exit(code)


def _explain(error: Exception) -> int:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):  # modules in C answer Ctrl-C while they load by an ImportError
            return _complain("interrupted", EXIT_INTERRUPTED)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, PatchwiseError):
        return _complain(str(error), EXIT_USAGE if isinstance(error, UsageError) else EXIT_ERROR)
    if isinstance(error, OSError):
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return _complain(f"{where}{error.strerror or error}", EXIT_ERROR)
    return _typer_error(error)


def _complain(message: str, code: int) -> int:
    print(f"patchwise: {printable(message)}", file=sys.stderr)  # noqa: T201
    return code


def _typer_error(error: Exception) -> int:
    """What is wrong with the words typed; the class of these errors has moved between versions of Typer."""
    context = getattr(error, "ctx", None)
    if not hasattr(error, "format_message"):
        raise error
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        return EXIT_USAGE
    help_command = f"{context.command_path} --help" if context is not None else "patchwise --help"
    return _complain(f"{error.format_message().rstrip('.')}; see: {help_command}", EXIT_USAGE)
