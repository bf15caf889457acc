"""The entry point of `modeldeck`: `status --line` by a short path, all else by click."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return the exit code."""
    if "--line" in sys.argv:
        from modeldeck.tui.cli.status_line import asked_for, show

        if (form := asked_for(sys.argv[1:])) is not None:
            return show(*form)
    from modeldeck.tui.cli import main as cli

    cli.main(prog_name="modeldeck")
    return 0


if __name__ == "__main__":
    sys.exit(main())
