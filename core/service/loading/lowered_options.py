"""Fits a load to the memory that is free: fewer requests at once, then a shorter context.

Only values that no person or program set are lowered, and every change has a note.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from modeldeck.core.schema import Forecast, LoadOptions, OptionOrigin
from modeldeck.core.schema.units import gib
from modeldeck.core.service.loading.alternatives import fewer, largest
from modeldeck.core.service.loading.options import is_unasked

LEAST_CONTEXT = 2048
"""Shortest context, in tokens, that is chosen to fit free memory: less is hardly of use."""

AskForecast = Callable[[LoadOptions], Awaitable[Forecast]]
HasRoom = Callable[[Forecast], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedLoad:
    """Options that fit, or the least that was tried."""

    options: LoadOptions
    origins: dict[str, OptionOrigin]
    notes: tuple[str, ...] = ()
    """What was chosen, and why."""


class LoadFitting:
    """Finds the options of one load that fit."""

    def __init__(
        self,
        options: LoadOptions,
        origins: Mapping[str, OptionOrigin],
        forecast: AskForecast,
        has_room: HasRoom,
    ) -> None:
        """Prepare to fit.

        Args:
            options: Complete options, as wanted.
            origins: Who set each of them.
            forecast: Forecasts other options of this load.
            has_room: Whether a forecast fits the memory, perhaps after unloading others.
        """
        self._wanted = options
        self._origins = dict(origins)
        self._ask = forecast
        self._has_room = has_room
        self._parallel = options.parallel or 1
        lowers = self._parallel > 1 and is_unasked(origins, "parallel")
        self._steps = fewer(self._parallel) if lowers else (self._parallel,)

    async def fit(self) -> FittedLoad:
        """Return the options with the most requests at once, and the largest context, that fit.

        The context counts first, since more of it is worth more than answers at the same time; it
        is shortened only where `context_fit` allows that, and not where `cache_tokens` was set,
        since those cells are taken whatever a request may reach. Where nothing fits, the least is
        returned.
        """
        length = self._wanted.context_length or LEAST_CONTEXT
        chosen: int | None = length
        parallel = await self._most_at_once(length)
        shortens = self._wanted.context_fit and self._wanted.cache_tokens is None
        if parallel is None and shortens:
            chosen = await largest(min(length, LEAST_CONTEXT), length, self._fits_alone)
            if chosen is not None and chosen < length:
                parallel = await self._most_at_once(chosen)
            notes = await self._shortened(length, chosen)
            chosen = chosen or min(length, LEAST_CONTEXT)
        else:
            notes = await self._kept(length, fits=parallel is not None)
        options = replace(
            self._wanted, context_length=chosen, context_fit=None, parallel=self._wanted.parallel
        )
        origins = {name: who for name, who in self._origins.items() if name != "context_fit"}
        if chosen != length:
            origins["context_length"] = "fit"
        if parallel is None:
            parallel = self._steps[-1]
        elif parallel < self._parallel:
            notes += (await self._fewer_at_once(parallel, chosen or length),)
        if parallel < self._parallel:
            options, origins["parallel"] = replace(options, parallel=parallel), "fit"
        return FittedLoad(options=options, origins=origins, notes=notes)

    async def _forecast(self, length: int, parallel: int) -> Forecast:
        wanted = None if self._wanted.parallel is None else parallel
        return await self._ask(replace(self._wanted, context_length=length, parallel=wanted))

    async def _most_at_once(self, length: int) -> int | None:
        """The most requests at once that fit with this context; None where not one does."""
        for parallel in self._steps:
            if self._has_room(await self._forecast(length, parallel)):
                return parallel
        return None

    async def _fits_alone(self, length: int) -> bool:
        return self._has_room(await self._forecast(length, self._steps[-1]))

    # Notes

    async def _kept(self, length: int, *, fits: bool) -> tuple[str, ...]:
        """What to say of a context that was not shortened, where that was left to the memory."""
        if not fits or not self._wanted.context_fit or is_unasked(self._origins, "context_fit"):
            return ()
        if (await self._forecast(length, self._parallel)).gpu_bytes is None:
            return (f"context {length} kept: what fits the GPU is not known",)
        return (f"context {length} chosen: as much as was wanted fits",)

    async def _shortened(self, length: int, chosen: int | None) -> tuple[str, ...]:
        if chosen is None:
            return (f"context {min(length, LEAST_CONTEXT)} taken: not even that has room",)
        needed = gib((await self._forecast(length, self._steps[-1])).total_bytes)
        return (f"context {chosen} chosen: the largest that fits; {length} would need {needed}",)

    async def _fewer_at_once(self, parallel: int, length: int) -> str:
        needed = gib((await self._forecast(length, self._parallel)).total_bytes)
        many = "one request" if parallel == 1 else f"{parallel} requests"
        return f"{many} at once: {self._parallel} would need {needed}, for which there is no room"
