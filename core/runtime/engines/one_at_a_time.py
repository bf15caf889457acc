"""Makes an engine that answers one request at a time serve the interface of engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from modeldeck.core.errors import DeckError
from modeldeck.core.runtime.engines.base import Emit, ShowProgress
from modeldeck.core.runtime.process.messages import (
    AnswerDone,
    CommandFailed,
    EmbeddingVector,
    EngineHello,
    EngineReport,
    LoadModel,
    LoadPlanned,
    ModelLoaded,
    TextPiece,
)
from modeldeck.core.schema import GenerateRequest, LoadOptions, TokenLogprob
from modeldeck.core.schema.errors import to_info


class SerialEngine(Protocol):
    """An engine that answers a request in one call."""

    @property
    def cancel_limit_s(self) -> float:
        """As in `Engine`."""

    def hello(self) -> EngineHello:
        """As in `Engine`."""

    def load(self, command: LoadModel, show: ShowProgress) -> ModelLoaded:
        """As in `Engine`."""

    def plan(
        self, path: str, options: LoadOptions, default_context: int, draft: str | None = None
    ) -> LoadPlanned:
        """As in `Engine`."""

    def embed(self, text: str) -> EmbeddingVector:
        """As in `Engine`."""

    def generate(self, request: GenerateRequest, emit: Emit) -> AnswerDone:
        """Answer a request, piece by piece."""


class OneAtATime:
    """An engine whose turn is a whole answer; its pieces are sent meanwhile."""

    def __init__(self, engine: SerialEngine) -> None:
        self._engine = engine
        self._requests: dict[int, GenerateRequest] = {}
        self.send: Callable[[EngineReport], None] = lambda report: None
        """Sends a report at once."""
        self.hello = engine.hello
        self.load = engine.load
        self.plan = engine.plan
        self.embed = engine.embed

    @property
    def cancel_limit_s(self) -> float:
        """As in `Engine`; known once the engine has said hello."""
        return self._engine.cancel_limit_s

    def begin(self, number: int, request: GenerateRequest) -> None:
        """Take a request in."""
        self._requests[number] = request

    def cancel(self, number: int) -> None:
        """Forget a request."""
        self._requests.pop(number, None)

    def pause(self, number: int) -> None:
        """Do nothing: an answer is not interrupted."""

    def resume(self, number: int) -> None:
        """Do nothing."""

    @property
    def working(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self._requests)

    def step(self) -> list[EngineReport]:
        """Answer the request that came first."""
        number = min(self._requests)

        def emit(text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
            self.send(TextPiece(id=number, text=text, logprobs=logprobs))

        try:
            done = self._engine.generate(self._requests.pop(number), emit)
        except DeckError as error:
            return [CommandFailed(id=number, error=to_info(error))]
        return [msgspec.structs.replace(done, id=number)]

    def reset(self) -> None:
        """Forget all requests."""
        self._requests.clear()

    def close(self) -> None:
        """Do nothing: there is nothing to save."""
