"""How long `modeldeck status --line` takes, beside a Python that does nothing.

    python -m tests.benchmarks.status_line [rounds]

Both run in turn, against a core that is started for it. Absolute figures belong to the machine; the
ratio is what to look at.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "modeldeck status --line": [PROGRAM, "status", "--line"],
    "modeldeck --help": [PROGRAM, "--help"],
}


def main() -> None:
    """Print the medians and their ratios."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 21
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        environ = {**os.environ, "MODELDECK_HOME": folder, "MODELDECK_API_PORT": "0"}
        serve = [PROGRAM, "serve", "--ready-json"]
        with subprocess.Popen(serve, env=environ, stdout=subprocess.PIPE) as core:
            assert core.stdout is not None
            core.stdout.readline()
            for _ in range(rounds + 1):
                for name, command in COMMANDS.items():
                    began = time.perf_counter()
                    subprocess.run(command, env=environ, capture_output=True, check=True)
                    taken[name].append(time.perf_counter() - began)
            core.terminate()
    medians = {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}
    bare = medians["python -c pass"]
    for name, seconds in medians.items():
        print(f"{name:<26} {seconds * 1000:4.0f} ms   {seconds / bare:.1f}")


if __name__ == "__main__":
    main()
