"""`modeldeck copy`: a model from one machine to others, over the lines that `ssh` keeps here.

Those lines are not compressed: weights do not shrink, and one core compresses 30 MB/s where `ssh`
carries 200.

The core that takes it downloads it, from a socket on its own machine that `ssh -R` leads back here
and `ssh -L` on to the core that has it. So nothing is stored here, and resumption, verification and
publishing are those of every download.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from modeldeck.core.concurrency import each_to_its_end
from modeldeck.core.config import config_file
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import InvalidRequest
from modeldeck.tui.cli.actions import models
from modeldeck.tui.cli.output import Output
from modeldeck.tui.remote.copy import copied, kept
from modeldeck.tui.remote.core_host import OwnCore
from modeldeck.tui.remote.machines import chosen
from modeldeck.tui.remote.remote_core import core_of, reach_all

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import Manifest
    from modeldeck.tui.remote.core_host import ReachableCore
    from modeldeck.tui.remote.machines import Machine


async def copy(ref: str, names: Sequence[str], *, json: bool) -> None:
    """Copy a model from the first machine to each of the others, one after the other."""
    out = Output(json=json)
    settings, _ = config_file.load(locate().config_file)
    machines = chosen(names, settings.hosts)
    if len(machines) < 2:
        raise InvalidRequest("That is one machine, and a copy needs two.")
    cores = {m.name: core_of(m, compressed=False) for m in machines if m.remote is not None}
    own = OwnCore(locate())
    try:
        failed = await reach_all(list(cores.values()))
        for error in failed.values():
            raise error
        first, *others = machines
        async with AsyncExitStack() as open_:
            source: ReachableCore = cores.get(first.name) or own
            manifest = await (await open_.enter_async_context(source.attach())).manifest(ref)
            giver = await open_.enter_async_context(source.bulk())
            for machine in others:
                target: ReachableCore = cores.get(machine.name) or own
                client = await open_.enter_async_context(target.attach())
                async with target.bulk() as taker, taker.lent(giver.here) as peer:
                    await _take(client, out, manifest, peer, first, machine)
    finally:
        hosts = [*cores.values(), *([own] if own.started else [])]
        for words in await each_to_its_end(host.leave() for host in hosts):
            if words:
                out.note(words)


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
        async with kept(client, job):
            job = await models.follow(client, out, model, job, parting)
        out.done(copied(job, first.name, machine.name))
    out.record({"machine": machine.name, "model": model, "download": job})
