"""The engine process: `python -m modeldeck.core.runtime.child ENGINE PARENT_PID`.

Native code of engines runs only here. Commands come on stdin, reports go to a private copy of
stdout, and everything that prints, in Python or in C, goes to stderr, where it breaks no frame. A
second thread reads commands, so that `CancelCommand` takes effect while native code runs (ctypes
releases the interpreter lock around every call). A third thread sends `Alive` every second, and
reports native code that runs far beyond its bounds.

The process never outlives the core: the end of stdin ends it at once, in any state (but work on
a GPU is cancelled first, and has time to end), and on Linux the kernel ends it with the core.
"""

from __future__ import annotations

import ctypes
import io
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Collection, Iterable
from typing import BinaryIO

import msgspec

from modeldeck.core.errors import Cancelled, DeckError, EngineFailed
from modeldeck.core.runtime.engines.base import Engine, Flag
from modeldeck.core.runtime.engines.bounds import Bounded, Interrupted
from modeldeck.core.runtime.process.attachments import CommandDecoder
from modeldeck.core.runtime.process.messages import (
    PROTOCOL,
    Alive,
    AnswerDone,
    AnyCommand,
    CancelCommand,
    CommandFailed,
    EmbedTexts,
    EngineHello,
    EngineReport,
    GenerateText,
    LoadModel,
    LoadProgress,
    PauseRequest,
    PlanLoad,
    RankTexts,
    ResumeRequest,
    ShrinkCache,
    TextsEmbedded,
    TextsRanked,
    TokenizeText,
    TokensRead,
    frame,
)
from modeldeck.core.runtime.process.report_writer import ReportWriter
from modeldeck.core.schema.errors import to_info

PR_SET_PDEATHSIG = 1
"""prctl(2): sets the signal sent when the thread that started this process ends."""
HEARTBEAT_S = 1.0
"""Seconds between two `Alive` reports while a command runs."""
TOGETHER = (GenerateText, EmbedTexts, RankTexts, TokenizeText)
"""Commands that begin while others run."""
ENDS = (AnswerDone, TextsEmbedded, TextsRanked, TokensRead, CommandFailed)
"""The last reports of requests."""
COMMANDS_WAITING = 256
"""Size of the queue. The core sends the requests that run at once, and a few commands for each."""


class Child:
    """Runs the commands of the core on one engine, and sends its reports.

    The main thread does everything: it takes commands in, and has the engine do turn after turn as
    long as requests are in work. Requests run together, and tokens are told between their
    turns; any other command runs alone. The thread that reads commands notes cancellations at once;
    the main thread heeds them between two turns, and sooner where all that is in work is cancelled,
    by the flag.
    """

    def __init__(self, engine: Engine, flag: Flag, output: BinaryIO) -> None:
        self._engine = engine
        self._flag = flag
        self.reports = ReportWriter(output)
        """What the core is told."""
        self._inbox: queue.Queue[AnyCommand | None] = queue.Queue(COMMANDS_WAITING)
        """Commands; None where the core has hung up."""
        self._waiting: deque[AnyCommand] = deque()
        """Commands that were taken from the inbox and not begun."""
        self._paused: set[int] = set()
        """Requests in work, or about to be, that are paused."""
        self._lock = threading.Lock()
        """Guards the attributes below, which both threads use."""
        self._current = 0
        """The command that is being handled; 0 for none."""
        self._newest = 0
        """The command that was handled last."""
        self._running: set[int] = set()
        """Requests that the engine has taken in."""
        self._cancelled: set[int] = set()
        """Commands that are cancelled and not over."""
        self._hung_up = False
        """Whether the core is gone."""
        self._over = threading.Event()
        """Set when the core has hung up and the engine is closed."""
        self._busy = threading.Event()
        """Set while a command runs."""

    def run(self) -> None:
        """Send the hello and run commands until stdin ends; never returns."""
        try:
            self.reports.send(self._engine.hello())
        except DeckError as error:
            self.reports.send(EngineHello(protocol=PROTOCOL, error=to_info(error)))
        threading.Thread(target=self._read_commands, daemon=True).start()
        threading.Thread(target=self._send_heartbeats, daemon=True).start()
        while True:
            self._take_commands(wait=not self._engine.working and not self._may_begin())
            self._begin_commands()
            if self._engine.working:
                self._step()

    # Commands

    def _take_commands(self, *, wait: bool) -> None:
        """Take all commands that have come; `wait` for one where nothing is in work."""
        self._drop_cancelled()
        if wait and not self._waiting and not self._running:
            self._busy.clear()
        while wait or not self._inbox.empty():
            self.reports.flush()  # what follows may take long
            message = self._inbox.get()
            self._busy.set()
            wait = False
            match message:
                case None:
                    self._close()
                case CancelCommand():
                    self._drop_cancelled()
                case PauseRequest(id=number):
                    self._pause(number)
                case ResumeRequest(id=number):
                    self._paused.discard(number)
                    self._engine.resume(number)
                case ShrinkCache(keep_bytes=keep_bytes, stays=stays):
                    self._engine.shrink_cache(keep_bytes, stays=stays)
                case _:
                    self._waiting.append(message)

    def _pause(self, number: int) -> None:
        """Pause a request that is in work, or waits to be taken in."""
        if number in self._running or any(message.id == number for message in self._waiting):
            self._paused.add(number)
            self._engine.pause(number)

    def _close(self) -> None:
        """Close the engine; the other thread ends the process then."""
        self._drop_cancelled()
        try:
            self._engine.close()
        except Exception as error:  # a bug
            traceback.print_exception(error)
        self._over.set()
        threading.Event().wait()

    def _begin_commands(self) -> None:
        """Carry out the commands that may begin, but one count of tokens between two turns at most.

        Otherwise answers would wait as long as texts to count keep coming.
        """
        while self._may_begin():
            self.reports.flush()  # what follows may take long
            message = self._waiting.popleft()
            self._handle(message)
            self._take_commands(wait=False)
            if isinstance(message, TokenizeText) and self._engine.working:
                return

    def _may_begin(self) -> bool:
        """Whether the first command that waits may begin."""
        return bool(self._waiting) and (isinstance(self._waiting[0], TOGETHER) or not self._running)

    def _handle(self, message: AnyCommand) -> None:
        number = message.id
        with self._lock:
            self._current = self._newest = number
            self._settle_flag()
        self._flag.bounds.number = number
        try:
            if self._flag.command_cancelled:
                raise Cancelled("The request was cancelled before it began.")
            self._run_command(message)
        except DeckError as error:
            self._fail([number], error)
        except Interrupted as late:  # the signal came just after the work had ended
            self._fail([number], late.error)
        except Exception as error:  # a bug fails this command only
            self._fail([number], unexpected(error))
        finally:
            with self._lock:
                self._current = 0
                if number not in self._running:
                    self._cancelled.discard(number)
                    self._paused.discard(number)
                self._settle_flag()

    def _run_command(self, message: AnyCommand) -> None:
        number = message.id
        match message:
            case LoadModel():

                def show(stage: str, fraction: float | None) -> None:
                    self.reports.send(LoadProgress(id=number, stage=stage, fraction=fraction))

                self._answer(number, self._engine.load(message, show))
            case PlanLoad():
                self._answer(number, self._engine.plan(message))
            case TokenizeText():
                found = self._engine.tokenize(number, message.query)
                if found is not None:
                    self._answer(number, found)
                else:  # its images are taken in between turns, as those of requests for text
                    self._took_in(number)
            case GenerateText() | EmbedTexts() | RankTexts():
                if isinstance(message, GenerateText):
                    self._engine.begin(number, message.request)
                else:
                    self._engine.begin_texts(number, message)
                self._took_in(number)

    def _took_in(self, number: int) -> None:
        """Note that the engine has taken a request in, which may be paused by now."""
        if number in self._paused:
            self._engine.pause(number)
        with self._lock:
            self._running.add(number)

    # Turns

    def _step(self) -> None:
        """Have the engine do a turn, and send its reports; text may wait for that of the next."""
        try:
            reports = self._engine.step()
        except DeckError as error:
            self._fail_running(error)
        except Interrupted as late:  # as above
            self._fail_running(late.error)
        except Exception as error:  # a bug fails the requests in work
            self._fail_running(unexpected(error))
            self._engine.reset()
        else:
            if ended := {report.id for report in reports if isinstance(report, ENDS)}:
                self._forget(ended)
            self.reports.send_turn(reports)

    def _fail_running(self, error: DeckError) -> None:
        numbers = sorted(self._running)
        for number in numbers:
            self._engine.cancel(number)
        self._forget(numbers)
        self._fail(numbers, error)

    def _drop_cancelled(self) -> None:
        """End the requests in work that are cancelled."""
        with self._lock:
            gone = set(self._running) if self._hung_up else self._running & self._cancelled
        if gone:
            for number in gone:
                self._engine.cancel(number)
            self._forget(gone)
            self._fail(sorted(gone), Cancelled("The request was cancelled."))

    def _forget(self, numbers: Collection[int]) -> None:
        """Note that requests are over."""
        self._paused.difference_update(numbers)
        with self._lock:
            self._running.difference_update(numbers)
            self._cancelled.difference_update(numbers)
            self._settle_flag()

    def _settle_flag(self) -> None:
        """Set the flag where all that is in work is cancelled; the lock is held."""
        work = self._running | {self._current} if self._current else self._running
        self._flag.command_cancelled = self._current in self._cancelled
        if self._hung_up or (work and work <= self._cancelled):
            self._flag.set()
        else:
            self._flag.clear()

    # Other threads

    def _send_heartbeats(self) -> None:
        """Send `Alive` while a command runs, and `CommandFailed` for one that is stuck."""
        watched: Bounded | None = None
        beats, reported = 0, False
        while True:
            self._busy.wait()
            time.sleep(HEARTBEAT_S)
            if not self._busy.is_set():
                continue
            self.reports.send(Alive())
            bounded = self._flag.bounds.current
            if bounded is not watched:
                watched, beats, reported = bounded, 0, False
            beats += 1
            # Counted, not read from the clock: a process that was suspended is not stuck.
            if bounded is not None and not reported and bounded.is_stuck(beats * HEARTBEAT_S):
                reported = True
                error = to_info(bounded.too_long)
                self.reports.send(CommandFailed(id=bounded.number, error=error, stuck=True))

    def _read_commands(self) -> None:
        """Read commands until stdin ends, then end the process, in any state."""
        try:
            self._queue_commands()
        except BaseException:  # no memory, as a rule: commands can no longer be read
            traceback.print_exc()
            os._exit(1)

    def _queue_commands(self) -> None:
        decoder = CommandDecoder()
        while data := os.read(0, 1 << 16):
            for message in decoder.feed(data):
                if isinstance(message, CancelCommand):
                    self._note_cancelled(message.id)
                self._inbox.put(message)
        if limit_s := self._engine.cancel_limit_s:
            with self._lock:
                self._hung_up = True
                self._settle_flag()
            self._inbox.put(None)
            self._over.wait(limit_s)
        os._exit(0)

    def _note_cancelled(self, number: int) -> None:
        with self._lock:
            if number in self._running or number == self._current or number > self._newest:
                self._cancelled.add(number)
                self._settle_flag()

    # Reports

    def _answer(self, number: int, answer: EngineReport) -> None:
        self.reports.send(msgspec.structs.replace(answer, id=number))

    def _fail(self, numbers: Iterable[int], error: DeckError) -> None:
        self.reports.send(*(CommandFailed(id=number, error=to_info(error)) for number in numbers))


def unexpected(error: Exception) -> EngineFailed:
    """The failure to report for a bug, whose traceback goes to the log."""
    traceback.print_exception(error)
    # Libraries in C raise SystemError, or nothing at all, where memory runs out.
    return EngineFailed(
        f"The engine failed: {type(error).__name__}: {error}",
        "Try again with more free memory; the log of the engine tells where it failed.",
    )


def claim_stdout() -> BinaryIO:
    """Return a private copy of stdout for reports; what prints to stdout goes to stderr from now.

    `sys.stdin` becomes empty, so that no library waits for input: commands are read from file
    descriptor 0.
    """
    sys.stdin = io.StringIO()
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb")


def die_with(parent: int) -> None:
    """Let the kernel end this process when the one that started it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(0)


def main(engine: str, parent: str) -> None:
    """Run the engine of this name for the process with this id."""
    die_with(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the front end
    output = claim_stdout()
    flag = Flag()
    match engine:
        case "llama.cpp":
            from modeldeck.core.runtime.engines.llama.engine import LlamaEngine

            Child(LlamaEngine(flag), flag, output).run()
        case "mlx":
            from modeldeck.core.runtime.engines.mlx.engine import MlxEngine

            Child(MlxEngine(flag), flag, output).run()
        case _:
            error = EngineFailed(f"There is no engine {engine!r}.")
            output.write(frame(EngineHello(protocol=PROTOCOL, error=to_info(error))))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BaseException:  # threads of an engine would keep the process alive
        traceback.print_exc()
        os._exit(1)
