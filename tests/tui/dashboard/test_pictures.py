"""The pictures of every screen are those that were judged by eye and kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_screen_looks_as_it_was_judged() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.screenshots", "--check"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, (
        f"{done.stdout}\n{done.stderr}\n"
        "Where the change is meant, `python -m tests.screenshots` takes them anew: look at them."
    )
