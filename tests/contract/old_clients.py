"""Published clients that cannot share an environment with the current ones.

Each is installed once by pip, into a folder of its own in this environment, the first
time that a test asks for it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

GIVE_UP_S = 300.0
"""For pip to download and unpack them."""


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
