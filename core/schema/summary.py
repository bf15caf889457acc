"""State in a few numbers. Pure."""

from __future__ import annotations

from modeldeck.core.schema import InstanceState, Summary
from modeldeck.core.schema.protocol import ours
from modeldeck.core.schema.state import State

FLOWING = frozenset({"downloading", "verifying"})
LOADED = frozenset({InstanceState.READY, InstanceState.BUSY})


def summary(state: State) -> Summary:
    """What a status bar shows of a core."""
    jobs = [job for job in state.downloads.values() if job.state in FLOWING]
    rates = [job.rate_bytes_per_s for job in jobs if job.rate_bytes_per_s is not None]
    etas = [job.eta_s for job in jobs if job.eta_s is not None]
    instances = state.instances.values()
    spoken = ours()
    return Summary(
        name=state.host.name,
        version=spoken.version,
        protocol=spoken.protocol,
        oldest_protocol=spoken.oldest_protocol,
        downloads=len(jobs),
        queued=sum(job.state == "queued" for job in state.downloads.values()),
        received_bytes=sum(job.received_bytes for job in jobs),
        total_bytes=sum(job.total_bytes for job in jobs),
        rate_bytes_per_s=sum(rates) if rates else None,
        eta_s=max(etas, default=None),
        loading=sum(i.state is InstanceState.STARTING for i in instances),
        loaded=tuple(i.unique for i in instances if i.state in LOADED),
        memory_total_bytes=state.memory.total_bytes,
        memory_available_bytes=state.memory.available_bytes,
        disk_free_bytes=state.disk.free_bytes,
    )
