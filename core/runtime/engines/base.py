"""The interface of an engine in its child process, and the limits that all engines share."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Literal, Protocol

from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.runtime.process.messages import (
    AnswerDone,
    EmbeddingVector,
    EngineHello,
    LoadPlanned,
    ModelLoaded,
)
from modeldeck.core.schema import GenerateRequest, LoadOptions, TokenLogprob

ShowProgress = Callable[[str, float | None], None]
"""Called with the stage and the fraction that is done."""

Emit = Callable[[str, tuple[TokenLogprob, ...]], None]
"""Called with each piece of text, never empty, and the probabilities of its tokens."""

Level = Literal["debug", "info", "warning", "error"]

MARKS: dict[Level, bytes] = {"debug": b"<7>", "info": b"<6>", "warning": b"<4>", "error": b"<3>"}
"""Prefixes of lines on stderr that give their level to the core, as in sd-daemon(3)."""

TEMPLATE_S = 5.0
"""Processor seconds for rendering a conversation by a chat template: normally milliseconds."""
TEMPLATE_BYTES = 512 << 20
"""Memory that a template may take meanwhile: normally some megabytes."""
GRAMMAR_S = 5.0
"""Processor seconds for making a grammar of a schema and checking it: less than one for the largest
that are accepted."""
READ_GRAMMAR_S = 30.0
"""Processor seconds for an engine to parse a grammar, and the vocabulary where it has to."""
TOKENS_S = 30.0
"""Processor seconds for tokenizing a text: about one for a megabyte."""

PENALTY_WINDOW = 64
"""Tokens that the penalties look back at: llama.cpp's default."""


def say(level: Level, text: str) -> None:
    """Write a line to the engine's log."""
    os.write(2, MARKS[level] + text.encode("utf-8", "replace") + b"\n")


class Flag:
    """A cancel flag that one thread sets and native code reads.

    It is a C string, empty or of length 1. So `strlen` itself can serve as a callback that asks
    whether to give up: llama.cpp asks before every node of its graph, and calling back into Python
    a thousand times per token would cost more than the token.
    """

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        self.bounds = Bounds(self.__bool__)
        """Bounds of the work before the first token, which this flag cancels as well."""

    def set(self) -> None:
        """Ask for the running work to be cancelled."""
        self._text[0] = b"\x01"

    def clear(self) -> None:
        """Reset it for new work."""
        self._text[0] = b"\x00"

    def __bool__(self) -> bool:
        return self._text[0] != b"\x00"

    @property
    def address(self) -> int:
        """Address of the C string, valid as long as this object exists."""
        return ctypes.addressof(self._text)


class Engine(Protocol):
    """An engine in its own process. Methods are called one at a time, on the main thread.

    They raise `modeldeck.core.errors` classes; `Cancelled` when `flag` was set and the work was
    given up. Any other exception is a bug of ours or of the engine, and the child reports it as a
    failure.
    """

    cancel_limit_s: float
    """Seconds that running work may take to end, once cancelled, when the core is gone."""

    def hello(self) -> EngineHello:
        """Import the engine; return version and devices. Raises EngineMissing if not installed."""

    def load(
        self,
        path: str,
        options: LoadOptions,
        default_context: int,
        show: ShowProgress,
        draft: str | None = None,
    ) -> ModelLoaded:
        """Load a model, and the draft model at `draft`."""

    def plan(
        self, path: str, options: LoadOptions, default_context: int, draft: str | None = None
    ) -> LoadPlanned:
        """Forecast the memory of a load, without loading."""

    def generate(self, request: GenerateRequest, emit: Emit) -> AnswerDone:
        """Answer a request, piece by piece."""

    def embed(self, text: str) -> EmbeddingVector:
        """Embed a text, as a vector of length 1."""
