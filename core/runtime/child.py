"""The engine process: `python -m modeldeck.core.runtime.child ENGINE PARENT_PID`.

Native code runs here and nowhere else. Commands come on stdin, reports go to a private copy of
stdout, and everything that prints, in Python or in C, goes to stderr, where it breaks no frame. A
second thread reads commands, so that `CancelCommand` is heard while native code runs (ctypes gives
up the interpreter lock around every call). A third one tells the core every second that the process
lives, and looks after native code that goes on far beyond its bounds.

The process never outlives the core: the end of stdin ends it at once, in the middle of anything
(but a GPU's work is cancelled first, and may end), and on Linux the kernel ends it with the core.
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
"""prctl(2): the signal that comes when the thread that started this process ends."""
BEAT_S = 1.0
"""Between two signs of life while something is worked on, in seconds."""
COMMANDS_WAITING = 16
"""The core sends one command at a time and its cancellation; more would be a bug."""


class Child:
    """One engine, its commands and its reports."""

    def __init__(self, engine: Engine, flag: Flag, output: BinaryIO) -> None:
        self._engine = engine
        self._flag = flag
        self._output = output
        self._commands: queue.Queue[AnyCommand] = queue.Queue(COMMANDS_WAITING)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._current = 0
        self._cancelled: set[int] = set()
        self._free = threading.Event()
        """Set while nothing is worked on."""
        self._busy = threading.Event()
        """The opposite."""

    def run(self) -> None:
        """Say hello and work until stdin ends; never returns."""
        try:
            self._send(self._engine.hello())
        except DeckError as error:
            self._send(EngineHello(protocol=PROTOCOL, error=to_info(error)))
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._show_life, daemon=True).start()
        while True:
            self._busy.clear()
            self._free.set()
            message = self._commands.get()
            self._free.clear()
            self._begin(message.id)
            self._busy.set()
            self._work(message)

    def _show_life(self) -> None:
        """Tell that the process lives, and when its work does not come to an end by itself."""
        watched: Bounded | None = None
        beats, told = 0, False
        while True:
            self._busy.wait()
            time.sleep(BEAT_S)
            if not self._busy.is_set():
                continue
            self._send(Alive())
            bounded = self._flag.bounds.current
            if bounded is not watched:
                watched, beats, told = bounded, 0, False
            beats += 1
            # Beats and not the clock: a process that was stopped for a while is not stuck.
            if bounded is not None and not told and bounded.is_stuck(beats * BEAT_S):
                told = True
                self._send(
                    CommandFailed(id=self._current, error=to_info(bounded.too_long), stuck=True)
                )

    def _read(self) -> None:
        """Hear commands until there are no more, then end the process whatever it is doing."""
        try:
            self._hear()
        except BaseException:  # whatever it is (no memory, as a rule), nobody would hear any more
            traceback.print_exc()
            os._exit(1)

    def _hear(self) -> None:
        decoder = FrameDecoder()
        while data := os.read(0, 1 << 16):
            for payload in decoder.feed(data):
                message = command(payload)
                if isinstance(message, CancelCommand):
                    self._cancel(message.id)
                else:
                    self._commands.put(message)
        if self._engine.patience_s:
            self._flag.set()
            self._free.wait(self._engine.patience_s)
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

    def _work(self, message: AnyCommand) -> None:
        try:
            self._do(message)
        except DeckError as error:
            self._send(CommandFailed(id=message.id, error=to_info(error)))
        except Interrupted as late:  # the signal came when its work was just over
            self._send(CommandFailed(id=message.id, error=to_info(late.error)))
        except Exception as error:  # a bug costs this command, and the core is told
            traceback.print_exc()
            # Libraries in C raise SystemError, or nothing at all, where memory runs out.
            known = EngineFailed(
                f"The engine failed: {type(error).__name__}: {error}",
                "Try again with more free memory; the log of the engine tells where it failed.",
            )
            self._send(CommandFailed(id=message.id, error=to_info(known)))

    def _do(self, message: AnyCommand) -> None:
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
        with self._writing:
            self._output.write(data)
            self._output.flush()


def claim_stdout() -> BinaryIO:
    """Keep stdout for reports: a private copy of it; what prints to it goes to stderr from now.

    Whoever would ask a person something finds nobody: stdin is for commands, read by its number.
    """
    sys.stdin = io.StringIO()
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb")


def die_with(parent: int) -> None:
    """Let the kernel end this process when the one that started it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
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
    except BaseException:  # threads of an engine could keep a process that is no use any more
        traceback.print_exc()
        os._exit(1)
