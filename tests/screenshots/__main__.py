"""Pictures of every screen, from the real dashboard on a real core and the demo hub.

    python -m tests.screenshots           writes them into tests/screenshots/
    python -m tests.screenshots --check   compares them with those; exit code 1 where one differs

README shows some of them, and the tests hold the dashboard against all.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent

TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "TZ": "UTC"}
_UNSET = ("NO_COLOR", "SSH_CONNECTION", "FORCE_COLOR", "HF_TOKEN")


async def main(check: bool) -> int:
    """Take the pictures; the exit code."""
    from tests.screenshots.frozen import stop_clocks
    from tests.screenshots.scenes import pictures

    stop_clocks()
    names, different = set(), []

    def kept(name: str) -> str:
        path = FOLDER / f"{name}.svg"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    async for name, svg in pictures(kept if check else lambda _: ""):
        names.add(name)
        path = FOLDER / f"{name}.svg"
        before = kept(name)
        if svg == before:
            continue
        different.append(name)
        if check:
            print(f"{name} differs:", *_difference(before, svg), sep="\n")
        else:
            path.write_text(svg, encoding="utf-8")
            print(path)
    for path in FOLDER.glob("*.svg"):
        if path.stem not in names:
            different.append(path.stem)
            print(f"{path.stem} is taken no more")
            if not check:
                path.unlink()
    return 1 if check and different else 0


def _difference(before: str, now: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm="", n=0)
    return [line[:400] for line in lines][:40]


if __name__ == "__main__":
    os.environ.update(TERMINAL)
    for variable in (*_UNSET, *(n for n in os.environ if n.startswith("MODELDECK_"))):
        os.environ.pop(variable, None)
    time.tzset()
    sys.exit(asyncio.run(main("--check" in sys.argv[1:])))
