"""Benchmarks: programs to be run by hand, which compare modeldeck with its peers side by side."""

import os

# An installed program has its bytecode; without this each start would compile our sources anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
