"""The entry point of `modeldeck`: `status --line` by a short path, all else by click."""

from __future__ import annotations

import gc
import sys

COLLECTED_AFTER = 100_000
"""Objects that a front end makes between two collections of garbage. Python's 700 cost the start a
twentieth: everything that is imported stays."""


def collect_seldom() -> None:
    """Look for garbage seldom."""
    gc.set_threshold(COLLECTED_AFTER, 20, 10)


def main() -> int:
    """Run the command line and return the exit code."""
    collect_seldom()
    if "--line" in sys.argv:
        from modeldeck.tui.cli.status_line import asked_for, show

        if (form := asked_for(sys.argv[1:])) is not None:
            return show(*form)
    from modeldeck.tui.cli import main as cli

    cli.main(prog_name="modeldeck")
    return 0


if __name__ == "__main__":
    sys.exit(main())
