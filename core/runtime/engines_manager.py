"""`Engines`: the instances of this core by id, and the planner of loads.

It keeps the list of instances and passes calls to their `Supervisor`s; it never handles a process
itself. There is no await between a decision and its action, so two callers cannot both start a
model.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from modeldeck.core.concurrency import report_bug, report_failure
from modeldeck.core.config import load_options
from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import Conflict, NotDownloaded, NotFound, ShuttingDown
from modeldeck.core.runtime import registry
from modeldeck.core.runtime.instance.load import ModelFiles
from modeldeck.core.runtime.instance.receipt import nothing_held
from modeldeck.core.runtime.instance.request import (
    EmbeddingRequest,
    RankRequest,
    TextRequest,
    TokensRequest,
    ignore,
)
from modeldeck.core.runtime.instance.supervisor import Supervisor
from modeldeck.core.runtime.planning.planner import Planner, Projector, Source
from modeldeck.core.runtime.planning.prefix_cache_size import shrinks
from modeldeck.core.runtime.process.engine_log import LogLevel
from modeldeck.core.runtime.process.messages import (
    EmbedTexts,
    GenerateText,
    RankTexts,
    TokenizeText,
)
from modeldeck.core.runtime.request_limits import check_request, check_text, together
from modeldeck.core.schema import (
    Engine,
    Forecast,
    GenerateRequest,
    Instance,
    InstanceState,
    LoadOptions,
    Model,
    ProcessMemory,
    Requester,
    Runtime,
    TextScore,
    TextVector,
    TokenizedText,
    TokenQuery,
    UnloadReceipt,
)
from modeldeck.core.schema.overhead import ProcessOverhead


class Engines:
    """Instances by id. Call every method on the event loop that `open` ran on."""

    def __init__(
        self,
        *,
        settings: Settings,
        prefix_folder: Path | None = None,
        measure: Callable[[int], ProcessMemory | None],
        on_change: Callable[[Instance], None],
        on_log: Callable[[str, LogLevel, str], None],
    ) -> None:
        """Make an empty list of instances.

        Args:
            settings: The settings in force.
            prefix_folder: Where engines may keep conversations, as the settings allow it.
            measure: Returns the memory of a process; called in a thread.
            on_change: Called with every new record. An instance in state `stopped` has left the
                list.
            on_log: Called with every line of an engine's log: source, level, text.
        """
        self._settings = settings
        self._prefix_folder = prefix_folder
        self._measure_process = measure
        self._on_change = on_change
        self._on_log = on_log
        self._planner = Planner()
        self._supervisors: dict[str, Supervisor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self) -> None:
        """Accept loads and requests."""
        self._closing = False

    async def close(self) -> None:
        """Refuse new loads, and end every engine; running answers are cancelled."""
        self._closing = True
        ends = [self._stop(s, 0.0) for s in list(self._supervisors.values())]
        for outcome in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(outcome, Exception):
                report_failure("ending an engine", outcome)
        await self._planner.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def set_overhead(self, overhead: ProcessOverhead) -> None:
        """Set what a llama.cpp process takes on this machine besides the plan."""
        self._planner.overhead = overhead

    @property
    def instances(self) -> Mapping[str, Instance]:
        """All instances that are loading, loaded, or failed and not removed, oldest first."""
        return {key: supervisor.record for key, supervisor in self._supervisors.items()}

    def log(self, instance_id: str) -> tuple[str, ...]:
        """The last lines of an instance's log. Raises NotFound."""
        return self._find(instance_id).lines

    async def probe(self, *names: Engine) -> tuple[Runtime, ...]:
        """The engines of this machine, or those named; one that cannot be used has the reason."""
        return await registry.probe(self._planner, *names)

    async def plan(
        self,
        source: Source,
        options: LoadOptions,
        draft: str | None = None,
        projector: Projector | None = None,
    ) -> Forecast:
        """Forecast a load of a GGUF model by llama.cpp.

        Args:
            source: The model.
            options: The options of the load.
            draft: Path of a draft model.
            projector: The projector that is loaded with it.

        Raises InvalidRequest for impossible options, EngineMissing, or EngineFailed with the last
        lines of the engine's log.
        """
        load_options.check(options)
        self._refuse_when_closing()
        return await self._planner.plan(
            source, options, self._settings.context_length, draft, projector
        )

    # Instances

    async def load(
        self,
        model: Model,
        options: LoadOptions,
        forecast: Forecast | None = None,
        *,
        draft: str | None = None,
        warnings: tuple[str, ...] = (),
    ) -> Instance:
        """Begin to load a model; `ready` waits for it. A model that is loaded is not loaded again.

        Args:
            model: The model; it must be downloaded.
            options: All load options.
            forecast: The expected memory, for the record.
            draft: Path of the model that `options.draft_model` names.
            warnings: Warnings about this load, for the record and its log.

        Raises InvalidRequest, NotDownloaded, EngineMissing or ShuttingDown.
        """
        load_options.check(options)
        self._refuse_when_closing()
        engine = registry.choose(model.format, options.engine)
        if model.path is None:
            raise NotDownloaded(f"{model.unique} is not on this machine.", "Download it first.")
        same = [s for s in self._supervisors.values() if s.record.model_id == model.id]
        for supervisor in same:
            if supervisor.live:
                return supervisor.record
        for supervisor in same:
            if supervisor.record.state is InstanceState.FAILED:
                supervisor.remove()
        record = Instance(
            id=str(uuid.uuid4()),
            model_id=model.id,
            unique=model.unique,
            state=InstanceState.STARTING,
            engine=engine,
            stage="starting engine",
            forecast=forecast,
            options=options,
            warnings=warnings,
            started_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )
        for warning in warnings:
            self._on_log(f"engine:{record.id}", "warning", warning)
        files = ModelFiles(
            path=model.path,
            draft=draft,
            projector=None if options.vision is False else model.projector,
            prefix_folder=self._prefix_folder,
        )
        return self._start(record, files)

    def _start(self, record: Instance, files: ModelFiles) -> Instance:
        supervisor = Supervisor(
            record,
            files,
            self._settings,
            measure=self._measure,
            on_change=self._changed,
            on_log=self._on_log,
        )
        self._supervisors[record.id] = supervisor
        self._report(record)
        task = supervisor.start()
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return record

    def _changed(self, record: Instance) -> None:
        if record.state is InstanceState.STOPPED:
            self._supervisors.pop(record.id, None)
        self._report(record)

    def _report(self, record: Instance) -> None:
        """Call `on_change`; a failure there must not stop the supervisor half way."""
        try:
            self._on_change(record)
        except Exception as error:
            report_failure(f"reporting the state of {record.unique}", error)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            report_bug(task.get_name(), bug)

    async def ready(self, instance_id: str) -> Instance:
        """Wait until an instance is loaded.

        Raises EngineFailed or EngineMissing when the load failed, Cancelled when it was unloaded
        before, and NotFound.
        """
        return await self._find(instance_id).ready()

    def change(self, instance_id: str, changes: Mapping[str, Any]) -> Instance:
        """Change `pinned` or `idle_ttl_s` of a live instance.

        Raises NotFound, Conflict for one that is not live, InvalidRequest for a bad value.
        """
        supervisor = self._find(instance_id)
        options = replace(supervisor.record.options, **changes)
        load_options.check(options)
        if not supervisor.live:
            record = supervisor.record
            raise Conflict(f"{record.unique} is {record.state}.", "Load the model again.")
        supervisor.change(options)
        return supervisor.record

    async def unload(self, instance_id: str) -> UnloadReceipt:
        """Unload an instance, or cancel its load, and return the receipt. Raises NotFound.

        A running answer has `unload_grace_s` to end, then it is cancelled. The unload goes on when
        the caller is cancelled. A failed instance is removed.
        """
        return await self._stop(self._find(instance_id), self._settings.unload_grace_s)

    async def unload_unused(self, instance_id: str) -> UnloadReceipt:
        """As `unload`, but raises Conflict where requests run or wait."""
        record = self._find(instance_id).record
        if record.requests:
            raise Conflict(f"{record.unique} is in use.", "Try again when nothing uses it.")
        return await self.unload(instance_id)

    async def _stop(self, supervisor: Supervisor, grace_s: float) -> UnloadReceipt:
        if supervisor.record.state is InstanceState.FAILED:
            supervisor.remove()
            return nothing_held(supervisor.record)
        supervisor.stop(grace_s)
        return await supervisor.ended()

    async def remove(self, instance_id: str) -> None:
        """Remove a failed instance from the list. Raises NotFound, and Conflict for a live one."""
        supervisor = self._find(instance_id)
        if supervisor.record.state is not InstanceState.FAILED:
            raise Conflict(f"{supervisor.record.unique} is loaded.", "Unload it.")
        supervisor.remove()

    def generate(
        self,
        instance_id: str,
        request: GenerateRequest,
        requester: Requester | None = None,
        note: Callable[..., None] = ignore,
    ) -> AbstractAsyncContextManager[TextRequest]:
        """Queue a request for text; leaving the block cancels it.

        Args:
            instance_id: The instance.
            request: The request.
            requester: Who asks, which decides when it is answered.
            note: Called with the fields of its `RequestInfo` that changed, by name.

        Entering raises InvalidRequest, NotFound, Conflict when the instance is being unloaded or
        has failed, and Busy when too many wait. Iterating raises InvalidRequest for what only the
        engine can check, EngineFailed when it ends, and Cancelled or Conflict on unloading.
        """
        return self._generate(instance_id, request, requester, note)

    @asynccontextmanager
    async def _generate(
        self,
        instance_id: str,
        request: GenerateRequest,
        requester: Requester | None,
        note: Callable[..., None],
    ) -> AsyncIterator[TextRequest]:
        check_request(request)
        answer = TextRequest(partial(GenerateText, request=request), requester, note)
        with self._find(instance_id).entered(answer):
            yield answer

    async def embed(
        self,
        instance_id: str,
        texts: Sequence[str],
        requester: Requester | None = None,
        note: Callable[..., None] = ignore,
        *,
        truncate: bool = False,
    ) -> list[TextVector]:
        """Embed texts: a vector of length 1 for each, in order.

        `truncate` cuts off what the model cannot read. The other arguments, and the errors, are
        those of `generate`.
        """
        supervisor = self._find(instance_id)
        for text in texts:
            check_text(text)
        vectors: list[TextVector] = []
        for some in together(texts):
            request = EmbeddingRequest(
                partial(EmbedTexts, texts=some, truncate=truncate), requester, note
            )
            with supervisor.entered(request):
                vectors += [vector async for vector in request]
        return vectors

    async def rank(
        self,
        instance_id: str,
        query: str,
        texts: Sequence[str],
        requester: Requester | None = None,
        note: Callable[..., None] = ignore,
    ) -> list[TextScore]:
        """Tell how well each text answers a query, in order.

        Arguments and errors are those of `generate`.
        """
        supervisor = self._find(instance_id)
        scores: list[TextScore] = []
        for some in together(texts):
            request = RankRequest(partial(RankTexts, query=query, texts=some), requester, note)
            with supervisor.entered(request):
                scores += [score async for score in request]
        return scores

    async def tokenize(
        self, instance_id: str, query: TokenQuery, requester: Requester | None = None
    ) -> TokenizedText:
        """Return the tokens of a text, or the text of tokens. Raises as `generate` does."""
        if query.request is not None:
            check_request(query.request)
        request = TokensRequest(partial(TokenizeText, query=query), requester)
        with self._find(instance_id).entered(request):
            return await anext(request)

    # Memory

    async def sample(self) -> None:
        """Measure every engine process and report the new records."""
        running = [s for s in self._supervisors.values() if s.record.pid is not None]
        pids = [cast(int, s.record.pid) for s in running]
        found = await asyncio.to_thread(lambda: [self._measure_process(pid) for pid in pids])
        for supervisor, pid, memory in zip(running, pids, found, strict=True):
            if supervisor.record.pid == pid:
                supervisor.measured(memory)

    def shrink_caches(self, missing_bytes: int) -> None:
        """Have engines drop conversations that no request holds, to give `missing_bytes` back."""
        for key, keep_bytes in shrinks(self.instances.values(), missing_bytes).items():
            self._supervisors[key].shrink_cache(keep_bytes, stays=False)

    def limit_caches(self, limits: Mapping[str, int]) -> None:
        """Lower the limits of prefix caches to these bytes, by instance, for another load."""
        for key, limit in limits.items():
            if key in self._supervisors:
                self._supervisors[key].shrink_cache(limit, stays=True)

    async def _measure(self, pid: int) -> ProcessMemory | None:
        return await asyncio.to_thread(self._measure_process, pid)

    # Helpers

    def _find(self, instance_id: str) -> Supervisor:
        try:
            return self._supervisors[instance_id]
        except KeyError:
            raise NotFound(f"There is no instance {instance_id}.") from None

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise ShuttingDown("The core is about to end.")
