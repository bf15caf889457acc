"""Runs a command on the selected machines, one after the other, each with a client of its core.

With `--json` and several machines each line names its machine: `{"machine": "gpu1", "answer": ...}`
or `{"machine": "gpu1", "error": ...}`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from modeldeck.core.concurrency import each_to_its_end
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import CoreUnreachable, DeckError
from modeldeck.tui.cli.attach import attached, existing
from modeldeck.tui.cli.output import Output
from modeldeck.tui.cli.runner import AlreadyReported
from modeldeck.tui.remote.machines import HERE, Machine

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.tui.remote.remote_core import FixedCore, SshCore

Work = Callable[["Client", Output], Coroutine[Any, Any, Any]]


async def on_each(
    machines: Sequence[Machine],
    work: Work,
    out: Output,
    *,
    start: bool,
    none: Mapping[str, Any] | None = None,
) -> None:
    """Do the work on every machine; an error on one does not stop the others.

    With one machine its error is raised; with several each error is printed, and AlreadyReported
    is raised at the end for the first of them. `none` is the JSON answer where no core runs.
    """
    if list(machines) == [HERE]:  # without what reaches other machines: it takes longer to import
        with _answering(out, none):
            async with _own_core(out, start=start) as client:
                await work(client, out)
        return
    from modeldeck.tui.remote.remote_core import core_of, reach_all

    cores = {m.name: core_of(m, start=start) for m in machines if m.remote is not None}
    try:
        failed = await reach_all(list(cores.values()))
        if len(machines) == 1:
            (machine,) = machines
            with _answering(out, none):
                if failed:
                    raise failed[machine.name]
                async with _client(machine, cores, out, start=start) as client:
                    await work(client, out)
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
        await each_to_its_end(_leave(core, out) for core in cores.values())


@contextmanager
def _answering(out: Output, none: Mapping[str, Any] | None) -> Iterator[None]:
    """Print `none` for a program where no core can be reached; the error is raised as well."""
    try:
        yield
    except CoreUnreachable:
        if none is not None:
            out.record(none)
        raise


def _own_core(out: Output, *, start: bool) -> AbstractAsyncContextManager[Client]:
    return attached(locate(), out.note) if start else existing(locate())


@asynccontextmanager
async def _client(
    machine: Machine, cores: dict[str, SshCore | FixedCore], out: Output, *, start: bool
) -> AsyncIterator[Client]:
    core = cores.get(machine.name)
    if core is not None:
        async with core.attach() as client:
            yield client
    else:
        async with _own_core(out, start=start) as client:
            yield client


async def _leave(core: SshCore | FixedCore, out: Output) -> None:
    if words := await core.leave():
        out.note(words)
