"""Starts queued requests on an engine process, and routes its reports to them.

Theory of operation. The owner of the instance calls `next_report` while requests run: it receives
one report and passes it to the request that its id names, without waiting for that request's
reader. Requests are started, paused and cancelled at once by whatever calls for it, since sending a
command never waits: at most `ModelLoaded.parallel` of them run, with prompts of at most a frame
each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from modeldeck.core.errors import DeckError, EngineFailed, InvalidRequest
from modeldeck.core.runtime.instance.crash import (
    CrashPlan,
    RunningRequest,
    after_crash,
    failed_alone,
)
from modeldeck.core.runtime.instance.relay import pass_on
from modeldeck.core.runtime.instance.request import RequestStream, slow_reader
from modeldeck.core.runtime.instance.request_queue import RequestQueue
from modeldeck.core.runtime.process.engine_process import EngineProcess, NoAnswer
from modeldeck.core.runtime.process.messages import (
    AnyReport,
    CancelCommand,
    CommandFailed,
    PauseRequest,
    ResumeRequest,
    TextPiece,
)

logger = logging.getLogger(__name__)


class RequestDispatcher:
    """The requests of one instance on its process. Attach the process once it has the model."""

    def __init__(
        self,
        *,
        silence_s: float,
        on_start: Callable[[], None],
        on_report: Callable[[AnyReport], None],
    ) -> None:
        """Make a dispatcher without a process.

        Args:
            silence_s: Seconds without a sign of life, while requests run, after which the process
                counts as stuck; 0 for no limit.
            on_start: Called before a request is started.
            on_report: Called with each report but text before its requester gets it.
        """
        self.queue: RequestQueue
        """Set by the owner; its callbacks are methods of this class."""
        self._silence_s = silence_s
        self._on_start = on_start
        self._on_report = on_report
        self._process: EngineProcess | None = None
        self._parallel = 0
        self._last_id = 0

    def new_id(self) -> int:
        """An id for a command that was not used before."""
        self._last_id += 1
        return self._last_id

    def attach(self, process: EngineProcess, parallel: int) -> None:
        """Start requests on this process, at most `parallel` at the same time."""
        self._process, self._parallel = process, parallel
        self.start_waiting()

    def detach(self) -> None:
        """Start no more requests."""
        self._process = None

    def start_waiting(self) -> None:
        """Start waiting requests while there is room."""
        process = self._process
        if process is None:
            return
        while (request := self.queue.start(self._last_id + 1, self._parallel)) is not None:
            self._last_id += 1
            self._on_start()
            request.note(state="prompt", place=None, why="")
            request.on_flow = self._flow_of(request, process)
            try:
                process.send(request.command(id=request.id))
            except InvalidRequest as error:  # too long: nothing was sent
                request.fail(error)
                self.queue.finish(request)

    def _flow_of(
        self, request: RequestStream[Any], process: EngineProcess
    ) -> Callable[[bool], None]:
        """What pauses and resumes a running request."""
        number = request.id

        def flow(paused: bool) -> None:
            if self.queue.running.get(number) is request:
                process.send(PauseRequest(id=number) if paused else ResumeRequest(id=number))

        return flow

    def cancel(self, request: RequestStream[Any]) -> None:
        """Ask the engine to cancel a running request."""
        if self._process is not None:
            self._process.send(CancelCommand(id=request.id))

    async def next_report(self) -> None:
        """Wait for one report of the process and route it.

        Raises EngineFailed when the process ended, and NoAnswer when it cannot be used any more.
        """
        assert self._process is not None
        report = await self._process.receive(self._limit_s)
        request = self.queue.running.get(report.id)
        if isinstance(report, CommandFailed) and report.stuck:
            raise NoAnswer(report.error.message, request=report.id)
        if request is None:
            logger.warning("The engine reports %s of no request.", type(report).__name__)
            return
        if not isinstance(report, TextPiece):  # of which there are hundreds a second
            self._on_report(report)
        complete, keeps_up = pass_on(report, request)
        if complete:
            self.queue.finish(request)
            self.start_waiting()
        elif not keeps_up:
            request.cancel(slow_reader(request))
        if request.suspect and request.pieces:
            request.suspect = False
            self.start_waiting()

    def _limit_s(self) -> float:
        """Seconds that the process may be silent; 0 while all that runs is paused."""
        running = self.queue.running.values()
        return 0.0 if all(request.paused for request in running) else self._silence_s

    def crash_plan(self, error: DeckError | NoAnswer, *, recent: bool, found: int) -> CrashPlan:
        """What is to be done after this failure of the process; arguments as of `after_crash`."""
        running = {
            number: RunningRequest(
                shown=request.ended or request.pieces > 0,
                again=request.again,
                suspect=request.suspect,
            )
            for number, request in self.queue.running.items()
        }
        cause = error.request if isinstance(error, NoAnswer) else 0
        return after_crash(running, cause=cause, recent=recent, found=found)

    def settle(
        self, error: DeckError | NoAnswer, plan: CrashPlan, lines: tuple[str, ...]
    ) -> DeckError:
        """End or take back the requests of a process that cannot be used any more.

        Returns the error of the process.

        Args:
            error: Why it cannot be used.
            plan: What is done.
            lines: The last lines of the log.
        """
        self.detach()
        again = [self.queue.running[number] for number in plan.again]
        told, others = self._errors(error, plan, lines)
        if plan.found:
            self.queue.clear_suspects()
        self.queue.take_back(again, suspects=plan.suspects)
        self.queue.fail_running(others)
        return told

    def _errors(
        self, error: DeckError | NoAnswer, plan: CrashPlan, lines: tuple[str, ...]
    ) -> tuple[DeckError, DeckError]:
        """The errors of the process, and of the requests that fail; its cause is told here."""
        if not isinstance(error, NoAnswer):
            message = failed_alone(error.message) if plan.found else error.message
            return error, EngineFailed(message, error.remedy, details=error.details)
        done = "Its process is ended"
        done += ", and the model is loaded again." if plan.restarts else ". Load the model again."
        told = EngineFailed(str(error), done, details=lines)
        if (cause := self.queue.running.get(error.request)) is None:
            return told, told
        cause.fail(InvalidRequest(str(error), done))
        return told, EngineFailed("The engine was held up by another request.", done)
