"""A command on other machines: one after the other, each with a client of its core.

What is said for programs is one document per line; of several machines each says whose it is:
`{"machine": "gpu1", "answer": ...}`, or `"error"` instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from modeldeck.core.config.paths import locate
from modeldeck.core.errors import CoreUnreachable, DeckError
from modeldeck.tui.cli.attach import attached, existing
from modeldeck.tui.cli.output import Output
from modeldeck.tui.cli.runner import AlreadyReported
from modeldeck.tui.remote.machines import Machine
from modeldeck.tui.remote.remote_core import FixedCore, SshCore, core_of, reach_all

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client

Work = Callable[["Client", Output], Coroutine[Any, Any, Any]]


async def on_each(
    machines: Sequence[Machine],
    work: Work,
    out: Output,
    *,
    start: bool,
    none: Mapping[str, Any] | None = None,
) -> None:
    """Do the work on every machine; what fails on one does not stop the others.

    Raises the only machine's error as it is, else the first one after all had their turn.
    """
    cores = {m.name: core_of(m, start=start) for m in machines if m.remote is not None}
    try:
        failed = await reach_all(list(cores.values()))
        if len(machines) == 1:
            (machine,) = machines
            try:
                if failed:
                    raise failed[machine.name]
                async with _client(machine, cores, out, start=start) as client:
                    await work(client, out)
            except CoreUnreachable:
                if none is not None:
                    out.record(none)
                raise
            return
        first: DeckError | None = None
        for machine in machines:
            with out.about(machine.name):
                try:
                    if machine.name in failed:
                        raise failed[machine.name]
                    async with _client(machine, cores, out, start=start) as client:
                        await work(client, out)
                except DeckError as error:
                    first = first or error
                    out.failed(error)
        if first is not None:
            raise AlreadyReported(first)
    finally:
        await asyncio.gather(*(_part(core, out) for core in cores.values()))


@asynccontextmanager
async def _client(
    machine: Machine, cores: dict[str, SshCore | FixedCore], out: Output, *, start: bool
) -> AsyncIterator[Client]:
    core = cores.get(machine.name)
    if core is not None:
        async with core.attach() as client:
            yield client
    else:
        async with attached(locate(), out.note) if start else existing(locate()) as client:
            yield client


async def _part(core: SshCore | FixedCore, out: Output) -> None:
    if words := await core.leave():
        out.note(words)
