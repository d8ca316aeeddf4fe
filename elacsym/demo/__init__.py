"""A tour on real text that every machine has: the docstrings of the Python standard library."""
