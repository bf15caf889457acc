"""The owner of one instance: the only one who talks to its process and changes its state.

Theory of operation. `Supervisor` has one task. It starts the process and loads the model, takes
requests one at a time (an engine's context serves one), and ends the process. Everybody else leaves
a wish: a job in the queue, a job given up, or the wish to stop. Stopping while it loads, or while
nothing runs, is at once: the task's work is cancelled, wherever it waits. A running answer has
`grace_s` to come to its end, then it is cancelled, and when even that is not heard, the work is.

A process that dies over an answer costs that answer. The model is loaded again by itself, once, and
whoever waits goes on waiting; dying again soon after is a failure, since there is a pattern in it.

The record is the truth for everybody: it is replaced, never changed, and told at every change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from modeldeck.core.concurrency import report_failure
from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import Cancelled, Conflict, DeckError, EngineFailed, InvalidRequest
from modeldeck.core.runtime.instance.lifecycle import LifecycleEvent, after
from modeldeck.core.runtime.instance.load_watchdog import next_report
from modeldeck.core.runtime.instance.receipt import held, nothing_held, receipt
from modeldeck.core.runtime.instance.relay import figures, give_up, pass_on, tokens
from modeldeck.core.runtime.instance.request import RequestStream
from modeldeck.core.runtime.instance.request_queue import RequestQueue
from modeldeck.core.runtime.process.engine_process import EngineProcess, LogLevel, NoAnswer
from modeldeck.core.runtime.process.messages import (
    AnyReport,
    CancelCommand,
    CommandFailed,
    LoadModel,
    LoadProgress,
    ModelLoaded,
)
from modeldeck.core.schema import (
    Instance,
    InstanceState,
    LoadOptions,
    ProcessMemory,
    UnloadReceipt,
)
from modeldeck.core.schema.errors import from_info, to_info

CANCEL_S = 5.0
"""How long a cancelled answer may take to end. On a CPU it needs milliseconds; a GPU is heard
between batches. After that the process is ended."""
DIES_AGAIN_S = 600.0
"""A process that dies over an answer is not started again within so long of the last time."""

Measure = Callable[[int], Awaitable[ProcessMemory | None]]


class Supervisor:
    """One instance and the task that owns it."""

    def __init__(
        self,
        record: Instance,
        path: str,
        settings: Settings,
        *,
        draft: str | None = None,
        measure: Measure,
        on_change: Callable[[Instance], None],
        on_log: Callable[[str, LogLevel, str], None],
    ) -> None:
        self.record = record
        self._path = path
        self._draft = draft
        self._settings = settings
        self._measure = measure
        self._on_change = on_change
        self._on_log = on_log
        self._process: EngineProcess | None = None
        self._lines: tuple[str, ...] = ()
        self._last_id = 0
        self._wake = asyncio.Event()
        self._waiting = RequestQueue(
            record.unique,
            settings.queue_length,
            on_count=lambda count: self._update(requests=count),
            cancel=self._send_cancel,
            wake=self._wake.set,
        )
        self._settled = asyncio.Event()
        self._ended = asyncio.Event()
        self._receipt: UnloadReceipt | None = None
        self._idle_since: float | None = None
        self._over_answer = False
        """Whether an answer was under way when the process was last heard of."""
        self._restarted_at = float("-inf")
        self._work: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    # Wishes, from anybody

    def start(self) -> asyncio.Task[None]:
        """Start the owner task. The caller keeps it, and waits for it in the end."""
        self._work = asyncio.create_task(self._load_and_serve())
        name = f"running {self.record.unique}"
        return asyncio.create_task(self._own(self._work), name=name)

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
        self._signal(LifecycleEvent.STOP)
        self._waiting.refuse(Conflict(f"{self.record.unique} is being unloaded."))
        if state is InstanceState.BUSY:
            loop = asyncio.get_running_loop()
            self._timers += [
                loop.call_later(grace_s, self._waiting.cancel),
                loop.call_later(grace_s + CANCEL_S, self._cancel_work),
            ]
        else:
            self._cancel_work()

    def change(self, options: LoadOptions) -> None:
        """Take other options as far as they are ours and not the engine's: pin and idle time."""
        before = self.record.options
        self._update(options=options)
        if (options.idle_ttl_s, options.pinned) != (before.idle_ttl_s, before.pinned):
            self._wake.set()  # the new time counts from now

    @contextmanager
    def asking(self, job: RequestStream[Any]) -> Iterator[None]:
        """Put a job in the queue; leaving the block gives it up. Raises Busy, or Conflict."""
        if not self.live:
            raise Conflict(f"{self.record.unique} is {self.record.state}.", "Load the model again.")
        with self._waiting.asking(job):
            yield

    def _send_cancel(self, job: RequestStream[Any]) -> None:
        if self._process is not None:
            self._process.send(CancelCommand(id=job.id))

    def _cancel_work(self) -> None:
        if self._work is not None:
            self._work.cancel()

    def remove(self) -> None:
        """Take a failed instance off the list."""
        self._signal(LifecycleEvent.REMOVE)

    def measured(self, memory: ProcessMemory | None) -> None:
        """Note a measurement of its process, and how long it has been idle."""
        now = time.monotonic()
        idle = now - self._idle_since if self._idle_since is not None else None
        changes: dict[str, object] = {"idle_s": idle}
        if memory is not None:
            changes.update(
                measured_bytes=held(memory),
                private_bytes=memory.private_bytes,
                mapped_bytes=memory.mapped_bytes,
                gpu_bytes=memory.gpu_bytes,
                peak_bytes=max(memory.peak_bytes or memory.rss_bytes, self.record.peak_bytes or 0),
            )
        self._update(**changes)

    # The record

    def _update(self, **changes: Any) -> None:
        record = replace(self.record, **changes)
        if record != self.record:
            self.record = record
            self._on_change(record)

    def _signal(self, signal: LifecycleEvent, **changes: Any) -> None:
        self._update(state=after(self.record.state, signal), **changes)

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
        while True:
            process = await self._loaded()
            try:
                await self._serve(process)
                return
            except EngineFailed as error:
                if not self._may_restart():
                    raise
                await self._begin_again(process, error)

    def _may_restart(self) -> bool:
        """Whether the process died over an answer, and not for the second time within a while."""
        recent = time.monotonic() - self._restarted_at < DIES_AGAIN_S
        return self._over_answer and self.record.state is InstanceState.BUSY and not recent

    async def _begin_again(self, process: EngineProcess, error: EngineFailed) -> None:
        """Clear away what is left of a process, before the next one is started."""
        self._restarted_at = time.monotonic()
        self._settled.clear()
        self._log("error", f"the model is loaded again, since its engine failed: {error}")
        self._signal(
            LifecycleEvent.RESTART,
            stage="starting again",
            progress=None,
            restarts=self.record.restarts + 1,
        )
        await process.end()
        self._update(pid=None, measured_bytes=None, private_bytes=None, mapped_bytes=None)

    async def _loaded(self) -> EngineProcess:
        """A process that has the model."""
        self._over_answer = False
        started = time.monotonic()
        process = await EngineProcess.start(self.record.engine, self._log)
        self._process = process
        self._update(pid=process.pid, stage="loading")
        loaded = await self._load(process)
        self._idle_since = time.monotonic()
        self._signal(
            LifecycleEvent.LOADED,
            stage="",
            progress=1.0,
            load_s=time.monotonic() - started,
            context_length=loaded.context_length,
            engine_bytes=loaded.engine_bytes,
            idle_s=0.0,
        )
        self._settled.set()
        return process

    def _log(self, level: LogLevel, text: str) -> None:
        self._on_log(f"engine:{self.record.id}", level, text)

    async def _load(self, process: EngineProcess) -> ModelLoaded:
        self._last_id += 1
        process.send(
            LoadModel(
                id=self._last_id,
                path=self._path,
                options=self.record.options,
                default_context=self._settings.context_length,
                draft=self._draft,
            )
        )
        while True:
            report = await next_report(process, self._settings.load_stall_s)
            match report:
                case LoadProgress(stage=stage, fraction=fraction):
                    self._update(stage=stage, progress=fraction)
                case ModelLoaded():
                    return report
                case CommandFailed(error=error):
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
                    await self._answer(process)
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
            self._signal(LifecycleEvent.REST, idle_s=0.0)
        ttl = self.record.options.idle_ttl_s
        ttl = self._settings.idle_ttl_s if ttl is None else ttl
        if self.record.options.pinned:
            ttl = 0
        self._wake.clear()
        try:
            async with asyncio.timeout(ttl or None):
                await self._wake.wait()
        except TimeoutError:
            self._log("info", f"unloaded after {ttl:g} s without a request")
            self.stop(0)

    async def _answer(self, process: EngineProcess) -> None:
        """Have the first job answered. Raises EngineFailed when the process ends over it."""
        self._last_id += 1
        with self._waiting.next(self._last_id) as job:
            self._idle_since, self._over_answer = None, True
            if self.record.state is InstanceState.READY:
                self._signal(LifecycleEvent.WORK, idle_s=None)
            try:
                process.send(job.command(job.id))
            except InvalidRequest as error:  # too long: the engine never saw it
                job.fail(error)
            else:
                await self._relay(process, job)
        self._over_answer = False

    async def _relay(self, process: EngineProcess, job: RequestStream[Any]) -> None:
        """Pass on what the engine says until the job is over."""
        try:
            over = False
            while not over:
                report = await process.receive(self._settings.silence_s)
                if isinstance(report, CommandFailed) and report.stuck:
                    raise NoAnswer(report.error.message, asked=True)
                self._note(report)
                over = await pass_on(report, job)
        except asyncio.CancelledError:
            job.fail(Cancelled(f"{self.record.unique} was unloaded."))
            raise
        except NoAnswer as error:
            raise give_up(job, error, again=self._may_restart(), lines=process.last_lines) from None
        except DeckError as error:  # the process ended over it
            job.fail(error)
            raise

    def _note(self, report: AnyReport) -> None:
        """Keep what a report tells of the instance, before anybody can hear it."""
        if count := tokens(report):
            most = max(self.record.context_used or 0, count)
            self._update(context_used=most, **figures(report))

    # The end

    async def _finish(self, work: asyncio.Task[None]) -> None:
        """End the process, say what came back, and tell everybody who waits.

        Those who wait are told even when something here fails: a core that ends waits for it.
        """
        for timer in self._timers:
            timer.cancel()
        try:
            await self._end(work)
        finally:
            self._receipt = self._receipt or self._unknown_receipt()
            self._settled.set()
            self._ended.set()

    async def _end(self, work: asyncio.Task[None]) -> None:
        error = None if work.cancelled() else work.exception()
        stopping = self.record.state is InstanceState.STOPPING
        started = time.monotonic()
        before, after_, gone = await self._end_process()
        self._receipt = receipt(
            self.record, before, after_, seconds=time.monotonic() - started, gone=gone
        )
        ended: dict[str, Any] = {"pid": None, "requests": 0, "idle_s": None, "stage": ""}
        if stopping:
            self._signal(LifecycleEvent.GONE, measured_bytes=self._receipt.after_bytes, **ended)
        else:
            known = _known(error)
            self._log("error", f"failed: {known}")
            self._waiting.refuse(known)
            self._signal(LifecycleEvent.FAIL, error=to_info(known), measured_bytes=None, **ended)

    def _unknown_receipt(self) -> UnloadReceipt:
        """The receipt of an end that failed before anything could be measured."""
        gone = self._process is None or self._process.gone
        nothing = nothing_held(self.record)
        return replace(
            nothing, before_bytes=None, after_bytes=None, freed_bytes=None, process_gone=gone
        )

    async def _end_process(self) -> tuple[ProcessMemory | None, ProcessMemory | None, bool]:
        """End the process: its memory before, its memory after, and whether it is gone."""
        process = self._process
        if process is None:
            return None, None, True
        before = None if process.gone else await self._memory(process.pid)
        self.measured(before)  # the peak that the ledger keeps
        gone = await process.end()
        after_ = None if gone else await self._memory(process.pid)
        self._lines, self._process = process.lines, None
        return before, after_, gone

    async def _memory(self, pid: int) -> ProcessMemory | None:
        """What the process holds; None also where that cannot be measured: it is ended anyway."""
        try:
            return await self._measure(pid)
        except Exception as error:
            report_failure(f"measuring {self.record.unique}", error)
            return None


def _known(error: BaseException | None) -> DeckError:
    """The error to show: what was expected, or that something was not."""
    if isinstance(error, DeckError):
        return error
    # Its type alone: the text of an error may quote anything.
    return EngineFailed(
        f"The instance ended by a fault of modeldeck ({type(error).__name__}).",
        "Please report it; the log has the details.",
    )
