"""The owner of one instance: the only one who talks to its process and changes its state.

Theory of operation. `Supervisor` has one task. It starts the process and loads the model, takes
requests one at a time (an engine's context serves one), and ends the process. Everybody else leaves
a wish: a job in the queue, a job given up, or the wish to stop. Stopping while it loads, or while
nothing runs, is at once: the task's work is cancelled, wherever it waits. A running answer has
`grace_s` to come to its end, then it is cancelled, and when even that is not heard, the work is.

The record is the truth for everybody: it is replaced, never changed, and told at every change.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from core.config import Runtime as Settings
from core.errors import (
    Busy,
    Cancelled,
    Conflict,
    DeckError,
    EngineFailed,
    InvalidRequest,
    from_info,
    to_info,
)
from core.runtime.answer import Answer, Job
from core.runtime.lifecycle import Signal, after
from core.runtime.messages import (
    AnyReport,
    Cancel,
    Done,
    Failed,
    Load,
    Loaded,
    Progress,
    Text,
    Vector,
)
from core.runtime.process import EngineProcess, LogLevel
from core.schema import (
    Chunk,
    ErrorInfo,
    Instance,
    InstanceState,
    LoadOptions,
    ProcessMemory,
    TextVector,
    UnloadReceipt,
)

CANCEL_S = 5.0
"""How long a cancelled answer may take to end. On a CPU it needs milliseconds; a GPU is heard
between batches. After that the process is ended."""

Measure = Callable[[int], Awaitable[ProcessMemory | None]]


class Supervisor:
    """One instance and the task that owns it."""

    def __init__(
        self,
        record: Instance,
        path: str,
        settings: Settings,
        *,
        measure: Measure,
        on_change: Callable[[Instance], None],
        on_log: Callable[[str, LogLevel, str], None],
    ) -> None:
        self.record = record
        self._path = path
        self._settings = settings
        self._measure = measure
        self._on_change = on_change
        self._on_log = on_log
        self._process: EngineProcess | None = None
        self._lines: tuple[str, ...] = ()
        self._waiting: deque[Job[Any]] = deque()
        self._current: Job[Any] | None = None
        self._last_id = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._ended = asyncio.Event()
        self._receipt: UnloadReceipt | None = None
        self._idle_since: float | None = None
        self._work: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    # Wishes, from anybody

    def start(self) -> asyncio.Task[None]:
        """Start the owner task. The caller keeps it, and waits for it in the end."""
        self._work = asyncio.create_task(self._load_and_serve())
        return asyncio.create_task(self._own(self._work))

    @property
    def live(self) -> bool:
        """Whether it takes requests, or will when it is loaded."""
        return self.record.state.live

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines of its log."""
        return self._process.lines if self._process else self._lines

    async def ready(self) -> Instance:
        """Wait until it is loaded. Raises what the load came to: EngineFailed, Cancelled ..."""
        await self._settled.wait()
        if self.record.error is not None:
            raise from_info(self.record.error)
        if self.record.state in (InstanceState.STOPPING, InstanceState.STOPPED):
            raise Cancelled(f"{self.record.unique} was unloaded.")
        return self.record

    async def ended(self) -> UnloadReceipt:
        """Wait until its process is gone, and give the receipt."""
        await self._ended.wait()
        assert self._receipt is not None
        return self._receipt

    def stop(self, grace_s: float) -> None:
        """Wish it unloaded; a running answer may go on for `grace_s`, waiting ones are refused."""
        if not self.live:
            return
        state = self.record.state
        self._signal(Signal.STOP)
        self._refuse_waiting(Conflict(f"{self.record.unique} is being unloaded."))
        if state is InstanceState.BUSY:
            loop = asyncio.get_running_loop()
            self._timers += [
                loop.call_later(grace_s, self._cancel_current),
                loop.call_later(grace_s + CANCEL_S, self._cancel_work),
            ]
        else:
            self._cancel_work()

    def change(self, options: LoadOptions) -> None:
        """Take other options as far as they are ours and not the engine's: pin and idle time."""
        timed = options.idle_ttl_s != self.record.options.idle_ttl_s
        self._update(options=options)
        if timed:
            self._wake.set()  # the new time counts from now

    @contextmanager
    def asking(self, job: Job[Any]) -> Iterator[None]:
        """Put a job in the queue; leaving the block gives it up. Raises Busy, or Conflict."""
        if not self.live:
            raise Conflict(f"{self.record.unique} is {self.record.state}.", "Load the model again.")
        if len(self._waiting) >= self._settings.queue_length:
            raise Busy(
                f"{len(self._waiting)} requests wait for {self.record.unique} already.",
                "Try again later, or raise runtime.queue_length.",
            )
        self._waiting.append(job)
        self._count()
        self._wake.set()
        try:
            yield
        finally:
            self._give_up(job)

    def _give_up(self, job: Job[Any]) -> None:
        job.abandon()
        if job is self._current:
            self._cancel_current()
        elif job in self._waiting:
            self._waiting.remove(job)
            self._count()

    def _cancel_current(self) -> None:
        if self._current is not None and self._process is not None:
            self._process.send(Cancel(id=self._current.id))

    def _cancel_work(self) -> None:
        if self._work is not None:
            self._work.cancel()

    def _refuse_waiting(self, error: DeckError) -> None:
        while self._waiting:
            self._waiting.popleft().fail(error)
        self._count()

    def remove(self) -> None:
        """Take a failed instance off the list."""
        self._signal(Signal.REMOVE)

    def measured(self, memory: ProcessMemory | None) -> None:
        """Note a measurement of its process, and how long it has been idle."""
        now = time.monotonic()
        idle = now - self._idle_since if self._idle_since is not None else None
        changes: dict[str, object] = {"idle_s": idle}
        if memory is not None:
            changes.update(
                measured_bytes=_held(memory),
                private_bytes=memory.private_bytes,
                peak_bytes=max(memory.peak_bytes or memory.rss_bytes, self.record.peak_bytes or 0),
            )
        self._update(**changes)

    # The record

    def _update(self, **changes: Any) -> None:
        record = replace(self.record, **changes)
        if record != self.record:
            self.record = record
            self._on_change(record)

    def _signal(self, signal: Signal, **changes: Any) -> None:
        self._update(state=after(self.record.state, signal), **changes)

    def _count(self) -> None:
        self._update(requests=len(self._waiting) + (self._current is not None))

    # The owner task

    async def _own(self, work: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait({work})
        finally:
            work.cancel()
            await asyncio.wait({work})
            await self._finish(work)
        bug = None if work.cancelled() else work.exception()
        if bug is not None and not isinstance(bug, DeckError):
            raise bug

    async def _load_and_serve(self) -> None:
        started = time.monotonic()
        process = await EngineProcess.start(self.record.engine, self._log)
        self._process = process
        self._update(pid=process.pid, stage="loading")
        loaded = await self._load(process)
        self._idle_since = time.monotonic()
        self._signal(
            Signal.LOADED,
            stage="",
            progress=1.0,
            load_s=time.monotonic() - started,
            context_length=loaded.context_length,
            engine_bytes=loaded.engine_bytes,
            idle_s=0.0,
        )
        self._settled.set()
        await self._serve(process)

    def _log(self, level: LogLevel, text: str) -> None:
        self._on_log(f"engine:{self.record.id}", level, text)

    async def _load(self, process: EngineProcess) -> Loaded:
        self._last_id += 1
        process.send(
            Load(
                id=self._last_id,
                path=self._path,
                options=self.record.options,
                default_context=self._settings.context_length,
            )
        )
        while True:
            try:
                async with asyncio.timeout(self._settings.load_stall_s or None):
                    report = await process.receive()
            except TimeoutError:
                raise EngineFailed(
                    f"The load made no progress for {self._settings.load_stall_s:g} s.",
                    "Check the disk, or raise runtime.load_stall_s.",
                    details=process.last_lines,
                ) from None
            match report:
                case Progress(stage=stage, fraction=fraction):
                    self._update(stage=stage, progress=fraction)
                case Loaded():
                    return report
                case Failed(error=error):
                    raise from_info(error)
                case _:
                    raise EngineFailed(f"The engine answered a load with {type(report).__name__}.")

    async def _serve(self, process: EngineProcess) -> None:
        """Answer requests until there is a reason to stop."""
        gone = asyncio.create_task(process.wait())
        gone.add_done_callback(lambda _: self._wake.set())
        try:
            while self.live:
                if self._waiting:
                    await self._answer(process, self._waiting.popleft())
                elif process.gone:
                    await process.receive()  # raises why
                else:
                    await self._rest()
        finally:
            gone.cancel()

    async def _rest(self) -> None:
        """Wait for something to do; after the idle time, wish to stop."""
        if self.record.state is InstanceState.BUSY:
            self._idle_since = time.monotonic()
            self._signal(Signal.REST, idle_s=0.0)
        ttl = self.record.options.idle_ttl_s
        ttl = self._settings.idle_ttl_s if ttl is None else ttl
        self._wake.clear()
        try:
            async with asyncio.timeout(ttl or None):
                await self._wake.wait()
        except TimeoutError:
            self._log("info", f"unloaded after {ttl:g} s without a request")
            self.stop(0)

    async def _answer(self, process: EngineProcess, job: Job[Any]) -> None:
        """Have one job answered. Raises EngineFailed when the process ends over it."""
        self._last_id += 1
        job.id = self._last_id
        self._current, self._idle_since = job, None
        if self.record.state is InstanceState.READY:
            self._signal(Signal.WORK, idle_s=None)
        try:
            process.send(job.command(job.id))
        except InvalidRequest as error:  # too long: the engine never saw it
            job.fail(error)
        else:
            await self._relay(process, job)
        finally:
            self._current = None
            self._count()

    async def _relay(self, process: EngineProcess, job: Job[Any]) -> None:
        """Pass on what the engine says until the job is over."""
        try:
            while not await self._pass_on(await process.receive(), job):
                pass
        except asyncio.CancelledError:
            job.fail(Cancelled(f"{self.record.unique} was unloaded."))
            raise
        except DeckError as error:  # the process ended over it
            job.fail(error)
            raise

    async def _pass_on(self, report: AnyReport, job: Job[Any]) -> bool:
        """Pass on one report; says whether the job is over."""
        match report:
            case Text(text=text, logprobs=logprobs):
                await job.put(Chunk(text=text, logprobs=logprobs))
                return False
            case Vector(values=values, tokens=tokens):
                await job.put(TextVector(values=values, tokens=tokens))
                await job.finish()
            case Done():
                self._update(
                    tokens_per_s=report.tokens_per_s,
                    time_to_first_token_s=report.time_to_first_token_s,
                    engine_bytes=report.engine_bytes,
                    engine_peak_bytes=report.engine_peak_bytes,
                )
                await job.put(_last_chunk(report))
                await job.finish()
            case Failed(error=ErrorInfo(code=Cancelled.code)) if isinstance(job, Answer):
                # Cut short by unloading: what came so far is still an answer.
                await job.put(Chunk(finish_reason="cancelled"))
                await job.finish()
            case Failed(error=error):
                await job.finish(from_info(error))
            case _:
                raise EngineFailed(f"The engine answered a request with {type(report).__name__}.")
        return True

    # The end

    async def _finish(self, work: asyncio.Task[None]) -> None:
        """End the process, say what came back, and tell everybody who waits."""
        for timer in self._timers:
            timer.cancel()
        error = None if work.cancelled() else work.exception()
        stopping = self.record.state is InstanceState.STOPPING
        started = time.monotonic()
        before, after_, gone = await self._end_process()
        self._receipt = UnloadReceipt(
            instance_id=self.record.id,
            model_id=self.record.model_id,
            unique=self.record.unique,
            before_bytes=before,
            after_bytes=after_,
            freed_bytes=None if before is None or after_ is None else before - after_,
            seconds=time.monotonic() - started,
            process_gone=gone,
        )
        ended: dict[str, Any] = {"pid": None, "requests": 0, "idle_s": None, "stage": ""}
        if stopping:
            self._signal(Signal.GONE, measured_bytes=after_, **ended)
        else:
            known = _known(error)
            self._refuse_waiting(known)
            self._signal(Signal.FAIL, error=to_info(known), measured_bytes=None, **ended)
        self._settled.set()
        self._ended.set()

    async def _end_process(self) -> tuple[int | None, int | None, bool]:
        """End the process: bytes before, bytes after, and whether it is gone."""
        process = self._process
        if process is None:
            return None, 0, True
        memory = None if process.gone else await self._measure(process.pid)
        gone = await process.end()
        left = 0 if gone else _held(await self._measure(process.pid))
        self._lines, self._process = process.lines, None
        return _held(memory), left, gone


def _held(memory: ProcessMemory | None) -> int | None:
    """What a process holds: its share of shared pages, or its footprint, else all its pages."""
    if memory is None:
        return None
    known = (memory.pss_bytes, memory.footprint_bytes, memory.rss_bytes)
    return next(count for count in known if count is not None)


def _known(error: BaseException | None) -> DeckError:
    """The error to show: what was expected, or that something was not."""
    if isinstance(error, DeckError):
        return error
    return EngineFailed(f"The instance ended by a fault of modeldeck: {error!r}.")


def _last_chunk(done: Done) -> Chunk:
    return Chunk(
        finish_reason=done.reason,
        tool_calls=done.tool_calls,
        prompt_tokens=done.prompt_tokens,
        completion_tokens=done.completion_tokens,
        tokens_per_s=done.tokens_per_s,
        time_to_first_token_s=done.time_to_first_token_s,
    )
