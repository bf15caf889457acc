"""Talks to an engine process message by message, with several requests in work at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from modeldeck.core.runtime.process.attachments import outgoing
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.runtime.process.messages import (
    AnswerDone,
    AnyReport,
    CancelCommand,
    CommandFailed,
    EngineReport,
    GenerateText,
    LoadModel,
    ModelLoaded,
    PauseRequest,
    PromptProgress,
    ResumeRequest,
    TextPiece,
)
from modeldeck.core.schema import Engine, GenerateRequest, LoadOptions

PATIENCE_S = 60.0


class EngineTalk:
    """An engine process, and all it has reported."""

    def __init__(self, process: EngineProcess) -> None:
        self.process = process
        self.reports: list[AnyReport] = []
        """All reports to requests, in order."""
        self.lines: list[tuple[str, str]] = []
        """Lines of its log: level and text."""
        self.loaded = ModelLoaded(context_length=0)
        self._last = 0

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        engine: Engine,
        path: Path,
        options: LoadOptions | None = None,
        **load: Any,
    ) -> AsyncIterator[EngineTalk]:
        """A process that has loaded a model, until the end of the block."""
        lines: list[tuple[str, str]] = []
        talk = cls(await EngineProcess.start(engine, lambda *line: lines.append(line)))
        talk.lines = lines
        try:
            command = {"default_context": 2048, "prefix_cache_bytes": 64 << 20, **load}
            number = talk._next()
            talk.process.send(
                LoadModel(id=number, path=str(path), options=options or LoadOptions(), **command)
            )
            async with asyncio.timeout(PATIENCE_S):
                while not isinstance(report := await talk.process.receive(), ModelLoaded):
                    assert not isinstance(report, CommandFailed), report.error
            talk.loaded = report
            yield talk
        finally:
            await talk.process.end()

    def _next(self) -> int:
        self._last += 1
        return self._last

    # Commands

    def ask(self, *requests: GenerateRequest) -> list[int]:
        """Send requests; return their numbers.

        All in one piece, so that none of them is far on its way when the next one comes.
        """
        commands = [GenerateText(id=self._next(), request=request) for request in requests]
        pieces = [bytes(piece) for command in commands for piece in outgoing(command)]
        self.process._pipes.write([b"".join(pieces)])
        return [command.id for command in commands]

    def cancel(self, number: int) -> None:
        """Cancel a request."""
        self.process.send(CancelCommand(id=number))

    def pause(self, number: int) -> None:
        """Have no more of a request."""
        self.process.send(PauseRequest(id=number))

    def resume(self, number: int) -> None:
        """Have more of it again."""
        self.process.send(ResumeRequest(id=number))

    # Reports

    async def until(self, holds: Callable[[], Any]) -> None:
        """Receive reports until something holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.reports.append(await self.process.receive())

    async def end_of(self, *numbers: int) -> None:
        """Receive reports until these requests are over."""
        await self.until(lambda: all(self.over(number) for number in numbers))

    async def says(self, *requests: GenerateRequest) -> list[str]:
        """The texts that answer requests, sent together."""
        numbers = self.ask(*requests)
        await self.end_of(*numbers)
        return [self.text(number) for number in numbers]

    def of(self, number: int) -> list[EngineReport]:
        """What was reported of a request."""
        return [report for report in self.reports if report.id == number]

    def over(self, number: int) -> AnswerDone | CommandFailed | None:
        """The last report of a request; None before it came."""
        ends = (AnswerDone, CommandFailed)
        return next((report for report in self.of(number) if isinstance(report, ends)), None)

    def done(self, number: int) -> AnswerDone:
        """The last report of a request that was answered."""
        end = self.over(number)
        assert isinstance(end, AnswerDone), end
        return end

    def failed(self, number: int) -> CommandFailed:
        """The last report of a request that failed."""
        end = self.over(number)
        assert isinstance(end, CommandFailed), end
        return end

    def text(self, number: int) -> str:
        """The text of a request so far."""
        return "".join(r.text for r in self.of(number) if isinstance(r, TextPiece))

    def read(self, number: int) -> list[int]:
        """How many tokens of its prompt were read, as it was told."""
        return [r.tokens for r in self.of(number) if isinstance(r, PromptProgress)]
