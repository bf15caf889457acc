"""What `modeldeck` runs: the quick way to a quick answer, else the command line."""

from __future__ import annotations

import sys


def main() -> int:
    """Do what the words on the command line ask for: the exit code."""
    if "--line" in sys.argv:
        from modeldeck.tui.cli.status_line import asked_for, show

        if (form := asked_for(sys.argv[1:])) is not None:
            return show(*form)
    from modeldeck.tui.cli import main as cli

    cli.main(prog_name="modeldeck")
    return 0


if __name__ == "__main__":
    sys.exit(main())
