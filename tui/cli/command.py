"""Shared by all commands: help with an example, `--json`, and a client of the selected machines.

What a command needs is imported when it runs, so that `modeldeck --help` costs click and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from modeldeck.tui.cli.runner import run

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.config.config import RemoteSettings
    from modeldeck.tui.cli.output import Output
    from modeldeck.tui.remote.machines import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSelection:
    """Which machines the words before the command name."""

    on: tuple[str, ...] = ()
    """As `modeldeck.tui.remote.machines.chosen` takes them; empty for this machine."""
    remote: RemoteSettings | None = None
    """A machine at a URL, instead."""

    def machines(self) -> tuple[Machine, ...]:
        """The machines. Raises InvalidRequest for what can be none."""
        from modeldeck.tui.remote import machines

        if self.remote is not None:
            machines.check(self.remote, "--url")
            return (machines.Machine(name=self.remote.url or "", remote=self.remote),)
        if not self.on:
            return (machines.HERE,)
        from modeldeck.core.config import config_file
        from modeldeck.core.config.paths import locate

        settings, _ = config_file.load(locate().config_file)
        return machines.chosen(self.on, settings.hosts)


def where() -> MachineSelection:
    """The machines that the running command was given."""
    context = click.get_current_context(silent=True)
    found = context.find_root().obj if context is not None else None
    return found if isinstance(found, MachineSelection) else MachineSelection()


def only_here(what: str) -> None:
    """Raise UsageError for a command that other machines cannot run."""
    if where() != MachineSelection():
        raise click.UsageError(f"{what} is about this machine: use it there, over ssh.")


def with_client(
    work: Callable[[Client, Output], Coroutine[Any, Any, Any]],
    *,
    json: bool,
    start: bool = True,
    none: Mapping[str, Any] | None = None,
) -> None:
    """Do work with a client of this user's core, started when there is none and `start`.

    Where other machines are named, the work is done with the cores there. `none` is what is
    answered for programs where no core runs, beside the error.
    """
    from modeldeck.tui.cli.on_machines import on_each
    from modeldeck.tui.cli.output import Output

    out, place = Output(json=json), where()

    async def main() -> None:
        await on_each(place.machines(), work, out, start=start, none=none)

    run(main(), json=json)


class ExampleCommand(click.Command):
    """A command with an example in its help, and the option that all of them have."""

    def __init__(self, name: str, *, example: str, **settings: Any) -> None:
        lines = "".join(f"\n  {line}" for line in example.splitlines())
        settings["epilog"] = f"\b\nExample:{lines}"
        super().__init__(name, **settings)
        every = "Answer in JSON, one document per line."
        self.params.append(click.Option(["--json"], is_flag=True, help=every))
