"""Supervisor of one instance: owns its process, its request queue and its state.

Theory of operation. `Supervisor` has one task, which starts the process, loads the model, receives
the reports and ends the process; it alone changes the state, but for the start of work. Requests
are started on the process by `RequestDispatcher`, as many at once as the engine answers. A stop
takes effect at once while the model loads or nothing runs: the task's work is cancelled, wherever
it waits. Running answers have `grace_s` to end; then they are cancelled, and `CANCEL_S` later the
work is.

When the process fails while requests run, the model is loaded again automatically, once. Requests
that have shown nothing yet are asked again, others fail, and waiting ones stay in the queue; a
second failure within `RESTART_GAP_S` makes the instance failed, since it would most likely repeat,
unless one request is found to be the cause (`modeldeck.core.runtime.instance.crash`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modeldeck.core.concurrency import report_failure
from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import Cancelled, Conflict, DeckError, EngineFailed
from modeldeck.core.runtime.instance.crash import CrashPlan
from modeldeck.core.runtime.instance.dispatcher import RequestDispatcher
from modeldeck.core.runtime.instance.instance_record import InstanceRecord
from modeldeck.core.runtime.instance.lifecycle import LifecycleEvent
from modeldeck.core.runtime.instance.load import (
    ModelFiles,
    load_command,
    load_model,
    loaded_fields,
)
from modeldeck.core.runtime.instance.receipt import receipt, unknown_receipt
from modeldeck.core.runtime.instance.request import RequestStream
from modeldeck.core.runtime.instance.request_queue import RequestQueue
from modeldeck.core.runtime.process.engine_log import LogLevel
from modeldeck.core.runtime.process.engine_process import EngineProcess, NoAnswer
from modeldeck.core.runtime.process.messages import (
    AnyReport,
    ModelLoaded,
    ShrinkCache,
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
"""Seconds that a cancelled answer may take to end; then the process is ended. A CPU needs
milliseconds; a GPU checks the cancel flag between batches."""
RESTART_GAP_S = 600.0
"""Seconds after a restart in which another failure is not followed by a restart."""

Measure = Callable[[int], Awaitable[ProcessMemory | None]]


class Supervisor:
    """One instance and the task that owns it."""

    def __init__(
        self,
        record: Instance,
        files: ModelFiles,
        settings: Settings,
        *,
        measure: Measure,
        on_change: Callable[[Instance], None],
        on_log: Callable[[str, LogLevel, str], None],
    ) -> None:
        self._record = InstanceRecord(record, on_change)
        self._files = files
        self._settings = settings
        self._measure = measure
        self._on_log = on_log
        self._process: EngineProcess | None = None
        self._lines: tuple[str, ...] = ()
        self._wake = asyncio.Event()
        self._dispatcher = RequestDispatcher(
            silence_s=settings.silence_s,
            on_start=self._record.work_begins,
            on_report=self._reported,
        )
        self._queue = self._dispatcher.queue = RequestQueue(
            record.unique,
            settings.queue_length,
            on_count=lambda requests, running: self._record.update(
                requests=requests, running=running
            ),
            cancel=self._dispatcher.cancel,
            wake=self._request_came,
        )
        self._load_done = asyncio.Event()
        self._ended = asyncio.Event()
        self._receipt: UnloadReceipt | None = None
        self._restarted_at = float("-inf")
        self._causes_found = 0
        """Requests found to be the cause of a crash, since the first of the recent restarts."""
        self._work: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []

    # Called by others

    def start(self) -> asyncio.Task[None]:
        """Start the owner task. The caller keeps it, and waits for it in the end."""
        self._work = asyncio.create_task(self._load_and_serve())
        name = f"running {self.record.unique}"
        return asyncio.create_task(self._supervise(self._work), name=name)

    @property
    def record(self) -> Instance:
        """What is known of it now."""
        return self._record.now

    @property
    def live(self) -> bool:
        """Whether it takes requests, now or once it is loaded."""
        return self.record.state.live

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines of its log."""
        return self._process.lines if self._process else self._lines

    async def ready(self) -> Instance:
        """Wait until it is loaded. Raises why the load failed: EngineFailed, Cancelled ..."""
        await self._load_done.wait()
        if self.record.error is not None:
            raise from_info(self.record.error)
        if self.record.state in (InstanceState.STOPPING, InstanceState.STOPPED):
            raise Cancelled(f"{self.record.unique} was unloaded.")
        return self.record

    async def ended(self) -> UnloadReceipt:
        """Wait until its process is gone, and return the receipt."""
        await self._ended.wait()
        assert self._receipt is not None
        return self._receipt

    def stop(self, grace_s: float) -> None:
        """Begin to unload it; running answers have `grace_s` to end, waiting ones are refused."""
        if not self.live:
            return
        self._record.transition(LifecycleEvent.STOP)
        self._queue.refuse(Conflict(f"{self.record.unique} is being unloaded."))
        if self._queue.running:
            self._call_later(grace_s, self._cancel_requests)
        else:
            self._cancel_work()

    def change(self, options: LoadOptions) -> None:
        """Take new options that the engine does not depend on: pin and idle time."""
        before = self.record.options
        self._record.update(options=options)
        if (options.idle_ttl_s, options.pinned) != (before.idle_ttl_s, before.pinned):
            self._wake.set()  # the idle time starts again

    def shrink_cache(self, keep_bytes: int, *, stays: bool) -> None:
        """Have the engine drop conversations that no request holds, beyond `keep_bytes`.

        Where it `stays`, the prefix cache holds no more as long as the model is loaded.
        """
        running = (InstanceState.READY, InstanceState.BUSY)
        if self._process is None or self.record.state not in running:
            return
        number = self._dispatcher.new_id()
        self._process.send(ShrinkCache(id=number, keep_bytes=keep_bytes, stays=stays))
        self._log("info", f"memory is short: the prefix cache keeps {keep_bytes} bytes")
        self._record.limit_cache(keep_bytes, stays=stays)

    @contextmanager
    def entered(self, request: RequestStream[Any]) -> Iterator[None]:
        """Queue a request; leaving the block cancels it. Raises Busy, or Conflict."""
        if not self.live:
            raise Conflict(f"{self.record.unique} is {self.record.state}.", "Load the model again.")
        with self._queue.entered(request):
            yield

    def _request_came(self) -> None:
        self._dispatcher.start_waiting()
        self._wake.set()

    def _cancel_requests(self) -> None:
        """Cancel what runs; the time to end counts from here, however late this came."""
        self._queue.cancel_running()
        self._call_later(CANCEL_S, self._cancel_work)

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, call))

    def _cancel_work(self) -> None:
        if self._work is not None:
            self._work.cancel()

    def remove(self) -> None:
        """Remove a failed instance from the list."""
        self._record.transition(LifecycleEvent.REMOVE)

    def measured(self, memory: ProcessMemory | None) -> None:
        """Record a measurement of its process, and its idle time."""
        self._record.measured(memory)

    # The task

    async def _supervise(self, work: asyncio.Task[None]) -> None:
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
            process = await self._start_and_load()
            try:
                await self._serve(process)
                return
            except (EngineFailed, NoAnswer) as error:
                plan = self._crash_plan(error)
                known = self._dispatcher.settle(error, plan, process.last_lines)
                if not plan.restarts:
                    raise known from None
                await self._clear_for_restart(process, known)

    def _crash_plan(self, error: EngineFailed | NoAnswer) -> CrashPlan:
        """What is done after a failure; without a restart where none of the requests is answered.

        While it is unloaded, nothing is asked again.
        """
        if self.record.state is not InstanceState.BUSY:
            return CrashPlan()
        recent = time.monotonic() - self._restarted_at < RESTART_GAP_S
        plan = self._dispatcher.crash_plan(error, recent=recent, found=self._causes_found)
        self._causes_found = self._causes_found + 1 if plan.found else 0
        return plan

    async def _clear_for_restart(self, process: EngineProcess, error: DeckError) -> None:
        """End what is left of a failed process, before the next one is started."""
        self._restarted_at = time.monotonic()
        self._load_done.clear()
        self._log("error", f"the model is loaded again, since its engine failed: {error}")
        self._record.transition(
            LifecycleEvent.RESTART,
            stage="starting again",
            progress=None,
            restarts=self.record.restarts + 1,
            slots=(),
        )
        await process.end()
        self._record.update(pid=None, measured_bytes=None, private_bytes=None, mapped_bytes=None)

    async def _start_and_load(self) -> EngineProcess:
        """Start a process and load the model in it."""
        started = time.monotonic()
        process = await EngineProcess.start(self.record.engine, self._log)
        self._process = process
        self._record.update(pid=process.pid, stage="loading")
        loaded = await self._load(process)
        load_s = time.monotonic() - started
        self._record.loaded(load_s=load_s, **loaded_fields(self.record, loaded))
        self._load_done.set()
        self._dispatcher.attach(process, loaded.parallel)
        return process

    def _log(self, level: LogLevel, text: str) -> None:
        self._on_log(f"engine:{self.record.id}", level, text)

    async def _load(self, process: EngineProcess) -> ModelLoaded:
        command = load_command(self._dispatcher.new_id(), self._files, self.record, self._settings)
        return await load_model(
            process,
            command,
            self._settings.load_stall_s,
            lambda stage, fraction: self._record.update(stage=stage, progress=fraction),
        )

    async def _serve(self, process: EngineProcess) -> None:
        """Answer requests until the instance stops. Raises EngineFailed when the process ends."""
        gone = asyncio.create_task(process.wait())
        gone.add_done_callback(lambda _: self._wake.set())
        try:
            while self.live or self._queue.running:
                if self._queue.running:
                    await self._dispatcher.next_report()
                elif process.gone:
                    await process.receive()  # raises why it ended
                else:
                    await self._wait_for_work()
        finally:
            gone.cancel()

    async def _wait_for_work(self) -> None:
        """Wait for a request; after the idle time, stop."""
        self._record.work_ends()
        ttl = self.record.options.idle_ttl_s
        ttl = self._settings.idle_ttl_s if ttl is None else ttl
        if self.record.options.pinned:
            ttl = 0
        self._wake.clear()
        try:
            async with asyncio.timeout(ttl or None):
                await self._wake.wait()
        except TimeoutError:
            if self._wake.is_set():  # a request came at the very end of the time
                return
            self._log("info", f"unloaded after {ttl:g} s without a request")
            self.stop(0)

    def _reported(self, report: AnyReport) -> None:
        """Put a report's figures into the record, before the requester gets the report."""
        self._record.reported(report, self._queue.running.get(report.id))

    # The end

    async def _finish(self, work: asyncio.Task[None]) -> None:
        """End the process, make the receipt, and wake those who wait for the end.

        They are woken even when a step here fails: a core that ends waits for it.
        """
        for timer in self._timers:
            timer.cancel()
        try:
            await self._end(work)
        finally:
            gone = self._process is None or self._process.gone
            self._receipt = self._receipt or unknown_receipt(self.record, gone=gone)
            self._load_done.set()
            self._ended.set()

    async def _end(self, work: asyncio.Task[None]) -> None:
        error = None if work.cancelled() else work.exception()
        stopping = self.record.state is InstanceState.STOPPING
        self._dispatcher.detach()
        self._queue.fail_running(
            Cancelled(f"{self.record.unique} was unloaded.") if stopping else _as_deck_error(error)
        )
        started = time.monotonic()
        before, after_, gone = await self._end_process()
        self._receipt = receipt(
            self.record, before, after_, seconds=time.monotonic() - started, gone=gone
        )
        ended: dict[str, Any] = {"pid": None, "idle_s": None, "stage": ""}
        ended |= {"requests": 0, "running": 0, "slots": ()}
        if stopping:
            self._record.transition(
                LifecycleEvent.GONE, measured_bytes=self._receipt.after_bytes, **ended
            )
        else:
            known = _as_deck_error(error)
            ended |= {"error": to_info(known), "measured_bytes": None}
            self._log("error", f"failed: {known}")
            self._queue.refuse(known)
            self._record.transition(LifecycleEvent.FAIL, **ended)

    async def _end_process(self) -> tuple[ProcessMemory | None, ProcessMemory | None, bool]:
        """End the process; return its memory before and after, and whether it is gone."""
        process = self._process
        if process is None:
            return None, None, True
        before = None if process.gone else await self._memory(process.pid)
        self.measured(before)  # the peak goes into the load history
        gone = await process.end()
        after_ = None if gone else await self._memory(process.pid)
        self._lines, self._process = process.lines, None
        return before, after_, gone

    async def _memory(self, pid: int) -> ProcessMemory | None:
        """Memory of the process; None when measuring fails, since it is ended anyway."""
        try:
            return await self._measure(pid)
        except Exception as error:
            report_failure(f"measuring {self.record.unique}", error)
            return None


def _as_deck_error(error: BaseException | None) -> DeckError:
    """The error to show: an expected one as it is, a bug by its type."""
    if isinstance(error, DeckError):
        return error
    # Only its type: the text of an error may quote a secret.
    return EngineFailed(
        f"The instance ended by a fault of modeldeck ({type(error).__name__}).",
        "Please report it; the log has the details.",
    )
