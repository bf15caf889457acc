"""What the load form asks the core: plans of the load, and of loads beside it to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from modeldeck.core.errors import CoreUnreachable, DeckError, InvalidRequest
from modeldeck.core.schema import LoadOptions, LoadPlan
from modeldeck.tui.dashboard.screens.load_form.facts import (
    DEFAULT_KV,
    NO_MEMORY,
    Forecasts,
    LoadTarget,
)
from modeldeck.tui.dashboard.screens.load_form.field_values import QUANTIZED
from modeldeck.tui.text import format as fmt

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client

_FAULTS = (
    ("draft", "draft_model", "this model cannot guess ahead for it"),
    ("lora", "loras", "this adapter cannot be used"),
    ("flash attention", "kv_cache_type", "this type needs flash attention"),
    ("kv cache", "kv_cache_type", "this model cannot have this type"),
    ("cache_tokens", "cache_tokens", "fewer than one request may reach"),
    ("context_length", "context_length", "this context is not possible"),
)
"""Part of the core's words, in small letters; the option that is meant; what the form says."""


async def plans(
    client: Client, targets: Sequence[LoadTarget], options: LoadOptions, how: Mapping[str, bool]
) -> Forecasts:
    """Return the plan of each model; where there is none at all, `failure` says why."""
    found: list[LoadPlan | None] = []
    problems, faulty = [], ""
    for target in targets:
        plan, problem = None, ""
        try:
            plan = await client.plan_load(target.ref, options, **how)
        except InvalidRequest as error:
            faulty, problem = fault(error.message)
        except CoreUnreachable:
            return Forecasts(failure="the core does not answer")
        except DeckError as error:
            problem = fmt.clean(error.message).removesuffix(".")
        found.append(plan)
        problems.append(problem)
    if not any(found):
        return Forecasts(failure=problems[0], faulty=faulty)
    return Forecasts(plans=tuple(found), problems=tuple(problems))


def fault(message: str) -> tuple[str, str]:
    """The option that the core refuses, and why in the form's words. Pure.

    >>> fault("A KV cache of type q8_0 needs flash attention.")
    ('kv_cache_type', 'this type needs flash attention')
    """
    text = message.casefold()
    found = ((name, words) for part, name, words in _FAULTS if part in text)
    return next(found, ("", "these options do not go together"))


async def largest(
    client: Client, target: LoadTarget, chosen: Mapping[str, Any], how: Mapping[str, bool]
) -> int | None:
    """Return the longest context that fits with the other options; None where that is not known."""
    others = {name: value for name, value in chosen.items() if name != "context_length"}
    others.pop("cache_tokens", None)
    options = replace(LoadOptions(**others), context_fit=True)
    plan = await _plan(client, target, options, how)
    if plan is None or plan.forecast is None or plan.refusal is not None:
        return None
    return plan.options.context_length


async def kv_saved(
    client: Client, target: LoadTarget, plan: LoadPlan, how: Mapping[str, bool]
) -> int | None:
    """Return how much less a load takes than with a KV cache of type f16; None for no less."""
    if plan.options.kv_cache_type not in QUANTIZED or plan.forecast is None:
        return None
    wide = replace(plan.options, kv_cache_type=DEFAULT_KV)
    other = await _plan(client, target, wide, how)
    if other is None or other.forecast is None:
        return None
    return max(0, other.forecast.total_bytes - plan.forecast.total_bytes) or None


async def roomy(
    client: Client,
    target: LoadTarget,
    plan: LoadPlan,
    options: LoadOptions,
    how: Mapping[str, bool],
) -> LoadPlan | None:
    """Return the plan with idle models unloaded, where a load fits only so."""
    if plan.refusal is None or plan.refusal.code != NO_MEMORY or how.get("make_room"):
        return None
    found = await _plan(client, target, options, {**how, "make_room": True})
    return found if found is not None and found.refusal is None else None


async def _plan(
    client: Client, target: LoadTarget, options: LoadOptions, how: Mapping[str, bool]
) -> LoadPlan | None:
    try:
        return await client.plan_load(target.ref, options, **how)
    except DeckError:
        return None
