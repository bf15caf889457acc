"""The pictures of every screen are those that were judged by eye and kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

TRIES = 4
"""A picture may be taken before the planner has answered on a busy machine; a real change stays."""


@pytest.mark.timeout(600)
def test_every_screen_looks_as_it_was_judged() -> None:
    for _ in range(TRIES):
        done = subprocess.run(
            [sys.executable, "-m", "tests.screenshots", "--check"],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode == 0:
            return
    pytest.fail(
        f"{done.stdout}\n{done.stderr}\n"
        "Where the change is meant, `python -m tests.screenshots` takes them anew: look at them."
    )
