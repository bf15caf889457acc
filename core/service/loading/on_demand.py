"""Provide loaded models to inference requests: load on demand, wait for memory, enlarge a context.

A load that only inference requests wait for is cancelled when the last of them is gone: memory must
not be taken without use. A load that was requested explicitly always goes on, and so does one that
replaces a loaded model.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.errors import (
    Busy,
    Conflict,
    EngineFailed,
    NotEnoughMemory,
    NotFound,
    ShuttingDown,
)
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.instance.request import ignore
from modeldeck.core.schema import (
    Instance,
    InstanceState,
    LoadOptions,
    LoadWish,
    Model,
    Requester,
)
from modeldeck.core.service.loading.loader import Loader
from modeldeck.core.service.loading.model_turns import LOOK_S, ModelTurn, ModelTurns

UNLOAD_NOW_S = 0.001
"""Idle timeout in seconds for `keep_alive=0`; an idle timeout of 0 itself means "never unload"."""

MOST_TRIES = 10
"""Refused loads in a row, at about one a second, although the model seems to fit."""

READY = (InstanceState.READY, InstanceState.BUSY)
_IDLE = InstanceState.READY


class OnDemandLoader:
    """Provides instances to inference requests, loading models when they are needed."""

    def __init__(
        self,
        *,
        loader: Loader,
        engines: Engines,
        instance_of: Callable[[str], Instance | None],
        tasks: BackgroundTasks,
        allowed: bool,
        most_waiting: int,
    ) -> None:
        """Make an on-demand loader.

        Args:
            loader: What loads and unloads.
            engines: The instances.
            instance_of: Returns the live instance of a model by its id.
            tasks: Owner of the work that outlives a request.
            allowed: Whether models are loaded on demand.
            most_waiting: Requests that may wait for the memory of one model.
        """
        self._loader = loader
        self._engines = engines
        self._instance_of = instance_of
        self._tasks = tasks
        self._allowed = allowed
        self._most_waiting = most_waiting
        self._turns = ModelTurns()
        self._waiting: Counter[str] = Counter()
        """Number of requests that wait for a load, by model id."""
        self._users: Counter[str] = Counter()
        """Number of requests that use an instance, by its id."""
        self._explicit: set[str] = set()
        """Instances loaded explicitly, or in place of another; never cancelled automatically."""

    @contextmanager
    def waiting(self, model_id: str) -> Iterator[None]:
        """Count one waiting request for this model while the block runs."""
        with _counted(self._waiting, model_id):
            yield

    def keep(self, instance_id: str) -> None:
        """Mark an instance as explicitly loaded, so that its load is not cancelled."""
        self._explicit &= self._engines.instances.keys()
        self._explicit.add(instance_id)

    def check(self, model: Model) -> None:
        """Raise the errors of `using` that are known at once.

        Raises NotDownloaded, EngineMissing, and Conflict where loading on demand is off.
        """
        if self._instance_of(model.id) is not None:
            return
        self._refuse_forbidden(model)
        if (missing := self._loader.missing(model)) is not None:
            raise missing

    def _refuse_forbidden(self, model: Model) -> None:
        """Raise Conflict where it is not loaded, and must not be loaded on demand."""
        if not self._allowed and self._instance_of(model.id) is None:
            raise Conflict(
                f"{model.name} is not loaded, and nothing is loaded on demand here.",
                "Load it first, or set api.load_on_demand.",
            )

    def instance_changed(self) -> None:
        """Let requests that wait for memory look again; called with each change of an instance."""
        self._turns.tell()

    @asynccontextmanager
    async def using(
        self,
        model: Model,
        options: LoadOptions,
        requester: Requester,
        keep_alive_s: float | None,
        note: Callable[..., None] = ignore,
    ) -> AsyncIterator[Instance]:
        """Provide a ready instance of a model while the block runs, loading it if necessary.

        Args:
            model: A downloaded model.
            options: Load options. They do not change an instance that is loaded, except that one
                with a shorter context is loaded again where nothing else uses it.
            requester: Who asks.
            keep_alive_s: Idle timeout in seconds after the block: 0 unloads it when no request
                waits for it, a negative number keeps it loaded, None leaves it to the settings.
            note: Called with fields of the request's `RequestInfo` that changed, by name.

        Raises the errors of `Loader.load`, Conflict where loading on demand is off or a longer
        context is not possible now, and Busy where too many wait for memory.
        """
        idle_ttl_s = None if keep_alive_s is None else max(0.0, keep_alive_s)
        wanted = replace(options, idle_ttl_s=idle_ttl_s)
        with self._turns.asking(model.id, model.unique, requester.priority) as turn:
            try:
                instance = await self._ready(model, wanted, requester, turn, note)
            except EngineFailed as error:
                error.final = True  # the next request would load it again, and fail alike
                raise
        with _counted(self._users, instance.id):
            try:
                yield instance
            finally:
                if keep_alive_s is not None:
                    self._set_idle_timeout(
                        instance.id, UNLOAD_NOW_S if keep_alive_s == 0 else idle_ttl_s
                    )

    def _set_idle_timeout(self, instance_id: str, seconds: float | None) -> None:
        with suppress(NotFound, Conflict):  # it ended meanwhile
            self._engines.change(instance_id, {"idle_ttl_s": seconds})

    async def _ready(
        self,
        model: Model,
        options: LoadOptions,
        requester: Requester,
        turn: ModelTurn,
        note: Callable[..., None],
    ) -> Instance:
        """Wait until the model is loaded and it is this request's turn to use it."""
        while True:
            instance = self._instance_of(model.id)
            if instance is None or instance.state not in READY:
                note(state="loading", why="")
                refusal = await self._load(model, options, requester.origin)
                if refusal is not None:
                    await self._wait_for_memory(refusal, model, options, turn, note)
            elif (other := self._turns.ahead(turn, instance.id)) is not None:
                await self._wait(turn, note, f"{other.unique} waits for its memory")
            elif _is_longer(options, instance):
                await self._enlarge(instance, model, options, requester.origin, note)
            else:
                return instance

    async def _wait(self, turn: ModelTurn, note: Callable[..., None], why: str) -> None:
        """Wait for a change. Raises Busy where too many requests for this model wait."""
        if not turn.waits and self._turns.waiting(turn.model_id) >= self._most_waiting:
            raise Busy(
                f"{turn.unique} is not loaded, and {self._most_waiting} requests wait for it.",
                "Try again later, or raise runtime.queue_length.",
            )
        turn.waits = True
        note(state="waiting", why=why)
        await self._turns.news()

    async def _wait_for_memory(
        self,
        refusal: NotEnoughMemory,
        model: Model,
        options: LoadOptions,
        turn: ModelTurn,
        note: Callable[..., None],
    ) -> None:
        """Wait for a change of the models whose memory is needed.

        Raises the refusal where none of them would make room once it is idle.
        """
        blockers = await self._loader.blockers(model.id, LoadWish(options=options))
        turn.tries = 0 if blockers else turn.tries + 1
        if blockers is None or turn.tries > MOST_TRIES:
            raise refusal
        turn.blockers = blockers
        instances = self._engines.instances
        names = [instances[key].unique for key in blockers if key in instances]
        why = f"its memory is held by {', '.join(names)}" if names else "for memory"
        loaded = self._live()
        until = time.monotonic() + (0 if blockers else LOOK_S)
        while loaded == self._live() and (
            any(self._is_busy(key) for key in blockers) or time.monotonic() < until
        ):
            await self._wait(turn, note, why)

    def _live(self) -> dict[str, bool]:
        """The instances by id, and whether each is loaded or being loaded."""
        return {key: found.state.live for key, found in self._engines.instances.items()}

    def _is_busy(self, instance_id: str) -> bool:
        instance = self._engines.instances.get(instance_id)
        return instance is not None and instance.state.live and instance.state is not _IDLE

    async def _enlarge(
        self,
        instance: Instance,
        model: Model,
        options: LoadOptions,
        origin: str,
        note: Callable[..., None],
    ) -> None:
        """Load a model again with a longer context. Raises Conflict where that would cut others."""
        length = options.context_length

        def refuse_if_used() -> None:
            if self._users[instance.id] or instance.options.pinned:
                why = "pinned" if instance.options.pinned else "in use by others"
                raise Conflict(
                    f"A context of {length} tokens was asked for, but {model.name} is loaded with"
                    f" {instance.context_length} and is {why}.",
                    f"Ask for at most {instance.context_length}, or load it again with more.",
                )

        refuse_if_used()
        note(state="loading", why="")
        cells = instance.options.cache_tokens
        wanted = replace(
            instance.options,
            context_length=length,
            cache_tokens=None if cells is None or length is None else max(cells, length),
            context_fit=None,
            idle_ttl_s=options.idle_ttl_s
            if options.idle_ttl_s is not None
            else instance.options.idle_ttl_s,
        )
        async with self._loading(model, origin):
            again = await self._loader.reload(
                instance,
                LoadWish(options=wanted),
                origin,
                refuse_if_used=refuse_if_used,
                started=self.keep,  # it was loaded before, so it goes on without this client
            )
            await self._engines.ready(again.id)

    async def _load(
        self, model: Model, options: LoadOptions, origin: str
    ) -> NotEnoughMemory | None:
        """Load the model and wait until it is ready; return the refusal where memory is short."""
        self._refuse_forbidden(model)
        async with self._loading(model, origin):
            # The options of an inference request are not remembered for the next load.
            try:
                instance = await self._loader.load(
                    model.id, LoadWish(options=options), origin, remember=False, as_loaded=True
                )
            except NotEnoughMemory as refusal:
                return refusal
            await self._engines.ready(instance.id)
        return None

    @asynccontextmanager
    async def _loading(self, model: Model, origin: str) -> AsyncIterator[None]:
        """While the block runs a request waits for a load, which is cancelled when none does."""
        try:
            with self.waiting(model.id):
                yield
        except asyncio.CancelledError:
            work = self._cancel_unused(model.id, origin)
            self._tasks.start(work, name=f"cancelling the load of {model.unique}")
            raise

    async def _cancel_unused(self, model_id: str, origin: str) -> None:
        """Cancel the load of a model that no request waits for any more."""
        instance = self._instance_of(model_id)
        if (
            instance is not None
            and instance.state is InstanceState.STARTING
            and instance.id not in self._explicit
            and not self._waiting[model_id]
        ):
            # When the core ends, it ends the engines itself.
            with suppress(NotFound, ShuttingDown):
                await self._loader.unload(instance.id, origin)


@contextmanager
def _counted(counter: Counter[str], key: str) -> Iterator[None]:
    counter[key] += 1
    try:
        yield
    finally:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]


def _is_longer(options: LoadOptions, instance: Instance) -> bool:
    """Whether a longer context is asked for than a model was loaded with.

    What it was loaded with counts, as well as what it got: a model that cannot take more is not
    loaded again with each request.
    """
    had = max(instance.context_length or 0, instance.options.context_length or 0)
    return options.context_length is not None and options.context_length > had
