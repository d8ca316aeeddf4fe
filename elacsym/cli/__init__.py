"""The command line: `elacsym COMMAND`. Exit codes: 0 done, 1 a problem, 2 wrong usage."""

from elacsym.cli.app import main

__all__ = ["main"]
