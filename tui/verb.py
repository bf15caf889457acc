"""What every command of the command line is made of: its help, `--json`, and a client to work with.

What a command needs is imported when it runs, so that `modeldeck --help` costs click and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from tui.running import run

if TYPE_CHECKING:
    from core.client import Client
    from tui.output import Output


def with_client(
    work: Callable[[Client, Output], Coroutine[Any, Any, Any]], *, json: bool, start: bool = True
) -> None:
    """Do work with a client of this user's core, started when there is none and `start`."""
    from core.paths import locate
    from tui.attach import attached, existing
    from tui.output import Output

    out = Output(json=json)

    async def main() -> None:
        paths = locate()
        async with attached(paths, out.note) if start else existing(paths) as client:
            await work(client, out)

    run(main(), json=json)


class Verb(click.Command):
    """A command with an example in its help, and the option that all of them have."""

    def __init__(self, name: str, *, example: str, **settings: Any) -> None:
        lines = "".join(f"\n  {line}" for line in example.splitlines())
        settings["epilog"] = f"\b\nExample:{lines}"
        super().__init__(name, **settings)
        every = "Answer in JSON, one document per line."
        self.params.append(click.Option(["--json"], is_flag=True, help=every))
