"""An engine process that follows the script in each prompt, over the real pipes and messages.

It stands for an engine that answers several requests at once, for tests of the core's side. A
prompt is a series of words and numbers, carried out one turn at a time:

    say 3     three pieces of text        think 2   two pieces of thought
    read 5    five turns of a prompt      wait 1    a turn without its place in the cache
    big 9     pieces of 10 kB             endless   pieces until it is cancelled
    hold      nothing, until it is cancelled        deaf   nothing, and no cancel is heard
    gate      nothing, until the test calls `open_gate`
    die       the process kills itself    mute      the process stops itself (SIGSTOP)
    stuck     it reports itself as stuck

It is strict where the real one would fail: a command that is not in the protocol, a second model, a
request beyond `parallel`, or one to a model for embeddings ends it or fails, as there.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HOOK = """
import sys
if "modeldeck.core.runtime.child" in " ".join(sys.orig_argv):
    sys.path.insert(0, {root!r})
    from tests.support.scripted_engine import main
    main()
"""
TURN_S = 0.002
"""Seconds of a turn; each running request gets one piece in it."""
PIECE = "word "
BIG = "x" * 10_000
GATE = "gate is open"
"""The file that opens the gate."""
PARALLEL = 4
"""Requests at once where the options name no number."""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every engine process that is started from now on be this one."""
    root = str(Path(__file__).parent.parent.parent)
    (folder / "sitecustomize.py").write_text(HOOK.format(root=root))
    monkeypatch.setenv("PYTHONPATH", str(folder))


def hold_loads(folder: Path) -> Path:
    """Let no engine of `install` load a model while the file exists that this makes."""
    held = folder / "loads are held"
    held.touch()
    return held


def open_gate(folder: Path) -> None:
    """Let scripts pass their `gate`, in all engine processes that were installed by this folder."""
    (folder / GATE).touch()


@dataclass
class Script:
    """A running request, and what is left of its script."""

    number: int
    steps: deque[str]
    paused: bool = False
    said: int = 0
    read: int = 0
    thought: int = 0
    deaf: bool = False
    tokens: int = field(default=0)


def steps_of(prompt: str) -> deque[str]:
    """The single turns of a script."""
    found: deque[str] = deque()
    words = prompt.split()
    while words:
        word = words.pop(0)
        count = int(words.pop(0)) if words and words[0].isdigit() else 1
        found.extend([word] * count)
    return found


def main() -> None:
    """Run until standard input ends; never returns."""
    try:
        ScriptedEngine().run()
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(70)


class ScriptedEngine:
    """Reads commands, carries scripts out, writes reports."""

    def __init__(self) -> None:
        from modeldeck.core.runtime.process import messages
        from modeldeck.core.runtime.process.attachments import CommandDecoder

        self.messages = messages
        self.decoder = CommandDecoder()
        self.output = os.dup(1)
        os.dup2(2, 1)
        self.running: dict[int, Script] = {}
        self.embeddings: deque[messages.EmbedTexts] = deque()
        self.loaded: messages.ModelLoaded | None = None
        self.parallel = PARALLEL
        self.gate = Path(os.environ["PYTHONPATH"], GATE)

    def send(self, report: object) -> None:
        data = self.messages.frame(report)  # type: ignore[arg-type]  # any report
        while data:
            data = data[os.write(self.output, data) :]

    def fail(self, number: int, error: Exception, *, stuck: bool = False) -> None:
        from modeldeck.core.errors import DeckError
        from modeldeck.core.schema.errors import to_info

        assert isinstance(error, DeckError)
        self.send(self.messages.CommandFailed(id=number, error=to_info(error), stuck=stuck))

    def run(self) -> None:
        from modeldeck.core.schema import TextVector

        self.send(self.messages.EngineHello(protocol=self.messages.PROTOCOL, version="script"))
        alive_at = time.monotonic()
        while True:
            active = any(not script.paused for script in self.running.values())
            ready, _, _ = select.select([0], [], [], TURN_S if active else 0.2)
            if ready:
                data = os.read(0, 1 << 16)
                if not data:
                    os._exit(0)
                for command in self.decoder.feed(data):
                    self.handle(command)
            for script in list(self.running.values()):
                if not script.paused:
                    self.turn(script)
            if self.embeddings:
                command = self.embeddings.popleft()
                vectors = [
                    TextVector(values=(1.0, 0.0), tokens=len(text.split()))
                    for text in command.texts
                ]
                self.send(self.messages.TextsEmbedded(id=command.id, vectors=tuple(vectors)))
            if self.running and time.monotonic() - alive_at >= 1:
                alive_at = time.monotonic()
                self.send(self.messages.Alive())

    def handle(self, command: object) -> None:
        from modeldeck.core.schema import TokenizedText

        messages = self.messages
        match command:
            case messages.LoadModel():
                assert self.loaded is None, "a second model"
                assert command.turn_s > 0
                held = Path(str(sys.modules["sitecustomize"].__file__)).with_name("loads are held")
                while held.exists():
                    time.sleep(0.01)
                self.parallel = command.options.parallel or PARALLEL
                self.loaded = messages.ModelLoaded(
                    id=command.id,
                    context_length=command.options.context_length or command.default_context,
                    embedding=bool(command.options.embedding),
                    parallel=1 if command.options.embedding else self.parallel,
                    cache_tokens=command.options.cache_tokens or command.default_context,
                )
                self.send(self.loaded)
            case messages.PlanLoad():
                self.send(
                    messages.LoadPlanned(
                        id=command.id,
                        weights_bytes=100 << 20,
                        kv_bytes=(command.options.context_length or 0) << 10,
                        compute_bytes=1 << 20,
                        context_length=command.options.context_length or command.default_context,
                        vocabulary=1000,
                    )
                )
            case messages.GenerateText():
                self.generate(command.id, command.request)
            case messages.EmbedTexts():
                self.embeddings.append(command)
            case messages.TokenizeText():
                count = len((command.query.text or "").split())
                self.send(messages.TokensRead(id=command.id, found=TokenizedText(count=count)))
            case messages.CancelCommand():
                self.cancel(command.id)
            case messages.PauseRequest() | messages.ResumeRequest():
                if command.id in self.running:
                    paused = isinstance(command, messages.PauseRequest)
                    self.running[command.id].paused = paused
                    print(f"<6>{'pause' if paused else 'resume'} {command.id}", file=sys.stderr)
                    sys.stderr.flush()

    def generate(self, number: int, request: object) -> None:
        from modeldeck.core.errors import InvalidRequest
        from modeldeck.core.schema import GenerateRequest

        assert isinstance(request, GenerateRequest)
        assert self.loaded is not None, "no model"
        assert len(self.running) < self.parallel, "more requests than were promised"
        prompt = request.prompt or request.messages[-1].content
        if self.loaded.embedding:
            self.fail(number, InvalidRequest("This model makes embeddings."))
            return
        if len(prompt.split()) > self.loaded.context_length:
            self.fail(number, InvalidRequest("The prompt is longer than the context."))
            return
        script = Script(number, steps_of(prompt), tokens=len(prompt.split()))
        script.deaf = "deaf" in script.steps
        self.running[number] = script

    def cancel(self, number: int) -> None:
        from modeldeck.core.errors import Cancelled

        script = self.running.get(number)
        if script is not None and not script.deaf:
            del self.running[number]
            self.fail(number, Cancelled("The request was cancelled."))

    def turn(self, script: Script) -> None:
        messages, number = self.messages, script.number
        step = script.steps[0] if script.steps else "done"
        match step:
            case "say" | "big" | "endless":
                text = BIG if step == "big" else PIECE
                script.said += 1
                self.send(messages.TextPiece(id=number, text=text))
            case "think":
                script.thought += 1
                self.send(messages.TextPiece(id=number, text=PIECE, thought=True))
            case "read":
                script.read += 1
                total = script.read + sum(step == "read" for step in script.steps) - 1
                self.send(
                    messages.PromptProgress(
                        id=number, tokens=script.read, cached_tokens=1, total_tokens=total
                    )
                )
            case "wait":
                self.send(messages.RequestWaits(id=number, why="the cache is full"))
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "mute":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "stuck":
                from modeldeck.core.errors import InvalidRequest

                self.fail(number, InvalidRequest("The grammar took too long."), stuck=True)
                script.steps[0] = "deaf"
                return
            case "hold" | "deaf":
                return
            case "gate":
                if not self.gate.exists():
                    return
            case "done":
                self.done(script)
                return
            case _:
                raise ValueError(f"no such step: {step}")
        if step != "endless":
            script.steps.popleft()

    def done(self, script: Script) -> None:
        del self.running[script.number]
        self.send(
            self.messages.AnswerDone(
                id=script.number,
                reason="stop",
                prompt_tokens=script.tokens,
                completion_tokens=script.said + script.thought,
                cached_tokens=1 if script.read else 0,
                thought_tokens=script.thought,
                tokens_per_s=100.0,
                time_to_first_token_s=0.01,
            )
        )
