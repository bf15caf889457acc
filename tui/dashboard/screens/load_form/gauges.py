"""The gauges of the load form: other programs, loaded models, this load, what is free. Pure."""

from __future__ import annotations

from dataclasses import replace

from rich.text import Text

from modeldeck.core.schema import DeviceBytes, Forecast, LoadPlan
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.load_form.wording import over_bytes
from modeldeck.tui.dashboard.screens.memory.gauge import DeviceUse, ModelPart, devices, gauge
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

THIS = "this"
"""Name of the part of this load."""


def uses(state: State, plan: LoadPlan | None) -> list[DeviceUse]:
    """Who would use each device: without what is unloaded first, and with this load.

    A device that this load takes nothing of is left out, but for the machine's memory.
    """
    found = devices(state)
    if plan is None or plan.forecast is None:
        return found[:1]
    gone = {eviction.instance_id for eviction in plan.evictions}
    gone |= {plan.replaces.instance_id} if plan.replaces is not None else set()
    staying = {key: i for key, i in state.instances.items() if key not in gone}
    after = {use.name: use for use in devices(replace(state, instances=staying))}
    result = []
    for use in found:
        part = _part(use.name, plan.forecast, str(len(staying) + 1))
        if part is not None and use.name in after:
            parts = (*after[use.name].parts, part)
            result.append(replace(use, parts=parts, kept=after[use.name].kept))
    return result


def _part(device: str, forecast: Forecast, number: str) -> ModelPart | None:
    if device == "RAM":
        weights = forecast.weights_bytes - sum(d.weights_bytes for d in forecast.devices)
        kv = forecast.kv_bytes - sum(d.kv_bytes for d in forecast.devices)
        whole = forecast.machine_bytes
        rest = (forecast.total_bytes if whole is None else whole) - weights - kv
        return ModelPart(
            number=number, name=THIS, weights=max(0, weights), kv=max(0, kv), other=max(0, rest)
        )
    plan = next((d for d in forecast.devices if _is(d, device)), None)
    if plan is None:
        return None
    return ModelPart(
        number=number,
        name=THIS,
        weights=plan.weights_bytes,
        kv=plan.kv_bytes,
        other=plan.compute_bytes,
    )


def _is(device: DeviceBytes, name: str) -> bool:
    digits = device.name[len(device.name.rstrip("0123456789")) :]
    return bool(digits) and name == f"GPU {digits}"


def line(
    use: DeviceUse,
    plan: LoadPlan | None,
    cells: int,
    glyphs: Glyphs,
    inks: ThemeStyles,
    *,
    over: bool,
) -> Text:
    """One gauge of exactly `cells` cells; what has no room is at its end, as an error."""
    drawn = gauge(use, cells, glyphs, inks).line
    if not over or plan is None or use.free > 0:  # else a budget is short, not this memory
        return drawn
    sizes = use.others + sum(part.held for part in use.parts)
    share = over_bytes(plan) / max(1, sizes)
    tail = max(1, min(cells - 1, round(share * cells)))
    drawn.stylize(inks.error, cells - tail, cells)
    return drawn


def labels(use: DeviceUse, cells: int, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    """What the parts of the first gauge are, from the left to the right."""
    right = "free"
    room = cells - len(right) - 1
    for most in (16, 10, 6, 0):  # the names of the others give way, not that of this load
        line = Text().append("others", inks.muted)
        for at, part in enumerate(use.parts):
            style = inks.secondary if at % 2 else inks.primary
            name = part.name if part.name == THIS else fmt.squeeze(part.name, most)
            line.append(f" {glyphs.bound} ", inks.muted)
            line.append(part.number, style).append(f" {name}" if name else "")
        if len(line) <= room:
            break
    if len(line) > room:
        line.truncate(max(0, room), overflow="ellipsis")
    return line.append(" " * (cells - len(line) - len(right))).append(right, inks.muted)
