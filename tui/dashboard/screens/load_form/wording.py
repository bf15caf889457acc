"""What the load form says of its plan: who decided, what it takes, what is unloaded first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldeck.core.schema import DeviceBytes, Eviction, LoadPlan, OptionOrigin
from modeldeck.tui.dashboard.screens.load_form.facts import NO_MEMORY, FormFacts
from modeldeck.tui.dashboard.screens.load_form.fields import BY_NAME
from modeldeck.tui.text import forecasts
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.model_names import row_name

ORIGINS: Mapping[OptionOrigin, str] = {
    "default": "auto",
    "catalog": "catalog",
    "config": "config",
    "model config": "config",
    "saved": "saved",
    "last use": "last time",
    "loaded": "as loaded",
    "request": "yours",
    "fit": "auto",
    "model": "auto",
}
"""Who decided an option, in the form's last column."""


def origin(facts: FormFacts, chosen: Mapping[str, Any], name: str) -> str:
    """Who decided an option; `auto` where no person or setting did."""
    if name in chosen:
        return "yours"
    found = facts.plan.origins.get(name) if facts.plan is not None else None
    # A choice that was given back stands in the plan until the next one comes.
    return "auto" if found is None or found == "request" else ORIGINS[found]


def was(facts: FormFacts, chosen: Mapping[str, Any], name: str) -> str:
    """What an option is that a reload changes: `was 8k`; empty where it stays."""
    if facts.loaded is None or name not in chosen:
        return ""
    field = BY_NAME[name]
    before = field.value(facts.loaded.options)
    return "" if before == chosen[name] else f"was {field.text(before)}"


def changed(facts: FormFacts, chosen: Mapping[str, Any]) -> list[str]:
    """Names of the options that the user changed."""
    if facts.loaded is None:
        return list(chosen)
    return [name for name in chosen if was(facts, chosen, name)]


def free_bytes(plan: LoadPlan) -> int | None:
    """Memory for this load where it is shortest, what it replaces counted as free."""
    found = [room for room, _ in _stores(plan)]
    return min(found, default=None)


def over_bytes(plan: LoadPlan) -> int:
    """How much of the load has no room, where that is most."""
    return max((need - room for room, need in _stores(plan)), default=0)


def _stores(plan: LoadPlan) -> list[tuple[int, int]]:
    """Room and need of each kind of memory that is known."""
    forecast = plan.forecast
    if forecast is None:
        return []
    back = plan.replaces.bytes if plan.replaces is not None else 0
    gpu_back = plan.replaces.gpu_bytes if plan.replaces is not None else 0
    found = []
    if plan.available_bytes is not None and forecast.machine_bytes is not None:
        room = plan.available_bytes - plan.reserve_bytes + back
        found.append((max(0, room), forecast.machine_bytes))
    if plan.gpu_available_bytes is not None and forecast.gpu_bytes:
        found.append((plan.gpu_available_bytes + gpu_back, forecast.gpu_bytes))
    if plan.budget_left_bytes is not None:
        found.append((plan.budget_left_bytes + back + gpu_back, forecast.total_bytes))
    return found


def total(plan: LoadPlan) -> str:
    """What it takes: `= 7.6 GiB, of it 7.1 on GPU 0`."""
    forecast = plan.forecast
    if forecast is None:
        return ""
    gpu = ""
    if forecast.gpu_bytes:
        names = " + ".join(map(_device, forecast.devices)) or "the GPU"
        gpu = f", of it {fmt.gib(forecast.gpu_bytes)} on {names}"
    return f"= {fmt.memory(forecast.total_bytes)}{gpu}"


def _device(device: DeviceBytes) -> str:
    """A GPU by its number, as the gauges name it: `GPU 0` for `CUDA0`."""
    digits = device.name[len(device.name.rstrip("0123456789")) :]
    return f"GPU {digits}" if digits else fmt.clean(device.name)


def verdict(plan: LoadPlan, *, over: bool) -> str:
    """Whether it fits, and into what."""
    free = free_bytes(plan)
    if over:
        by = f"over by {fmt.memory(over_bytes(plan))}"
        if _is_budget_short(plan):
            return f"{by}: your budget leaves {fmt.memory(free)}"
        return f"{by}: {fmt.memory(free)} are free"
    if plan.verdict == "unknown":
        return "whether it fits is not known"
    words = "fits after unloading" if plan.verdict == "fits after unloading" else "fits"
    return words if free is None or plan.evictions else f"{words}: {fmt.memory(free)} free"


def several(plan: LoadPlan | None, problem: str) -> tuple[bool, str]:
    """Whether one of several models cannot be loaded, and what is said of it."""
    if plan is None:
        return True, problem
    if plan.refusal is None:
        return False, plan.verdict
    if plan.refusal.code == NO_MEMORY and plan.forecast is not None:
        return True, verdict(plan, over=True)
    return True, plan.refusal.message


def does_not_fit(plan: LoadPlan) -> str:
    """That it does not fit, as a message."""
    free = free_bytes(plan)
    needed = fmt.memory(plan.forecast.total_bytes if plan.forecast is not None else None)
    return f"It does not fit: {needed} needed, {fmt.memory(free)} free."


def _is_budget_short(plan: LoadPlan) -> bool:
    left, free = plan.budget_left_bytes, free_bytes(plan)
    replaced = plan.replaces
    back = replaced.bytes + replaced.gpu_bytes if replaced is not None else 0
    return left is not None and left + back == free


def basis(plan: LoadPlan) -> str:
    """What the forecast rests on, and what earlier loads taught."""
    forecast = plan.forecast
    if forecast is None:
        return ""
    source = forecasts.basis(forecast)
    if not forecast.samples:
        return source
    source = source.partition(";")[0]
    learned = f"{forecast.correction_bytes / (1 << 30):+.1f}"
    if abs(forecast.correction_bytes) < 0.05 * (1 << 30):
        learned = f"{forecast.correction_bytes / (1 << 20):+.0f} MiB"
    return f"{source} · {learned} learned from {fmt.number(forecast.samples, 'load')}"


def items(plan: LoadPlan) -> str:
    """What it takes, item by item, without the sum."""
    if plan.forecast is None:
        return ""
    return forecasts.items(plan.forecast).rpartition(" = ")[0]


def no_plan(facts: FormFacts) -> str:
    """What stands in the place of a forecast that is not there."""
    if facts.forecasts.failure:
        return f"no forecast: {facts.forecasts.failure}"
    plan = facts.plan
    if plan is None:
        return "forecast …"
    if plan.refusal is not None:
        return f"no forecast: {fmt.clean(plan.refusal.message)}"
    return "no forecast: its files tell nothing about it"


def first(facts: FormFacts) -> list[str]:
    """What is unloaded before the load, one line each; what it cuts is named."""
    plan = facts.plan
    if plan is None:
        return []
    lines = []
    if (own := plan.replaces) is not None:
        cut = f", cuts {answers(own)}" if own.answers else ""
        lines.append(f"unload it: frees {_back(facts, own)}{cut}")
    for gone in plan.evictions:
        name = evicted_name(facts, gone)
        lines.append(f"unload {name}: frees {_back(facts, gone)}{_idle(facts, gone)}")
    return lines


def answers(own: Eviction) -> str:
    """The requests that a reload ends: `1 answer (laptop)`."""
    names = ", ".join(sorted({fmt.clean(who) for who in own.answers}))
    return f"{fmt.number(len(own.answers), 'answer')} ({names})"


def freed_bytes(facts: FormFacts, gone: Eviction) -> int:
    """What comes back for certain: what it holds now, not what it may come to hold."""
    instance = facts.state.instances.get(gone.instance_id)
    held = instance.measured_bytes if instance is not None else None
    return (held or gone.bytes) + gone.gpu_bytes


def _back(facts: FormFacts, gone: Eviction) -> str:
    return fmt.memory(freed_bytes(facts, gone))


def evicted_name(facts: FormFacts, gone: Eviction) -> str:
    """The name of a model that is unloaded first, as its row names it."""
    instance = facts.state.instances.get(gone.instance_id)
    model_id = instance.model_id if instance is not None else ""
    return fmt.clean(row_name(model_id, gone.unique, facts.state.models))


def _idle(facts: FormFacts, gone: Eviction) -> str:
    instance = facts.state.instances.get(gone.instance_id)
    if instance is None or instance.idle_s is None:
        return ""
    return f" (idle {fmt.span(instance.idle_s)})"


def subtitle(facts: FormFacts) -> str:
    """The engine, and what is known of the model."""
    parts = [facts.version]
    if facts.single and facts.plan is not None and facts.plan.layers:
        parts.append(fmt.number(facts.plan.layers, "layer"))
    if facts.is_trained_known:
        parts.append(f"trained for {fmt.tokens(facts.trained)}")
    return " · ".join(parts)


def title(facts: FormFacts) -> str:
    """The heading: `Load Qwen3 8B Q4_K_M`."""
    if not facts.single:
        return f"Load {facts.title} with"
    return f"{'Load' if facts.loaded is None else 'Reload'} {facts.title}"


def as_loaded(facts: FormFacts) -> str:
    """How the model is loaded, beside the heading: `loaded: 8k, f16, 6.9 GiB`."""
    loaded = facts.loaded
    if loaded is None:
        return ""
    length = loaded.context_length or loaded.options.context_length
    kind = loaded.options.kv_cache_type or "f16"
    held = loaded.measured_bytes or (loaded.forecast.total_bytes if loaded.forecast else None)
    size = f", {fmt.memory(held)}" if held else ""
    return f"loaded: {fmt.tokens(length)}, {kind}{size}"
