"""What fits instead, where a load does not: the core's alternatives as lines to choose. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modeldeck.core.schema import LoadAlternative, LoadPlan
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.load_form import wording
from modeldeck.tui.dashboard.screens.load_form.facts import FormFacts
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.model_names import row_name

_OPTIONS: Mapping[str, str] = {
    "context": "context_length",
    "parallel": "parallel",
    "cache_tokens": "cache_tokens",
    "kv_cache_type": "kv_cache_type",
}
"""Load options by the first word of an alternative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to load something that has room, or to load it anyway."""

    text: str
    total_bytes: int | None = None
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that it sets."""
    make_room: bool = False
    """Whether idle models are unloaded for it."""
    unique: str = ""
    """Another model that is meant."""
    force: bool = False


def ways(facts: FormFacts) -> tuple[Way, ...]:
    """The ways, the best first, and last to load it anyway; none where it fits."""
    plan = facts.plan
    if plan is None or not facts.forecasts.over:
        return ()
    found = [] if not facts.single else [_way(plan, a, facts.state) for a in plan.alternatives]
    roomy = facts.forecasts.roomy
    if roomy is not None and roomy.evictions:
        names = ", ".join(wording.evicted_name(facts, gone) for gone in roomy.evictions)
        back = sum(wording.freed_bytes(facts, gone) for gone in roomy.evictions)
        found.insert(
            0, Way(text=f"unload {names}", total_bytes=back, note="comes back", make_room=True)
        )
    anyway = Way(text="load it anyway", note="the system may swap or end it", force=True)
    return (*found, anyway)


def _way(plan: LoadPlan, alternative: LoadAlternative, state: State) -> Way:
    word, _, value = alternative.what.partition(" ")
    total = alternative.total_bytes
    if alternative.unique == plan.unique and word in _OPTIONS and value:
        name = _OPTIONS[word]
        chosen: Any = value if name == "kv_cache_type" else int(value)
        options = {name: chosen}
        if name == "context_length":
            options["cache_tokens"] = None
        return Way(text=_words(name, chosen), total_bytes=total, options=options)
    model = next((m for m in state.models.values() if m.unique == alternative.unique), None)
    is_here = model is not None and model.downloaded
    name = alternative.unique.rpartition("/")[2]
    if model is not None:
        name = row_name(model.id, model.unique, state.models)
    note = "" if is_here else "not downloaded"
    if not is_here and model is not None and model.size_bytes:
        note += f", {fmt.size(model.size_bytes)}"
    return Way(text=fmt.clean(name), total_bytes=total, note=note, unique=alternative.unique)


def _words(name: str, value: Any) -> str:
    if name == "context_length":
        return f"{fmt.tokens(value)} context"
    if name == "parallel":
        return f"{value} at once"
    if name == "cache_tokens":
        return f"{fmt.tokens(value)} cache tokens"
    return f"KV cache {value}"
