"""Published clients that cannot share an environment with the current ones.

Each is installed once by pip, into a folder of its own in this environment, the first
time that a test asks for it; those that are large by `.ci/run` alone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

GIVE_UP_S = 300.0
"""For pip to download and unpack them."""
LARGE_GIVE_UP_S = 1300.0
"""For `.ci/run` to install all that are large, one after the other, beside the engine's build."""


def installed(name: str, *arguments: str) -> Path:
    """The folder `name` of this environment, filled by `pip install` with these arguments.

    The folder appears when it is complete: an installation that was interrupted begins anew.
    """
    folder = Path(sys.prefix) / name
    with FileLock(folder.with_suffix(".lock")):
        if folder.is_dir():
            return folder
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "-q", "-t", str(partial), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIVE_UP_S)
        assert done.returncode == 0, f"pip could not install {arguments}: {done.stderr}"
        partial.rename(folder)
    return folder


def own_environment(name: str, package: str) -> Path:
    """The environment of a large program, which `.ci/run` makes; skips the test where it is not."""
    folder = Path(sys.prefix) / "clients" / name
    state = folder / "state"
    deadline = time.monotonic() + LARGE_GIVE_UP_S
    while folder.is_dir() and not state.is_file() and time.monotonic() < deadline:
        time.sleep(0.5)  # it is being installed by another process
    told = state.read_text().strip() if state.is_file() else "it is not installed"
    if told != "installed":
        pytest.skip(
            f"{name.upper()} IS NOT TESTED: {told}. python3 -m venv {folder} && "
            f"{folder}/bin/pip install {package} && echo installed > {state}"
        )
    return folder
