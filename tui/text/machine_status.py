"""The state of a machine as a page of text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records

if TYPE_CHECKING:
    from modeldeck.core.schema import Instance, Runtime
    from modeldeck.core.schema.state import State
    from modeldeck.tui.text.format import Glyphs


def page(state: State, uptime_s: float | None, signs: Glyphs) -> list[str]:
    """A small page about the machine."""
    host, disk = state.host, state.disk
    lines = [f"modeldeck {host.version}  {fmt.clean(host.name)}  up {fmt.duration(uptime_s)}"]
    lines += [_fact("answers on", where) for where in (*host.urls, host.socket or "") if where]
    lines += [_fact("hub", host.hub + (f"  {host.hub_error}" if host.hub_error else ""))]
    lines += [_fact("memory", _memory(state, signs))]
    lines += [
        _fact("gpu", f"{fmt.memory(gpu.used_bytes)} of {fmt.memory(gpu.total_bytes)}  {gpu.name}")
        for gpu in state.memory.gpus
    ]
    free, held = fmt.size(disk.free_bytes), fmt.size(disk.cache_bytes)
    partial = f", {fmt.size(disk.partial_bytes)} of it partial" if disk.partial_bytes else ""
    saved = disk.prefix_cache_bytes
    prefixes = f", saved conversations {fmt.size(saved)}" if saved else ""
    lines += [_fact("disk", f"{free} free, cache {held}{partial}{prefixes}")]
    lines += [_fact("engine", _runtime(runtime)) for runtime in state.runtimes]
    here = sum(model.downloaded for model in state.models.values())
    lines += [_fact("models", f"{here} downloaded of {len(state.models)}")]
    lines += [_fact("loaded", _loaded(instance)) for instance in records.live(state)]
    lines += [_fact("download", records.download_words(job)[0]) for job in records.running(state)]
    return lines + [_fact("notice", fmt.clean(notice)) for notice in host.notices]


def _fact(name: str, text: str) -> str:
    return f"  {name:<11}{text}"


def _loaded(instance: Instance) -> str:
    return f"{instance.unique}  {fmt.memory(instance.measured_bytes)}  {instance.state}"


def _runtime(runtime: Runtime) -> str:
    if runtime.available:
        return f"{runtime.name} {runtime.version or ''}".rstrip()
    return f"{runtime.name} {fmt.UNKNOWN}  {fmt.clean(runtime.why_not or 'not available')}"


def _used(state: State) -> int | None:
    memory = state.memory
    if memory.total_bytes is None or memory.available_bytes is None:
        return None
    return memory.total_bytes - memory.available_bytes


def _memory(state: State, signs: Glyphs) -> str:
    used, total = _used(state), state.memory.total_bytes
    shape = fmt.bar(used / total if used is not None and total else None, 20, signs)
    swap = f"  swap {fmt.memory(state.memory.swap_used_bytes)}"
    return f"{shape}  {fmt.memory(used)} of {fmt.memory(total)}{swap}"
