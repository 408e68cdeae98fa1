"""The command line: one file per command, each a thin reading of one library call."""

__all__ = ["main"]


def main() -> None:
    """Run the command line; interrupted while its modules still load, it ends as it does later."""
    try:
        from patchwise.cli.app import main as run
    except KeyboardInterrupt:
        import sys

        sys.stderr.write("patchwise: interrupted\n")
        sys.exit(130)
    run()
