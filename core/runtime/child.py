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
from typing import BinaryIO

import msgspec

from modeldeck.core.errors import Cancelled, DeckError, EngineFailed
from modeldeck.core.runtime.engines.base import Engine, Flag
from modeldeck.core.runtime.engines.bounds import Bounded, Interrupted
from modeldeck.core.runtime.process.frames import FrameDecoder
from modeldeck.core.runtime.process.messages import (
    PROTOCOL,
    Alive,
    AnyCommand,
    CancelCommand,
    CommandFailed,
    EmbedText,
    EngineHello,
    EngineReport,
    GenerateText,
    LoadModel,
    LoadProgress,
    PlanLoad,
    TextPiece,
    command,
    frame,
)
from modeldeck.core.schema import TokenLogprob
from modeldeck.core.schema.errors import to_info

PR_SET_PDEATHSIG = 1
"""prctl(2): sets the signal sent when the thread that started this process ends."""
HEARTBEAT_S = 1.0
"""Seconds between two `Alive` reports while a command runs."""
COMMANDS_WAITING = 16
"""Size of the queue. The core sends one command at a time; more would be a bug."""


class Child:
    """Runs the commands of the core on one engine, and sends its reports."""

    def __init__(self, engine: Engine, flag: Flag, output: BinaryIO) -> None:
        self._engine = engine
        self._flag = flag
        self._output = output
        self._commands: queue.Queue[AnyCommand] = queue.Queue(COMMANDS_WAITING)
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._current = 0
        self._cancelled: set[int] = set()
        self._idle = threading.Event()
        """Set while no command runs."""
        self._busy = threading.Event()
        """Set while a command runs."""

    def run(self) -> None:
        """Send the hello and run commands until stdin ends; never returns."""
        try:
            self._send(self._engine.hello())
        except DeckError as error:
            self._send(EngineHello(protocol=PROTOCOL, error=to_info(error)))
        threading.Thread(target=self._read_commands, daemon=True).start()
        threading.Thread(target=self._send_heartbeats, daemon=True).start()
        while True:
            self._busy.clear()
            self._idle.set()
            message = self._commands.get()
            self._idle.clear()
            self._begin(message.id)
            self._busy.set()
            self._handle(message)

    def _send_heartbeats(self) -> None:
        """Send `Alive` while a command runs, and `CommandFailed` for one that is stuck."""
        watched: Bounded | None = None
        beats, reported = 0, False
        while True:
            self._busy.wait()
            time.sleep(HEARTBEAT_S)
            if not self._busy.is_set():
                continue
            self._send(Alive())
            bounded = self._flag.bounds.current
            if bounded is not watched:
                watched, beats, reported = bounded, 0, False
            beats += 1
            # Counted, not read from the clock: a process that was suspended is not stuck.
            if bounded is not None and not reported and bounded.is_stuck(beats * HEARTBEAT_S):
                reported = True
                self._send(
                    CommandFailed(id=self._current, error=to_info(bounded.too_long), stuck=True)
                )

    def _read_commands(self) -> None:
        """Read commands until stdin ends, then end the process, in any state."""
        try:
            self._queue_commands()
        except BaseException:  # no memory, as a rule: commands can no longer be read
            traceback.print_exc()
            os._exit(1)

    def _queue_commands(self) -> None:
        decoder = FrameDecoder()
        while data := os.read(0, 1 << 16):
            for payload in decoder.feed(data):
                message = command(payload)
                if isinstance(message, CancelCommand):
                    self._cancel(message.id)
                else:
                    self._commands.put(message)
        if self._engine.cancel_limit_s:
            self._flag.set()
            self._idle.wait(self._engine.cancel_limit_s)
        os._exit(0)

    def _cancel(self, number: int) -> None:
        with self._lock:
            if number == self._current:
                self._flag.set()
            elif number > self._current:
                self._cancelled.add(number)

    def _begin(self, number: int) -> None:
        with self._lock:
            self._current = number
            self._flag.clear()
            if number in self._cancelled:
                self._cancelled.discard(number)
                self._flag.set()

    def _handle(self, message: AnyCommand) -> None:
        try:
            self._run_command(message)
        except DeckError as error:
            self._send(CommandFailed(id=message.id, error=to_info(error)))
        except Interrupted as late:  # the signal came just after the work had ended
            self._send(CommandFailed(id=message.id, error=to_info(late.error)))
        except Exception as error:  # a bug fails this command only
            traceback.print_exc()
            # Libraries in C raise SystemError, or nothing at all, where memory runs out.
            known = EngineFailed(
                f"The engine failed: {type(error).__name__}: {error}",
                "Try again with more free memory; the log of the engine tells where it failed.",
            )
            self._send(CommandFailed(id=message.id, error=to_info(known)))

    def _run_command(self, message: AnyCommand) -> None:
        number = message.id
        if self._flag:
            raise Cancelled("The request was cancelled before it began.")
        match message:
            case LoadModel():

                def show(stage: str, fraction: float | None) -> None:
                    self._send(LoadProgress(id=number, stage=stage, fraction=fraction))

                loaded = self._engine.load(
                    message.path, message.options, message.default_context, show, message.draft
                )
                self._answer(number, loaded)
            case PlanLoad():
                planned = self._engine.plan(
                    message.path, message.options, message.default_context, message.draft
                )
                self._answer(number, planned)
            case GenerateText():

                def emit(text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
                    self._send(TextPiece(id=number, text=text, logprobs=logprobs))

                done = self._engine.generate(message.request, emit)
                self._answer(number, done)
            case EmbedText():
                self._answer(number, self._engine.embed(message.text))

    def _answer(self, number: int, answer: EngineReport) -> None:
        self._send(msgspec.structs.replace(answer, id=number))

    def _send(self, message: EngineReport) -> None:
        data = frame(message)
        with self._write_lock:
            self._output.write(data)
            self._output.flush()


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
