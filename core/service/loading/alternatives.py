"""Suggestions when a model does not fit: fewer requests, text only, a smaller cache, or less of it.

Text only is to leave the projector out, which turns images into input.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Eviction, Forecast, LoadAlternative, LoadOptions, Model, Variant
from modeldeck.core.schema.units import gib
from modeldeck.core.service.library.library import ModelLibrary

Need = Literal["memory", "gpu"]

STEP = 256
"""Tokens between the context lengths that are tried: llama.cpp's cache grows in such steps."""
LEAST = 512
"""Shortest context that is suggested, in tokens."""
ASK_S = 3.0
"""Seconds the Hub may take to list the other variants: an error should not wait for it."""
MOST = 3
"""Number of suggestions; more are no help."""

Plan = Callable[[LoadOptions], Awaitable[Forecast]]
HasRoom = Callable[[Forecast], bool]


async def largest(least: int, most: int, has_room: Callable[[int], Awaitable[bool]]) -> int | None:
    """Return the longest context from `least` to `most` tokens that fits; None if none does.

    `most` is tried first, since it usually fits; then multiples of `STEP`, by bisection.
    """
    if await has_room(most):
        return most
    if least >= most or not await has_room(least):
        return None
    low, high = least // STEP, -(-most // STEP)  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        if await has_room(middle * STEP):
            low = middle
        else:
            high = middle
    return max(least, low * STEP)


def fewer(parallel: int) -> tuple[int, ...]:
    """Numbers of requests at once that are tried, the wanted one first. Pure.

    >>> fewer(4), fewer(6), fewer(1)
    ((4, 2, 1), (6, 3, 1), (1,))
    """
    steps = [parallel]
    while steps[-1] > 1:
        steps.append(steps[-1] // 2)
    return tuple(steps)


class AlternativeFinder:
    """Finds variations of a load that fit the memory."""

    def __init__(self, library: ModelLibrary) -> None:
        self._library = library

    async def find(
        self,
        model: Model,
        forecast: Forecast,
        options: LoadOptions,
        plan: Plan,
        has_room: HasRoom,
    ) -> tuple[LoadAlternative, ...]:
        """Return the best suggestion of each kind, at most `MOST`.

        Args:
            model: The model that does not fit.
            forecast: Its forecast.
            options: Its complete options.
            plan: Forecasts the model with other options.
            has_room: Whether a forecast fits the memory now.
        """
        found: list[LoadAlternative] = []
        with suppress(DeckError):
            found += await self._parallel(model, options, plan, has_room)
            if forecast.projector_bytes:
                found += await self._without_projector(model, options, plan, has_room)
            found += await self._cells(model, options, plan, has_room)
            found += await self._cache(model, options, plan, has_room)
            found += await self._context(model, options, plan, has_room)
        found += await self._variant(model, forecast, options, has_room)
        return tuple(found[:MOST])

    async def _parallel(
        self, model: Model, options: LoadOptions, plan: Plan, has_room: HasRoom
    ) -> list[LoadAlternative]:
        """Suggest the most requests at once that fit."""
        for parallel in fewer(options.parallel or 1)[1:]:
            less = replace(options, parallel=parallel)
            if has_room(forecast := await plan(less)):
                return [_alternative(f"parallel {parallel}", model.unique, less, forecast)]
        return []

    async def _without_projector(
        self, model: Model, options: LoadOptions, plan: Plan, has_room: HasRoom
    ) -> list[LoadAlternative]:
        """Suggest to read text only."""
        less = replace(options, vision=False)
        if not has_room(forecast := await plan(less)):
            return []
        return [_alternative("vision off", model.unique, less, forecast)]

    async def _cells(
        self, model: Model, options: LoadOptions, plan: Plan, has_room: HasRoom
    ) -> list[LoadAlternative]:
        """Suggest the most tokens for all requests together that fit."""
        length, cells = options.context_length or 0, options.cache_tokens or 0
        known: dict[int, Forecast] = {}

        async def fits(count: int) -> bool:
            known[count] = await plan(replace(options, cache_tokens=count))
            return has_room(known[count])

        count = await largest(length, cells, fits) if cells > length > 0 else None
        if count is None:
            return []
        less = replace(options, cache_tokens=count)
        return [_alternative(f"cache_tokens {count}", model.unique, less, known[count])]

    async def _cache(
        self, model: Model, options: LoadOptions, plan: Plan, has_room: HasRoom
    ) -> list[LoadAlternative]:
        """Suggest an 8-bit KV cache, which hardly costs quality."""
        if options.kv_cache_type not in (None, "f16", "bf16", "f32") or (
            options.flash_attention is False or options.embedding
        ):
            return []
        forecast = await plan(replace(options, kv_cache_type="q8_0"))
        if not has_room(forecast):
            return []
        return [_alternative("kv_cache_type q8_0", model.unique, options, forecast)]

    async def _context(
        self, model: Model, options: LoadOptions, plan: Plan, has_room: HasRoom
    ) -> list[LoadAlternative]:
        length = options.context_length or 0
        known: dict[int, Forecast] = {}

        async def fits(shorter: int) -> bool:
            less = replace(options, context_length=shorter, cache_tokens=None)
            known[shorter] = await plan(less)
            return has_room(known[shorter])

        shorter = await largest(LEAST, length, fits) if length > LEAST else None
        if shorter is None or shorter >= length:
            return []
        return [
            _alternative(
                f"context {shorter}",
                model.unique,
                replace(options, context_length=shorter, cache_tokens=None),
                known[shorter],
            )
        ]

    async def _variant(
        self, model: Model, forecast: Forecast, options: LoadOptions, has_room: HasRoom
    ) -> list[LoadAlternative]:
        """Suggest the largest smaller variant of the repository that fits, judged by its size."""
        try:
            async with asyncio.timeout(ASK_S):
                variants = await self._library.siblings(model)
        except (DeckError, TimeoutError):
            return []
        for variant in smaller(variants, model):
            less = forecast.with_weights(_weights_bytes(variant))
            if has_room(less):
                what = variant.label or variant.quantization or variant.unique
                return [_alternative(what, variant.unique, options, less)]
        return []


def smaller(variants: Sequence[Variant], model: Model) -> list[Variant]:
    """Return the variants of the model's format that are smaller, largest first. Pure."""
    size = model.size_bytes or 0
    found = [v for v in variants if v.format == model.format and 0 < v.size_bytes < size]
    return sorted(found, key=lambda variant: variant.size_bytes, reverse=True)


def _weights_bytes(variant: Variant) -> int:
    """Bytes of a variant's files without its projector, which all of them share."""
    projectors = (file.size_bytes for file in variant.files if file.path == variant.projector)
    return variant.size_bytes - sum(projectors)


def _alternative(
    what: str, unique: str, options: LoadOptions, forecast: Forecast
) -> LoadAlternative:
    return LoadAlternative(
        what=what,
        unique=unique,
        context_length=options.context_length,
        total_bytes=forecast.total_bytes,
        exact=forecast.exact,
    )


def remedy(
    alternatives: Sequence[LoadAlternative], would_do: Sequence[Eviction], *, may_unload: bool
) -> str:
    """Return the remedy of a NotEnoughMemory error: what to try, in a sentence. Pure.

    >>> remedy([], [], may_unload=False)
    'Take a smaller model, or load it anyway with force.'
    """
    tries = [f"{found.what} ({gib(found.total_bytes)})" for found in alternatives]
    if would_do and not may_unload:
        names = ", ".join(eviction.unique for eviction in would_do)
        freed = gib(sum(eviction.bytes + eviction.gpu_bytes for eviction in would_do))
        tries.append(f"unloading {names} ({freed}; make_room does it)")
    if not tries:
        return "Take a smaller model, or load it anyway with force."
    return f"Try {' or '.join(tries)}, or load it anyway with force."
