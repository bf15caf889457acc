"""Will it fit: the forecast of a load, judged against the memory that is free now.

The engine plans the load itself, from the header alone, so the answer is the same before and after
the download. Plans are kept per file and options; what is free is always asked anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from core import safetensors
from core.budget import Budget
from core.catalog.hub import Hub
from core.config import Config
from core.errors import DeckError, EngineFailed, EngineMissing, HubUnavailable, NotEnoughMemory
from core.library import Library
from core.memory import estimate
from core.runtime.placement import Candidate, LoadPlan, NoRoom, place
from core.runtime.planner import HeaderFile, Source
from core.runtime.scheduler import Engines
from core.schema import Fit, Forecast, Instance, InstanceState, LoadOptions, Memory, Model

logger = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

PLANS_KEPT = 1000
"""Forecasts remembered, and folders: a large catalog at a few context lengths."""


class Fitting:
    """Forecasts loads and finds room for them."""

    def __init__(
        self,
        *,
        config: Config,
        budget: Budget,
        hub: Hub,
        library: Library,
        engines: Engines,
        memory: Callable[[], Memory],
    ) -> None:
        self._config = config
        self._budget = budget
        self._hub = hub
        self._library = library
        self._engines = engines
        self._memory = memory
        self._plans: OrderedDict[Hashable, Forecast] = OrderedDict()
        self._folders: OrderedDict[Hashable, safetensors.Folder] = OrderedDict()
        self._known: OrderedDict[tuple[str, int | None], Forecast] = OrderedDict()
        """The last forecast of each model, by id and the context length that was asked for."""

    def options(
        self, model: Model, options: LoadOptions, trained_length: int | None = None
    ) -> LoadOptions:
        """The options with the settings in force filled in.

        A context length that nobody asked for is never above the trained one, where that is known.
        """
        length = options.context_length
        if length is None:
            length = self._config.runtime.context_length
            length = min(length, trained_length or model.context_length or length)
        ttl = options.idle_ttl_s
        return replace(
            options,
            context_length=length,
            idle_ttl_s=self._config.runtime.idle_ttl_s if ttl is None else ttl,
            # Else not False but unsaid: the engine tells from the file what it is for.
            embedding=True if "embedding" in model.usage else options.embedding,
        )

    async def fit(self, model: Model, context_length: int | None) -> Fit:
        """Whether the model fits now. What cannot be known is `unknown`, with the reason."""
        options = LoadOptions(context_length=context_length)
        try:
            options, forecast = await self.forecast(model, options)
        except DeckError as error:
            return Fit(
                verdict="unknown",
                forecast=None,
                available_bytes=_least(self.available(), self.left()),
                exact=False,
                context_length=options.context_length,
                reason=str(error),
            )
        self._known[model.id, context_length] = forecast
        _limit(self._known)
        return replace(self._judge(forecast), context_length=options.context_length)

    async def quick_fit(self, model: Model, context_length: int | None) -> Fit:
        """As `fit`, by what is known here: an earlier plan, a header on disk, else the size."""
        if model.downloaded:
            return await self.fit(model, context_length)
        forecast = self._known.get((model.id, context_length))
        if forecast is None and model.size_bytes is not None:
            forecast = estimate.from_size(model.size_bytes)
        return replace(self._judge(forecast), context_length=context_length)

    def _judge(self, forecast: Forecast | None) -> Fit:
        """The verdict by what is free, and by what the memory budget leaves."""
        left = self.left()
        fit = estimate.judge(forecast, self.available(), self._config.runtime.memory_reserve_bytes)
        fit = replace(fit, available_bytes=_least(fit.available_bytes, left))
        if forecast is None or left is None or forecast.total_bytes <= left:
            return fit
        reason = f"{_gib(forecast.total_bytes - left)} more than the memory budget leaves."
        return replace(fit, verdict="too large", reason=reason)

    async def forecast(self, model: Model, options: LoadOptions) -> tuple[LoadOptions, Forecast]:
        """The options with the settings in force filled in, and what loading would take.

        Raises EngineFailed for a model that the engine refuses, and NotFound, Gated or
        HubUnavailable where the header of a remote one cannot be had.
        """
        if model.format == "mlx":
            return await self._forecast_mlx(model, options)
        if model.downloaded and model.path is not None:
            options = self.options(model, options)
            stat = os.stat(model.path)
            key: Hashable = (model.path, stat.st_size, stat.st_mtime_ns, _relevant(options))
            return options, await self._planned(key, Path(model.path), options)
        selection = await self._library.selection(model)
        parts = [f for f in selection.files if f.path != selection.variant.projector]
        headers = [await self._library.read_header(selection, part) for part in parts]
        source = tuple(
            HeaderFile(name=part.path, key=part.blob, data=data, size=part.size_bytes)
            for part, (_, data) in zip(parts, headers, strict=True)
        )
        header, size = headers[0][0], selection.variant.size_bytes
        options = self.options(model, options, header.context_length)
        key = (tuple(part.key for part in source), _relevant(options))
        try:
            return options, await self._planned(key, source, options)
        except EngineMissing:
            return options, estimate.from_header(header, options, size)

    async def _planned(self, key: Hashable, source: Source, options: LoadOptions) -> Forecast:
        if key in self._plans:
            self._plans.move_to_end(key)
            return self._plans[key]
        forecast = await self._engines.plan(source, options)
        self._plans[key] = forecast
        _limit(self._plans)
        return forecast

    async def _forecast_mlx(
        self, model: Model, options: LoadOptions
    ) -> tuple[LoadOptions, Forecast]:
        """By the formula, from config.json and the headers of the weights, here or on the Hub.

        By the size alone where the Hub cannot be asked.
        """
        if model.downloaded and model.path is not None:
            folder = await asyncio.to_thread(self._read_folder, Path(model.path))
        else:
            try:
                selection = await self._library.selection(model)
                folder = await self._hub.read_folder(
                    selection.repo, selection.revision, selection.files
                )
            except HubUnavailable:
                if model.size_bytes is None:
                    raise
                return self.options(model, options), estimate.from_size(model.size_bytes)
        options = self.options(model, options, folder.context_length)
        return options, estimate.from_config(folder.config, folder.weights_bytes, options)

    def _read_folder(self, path: Path) -> safetensors.Folder:
        """What an MLX folder says, kept until it changes. Raises EngineFailed, as its engine."""
        try:
            stats = os.stat(path), os.stat(path / "config.json")
            key = (path, *((stat.st_size, stat.st_mtime_ns) for stat in stats))
            if key not in self._folders:
                self._folders[key] = safetensors.read_folder(path)
                _limit(self._folders)
            return self._folders[key]
        except OSError as error:
            raise EngineFailed(f"{path} cannot be read: {error.strerror}.") from error
        except DeckError as error:
            raise EngineFailed(error.message, error.remedy) from error

    def available(self) -> int | None:
        """Memory for a new load: what is free, less what starting engines have yet to take."""
        free = self._memory().available_bytes
        if free is None:
            return None
        for instance in self._engines.instances.values():
            if instance.state is InstanceState.STARTING and instance.forecast is not None:
                held = instance.private_bytes or 0
                free -= max(0, instance.forecast.total_bytes - held)
        return max(0, free)

    def left(self) -> int | None:
        """What the memory budget leaves for a new load; None where no budget is set."""
        limit = self._budget.limit_bytes
        if limit is None:
            return None
        return max(0, limit - sum(_taken(i) for i in self._engines.instances.values()))

    def room(self, model: Model, forecast: Forecast, *, may_unload: bool) -> tuple[str, ...]:
        """The instances to unload first. Raises NotEnoughMemory: the numbers, and what to try."""
        reserve = self._config.runtime.memory_reserve_bytes
        available, left = self.available(), self.left()
        room = _least(None if available is None else available - reserve, left)
        if room is None:
            return ()
        candidates = [_candidate(i) for i in self._engines.instances.values() if i.state.live]
        answer = place(forecast.total_bytes, room, candidates, may_unload=may_unload)
        if isinstance(answer, LoadPlan):
            return answer.unload
        where = f"are free besides the {_gib(reserve)} kept for the system"
        if room == left:
            where = f"are left of the {_gib(self._budget.limit_bytes or 0)} that models may take"
        raise _refusal(model, forecast, answer, where)


def _limit(kept: OrderedDict[K, V]) -> None:
    while len(kept) > PLANS_KEPT:
        kept.popitem(last=False)


def _candidate(instance: Instance) -> Candidate:
    return Candidate(
        id=instance.id,
        holds_bytes=instance.private_bytes or instance.measured_bytes or 0,
        idle_s=instance.idle_s if instance.state is InstanceState.READY else None,
        pinned=bool(instance.options.pinned),
    )


def _taken(instance: Instance) -> int:
    """What counts against the memory budget: what it holds, of a starting one what it will."""
    if not instance.state.live:
        return 0
    forecast = instance.forecast.total_bytes if instance.forecast else 0
    if instance.state is InstanceState.STARTING:
        return max(instance.measured_bytes or 0, forecast)
    return forecast if instance.measured_bytes is None else instance.measured_bytes


def _least(*counts: int | None) -> int | None:
    return min((count for count in counts if count is not None), default=None)


def _gib(count: int) -> str:
    """As much memory: `6.9 GiB`, `0.4 GiB`."""
    return f"{count / (1 << 30):.1f} GiB"


def _refusal(model: Model, forecast: Forecast, room: NoRoom, where: str) -> NotEnoughMemory:
    tries = ["a smaller context or quantization"] if forecast.kv_bytes else ["a smaller model"]
    if room.evictable_bytes:
        tries.insert(0, f"unloading idle models ({_gib(room.evictable_bytes)})")
    return NotEnoughMemory(
        f"{model.name} needs {_gib(forecast.total_bytes)}; {_gib(room.available_bytes)} {where}.",
        f"Try {' or '.join(tries)}, or load it anyway with force.",
    )


def _relevant(options: LoadOptions) -> LoadOptions:
    """The options less those that do not change a plan."""
    return replace(options, idle_ttl_s=None, pinned=None)
