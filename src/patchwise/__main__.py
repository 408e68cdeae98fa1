"""`python -m patchwise` is the command line."""

from patchwise.cli import main

main()
