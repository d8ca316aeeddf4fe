"""`python -m elacsym.cli` is `elacsym`."""

from elacsym.cli.app import main

main()
