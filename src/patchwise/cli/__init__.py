"""The command line: one file per command, each a thin reading of one library call."""

from patchwise.cli.app import main

__all__ = ["main"]
