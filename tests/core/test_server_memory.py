"""Collections that leave alone what is never garbage."""

from __future__ import annotations

import gc
import subprocess
import sys

PROGRAM = """
import gc
from modeldeck.core.server import freeze_loaded_modules
import modeldeck.core.service.deck
before = len(gc.get_objects())
freeze_loaded_modules()
print(gc.get_freeze_count() >= before, len(gc.get_objects()) < before / 10)
"""


def test_what_is_alive_is_not_looked_at_again() -> None:
    # In a process of its own: what is put aside stays so.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True"]
    assert gc.isenabled()
