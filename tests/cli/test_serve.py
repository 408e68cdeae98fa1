"""What has to be so before a server starts."""

from __future__ import annotations

import subprocess
import sys

# Stops where the command asks for the first module that needs numpy, and says what it has set until then.
_UNTIL_NUMPY = """
import builtins, os, sys
from patchwise.cli.app import app
before, imported = "numpy" in sys.modules, builtins.__import__

def noting(name, *rest):
    if name == "numpy":
        print(before, os.environ.get("OPENBLAS_NUM_THREADS"))
        sys.exit()
    return imported(name, *rest)

builtins.__import__ = noting
app(["serve", "--port", "0"])
"""


def test_numpy_is_imported_with_one_thread_for_its_products_unless_told_otherwise() -> None:
    """A server searches in many threads, and more of them in each product take the processors from each other."""
    for given, expected in ({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3"):
        found = subprocess.run(
            [sys.executable, "-c", _UNTIL_NUMPY], env=given, capture_output=True, text=True, timeout=60, check=False
        )
        assert found.stdout.split() == ["False", expected], found.stderr
