"""`modeldeck copy`: a model from one machine to others, over the lines that `ssh` keeps here.

The core that takes it downloads it, from a socket on its own machine that `ssh -R` leads back here
and `ssh -L` on to the core that has it. So nothing is stored here, and resumption, verification and
publishing are those of every download.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from core import config
from core.client import Client
from core.errors import Conflict, DeckError, InvalidRequest
from core.paths import locate
from core.schema import Download, Manifest
from tui import format as fmt
from tui import verbs
from tui.hosts import OwnCore
from tui.machines import Machine, chosen
from tui.output import Output
from tui.remote import FixedCore, SshCore, core_of, reach_all

PAUSE_S = 5.0
"""For a copy to be held when it is interrupted."""


async def copy(ref: str, names: Sequence[str], *, json: bool) -> None:
    """Copy a model from the first machine to each of the others, one after the other."""
    out = Output(json=json)
    settings, _ = config.load(locate().config_file)
    machines = chosen(names, settings.hosts)
    if len(machines) < 2:
        raise InvalidRequest("That is one machine, and a copy needs two.")
    cores = {m.name: core_of(m) for m in machines if m.remote is not None}
    own = OwnCore(locate())
    try:
        failed = await reach_all(list(cores.values()))
        for error in failed.values():
            raise error
        first, *others = machines
        async with AsyncExitStack() as open_:
            source = await open_.enter_async_context(_attached(first, cores, own))
            manifest = await source.manifest(ref)
            for machine in others:
                client = await open_.enter_async_context(_attached(machine, cores, own))
                async with _lent(_socket(first, cores), machine, cores) as peer:
                    await _take(client, out, manifest, peer, first, machine)
    finally:
        hosts = [*cores.values(), *([own] if own.started else [])]
        for words in await asyncio.gather(*(host.leave() for host in hosts)):
            if words:
                out.note(words)


@asynccontextmanager
async def _attached(
    machine: Machine, cores: dict[str, SshCore | FixedCore], own: OwnCore
) -> AsyncIterator[Client]:
    async with (cores.get(machine.name) or own).attach() as client:
        yield client


def _socket(machine: Machine, cores: dict[str, SshCore | FixedCore]) -> str:
    """Where the core of a machine answers on this one. Raises Conflict where that is a URL."""
    core = cores.get(machine.name)
    if isinstance(core, SshCore):
        return str(core.line.socket)
    if machine.remote is None:
        return str(locate().socket)
    if machine.remote.socket is not None:
        return machine.remote.socket
    raise Conflict(f"{machine.name} is not reached by ssh.", "A copy goes over ssh alone.")


@asynccontextmanager
async def _lent(
    socket: str, machine: Machine, cores: dict[str, SshCore | FixedCore]
) -> AsyncIterator[str]:
    """A path where a machine finds a socket of this one, for as long as the block runs."""
    core = cores.get(machine.name)
    if not isinstance(core, SshCore):
        _socket(machine, cores)
        yield socket
        return
    there = await core.line.lend(socket)
    try:
        yield there
    finally:
        if core.line.is_up:
            await core.line.take_back(socket, there)


async def _take(
    client: Client, out: Output, manifest: Manifest, peer: str, first: Machine, machine: Machine
) -> None:
    """Have one machine take the model, and look on."""
    model, job = await client.take(manifest, peer)
    if job is None:
        out.done(f"{model.unique} is on {machine.name} already")
    else:
        parting = (
            f"What came to {machine.name} is kept; the same command goes on with it,\n"
            f"`modeldeck @{machine.name} pull {model.unique}` from the Hub."
        )
        try:
            job = await verbs.follow(client, out, model, job, parting)
        except BaseException:
            # Nothing can come over a line that is about to end, so it should not be tried.
            with suppress(DeckError, TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await client.pause_download(job.id)
            raise
        out.done(_copied(job, first, machine))
    out.record({"machine": machine.name, "model": model, "download": job})


def _copied(job: Download, first: Machine, machine: Machine) -> str:
    rate = job.total_bytes / job.seconds if job.seconds else None
    return (
        f"{job.unique} copied from {first.name} to {machine.name}: {fmt.size(job.total_bytes)} in"
        f" {fmt.duration(job.seconds)}, {fmt.rate(rate)}, {fmt.number(len(job.files), 'file')}"
        " verified"
    )
