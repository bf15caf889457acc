"""Garbage collections that do not hold up the loop.

A full collection looks at every object there is, with the interpreter's lock held: some 40 ms once
the modules of the Hub are there, in whichever thread it happens. Modules are never garbage, so what
is alive after they were imported is put aside, and collections look at the rest alone.
"""

from __future__ import annotations

import gc


def put_aside() -> None:
    """Leave all that is alive now out of further collections. Call it after many imports."""
    gc.freeze()
