"""The interface of an engine in its child process, and the limits that all engines share."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Literal, Protocol

from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.runtime.process.messages import (
    EmbedTexts,
    EngineHello,
    EngineReport,
    LoadModel,
    LoadPlanned,
    ModelLoaded,
    PlanLoad,
    RankTexts,
    TokensRead,
)
from modeldeck.core.runtime.text.thoughts import AnswerPart
from modeldeck.core.schema import GenerateRequest, TokenLogprob, TokenQuery

ShowProgress = Callable[[str, float | None], None]
"""Called with the stage and the fraction that is done."""

Emit = Callable[[AnswerPart, tuple[TokenLogprob, ...]], None]
"""Called with each part of the answer, never empty, and the probabilities of its tokens."""

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
        self.command_cancelled = False
        """Whether the command that is being taken in is cancelled, while others may go on."""
        self.bounds = Bounds(lambda: self.command_cancelled or bool(self))
        """Bounds of the work before the first token, which a cancellation ends as well."""

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

    Requests are taken in with `begin` and answered together: each `step` is a turn for all
    of them. The other commands come while no request is in work.
    """

    @property
    def cancel_limit_s(self) -> float:
        """Seconds that running work and `close` may take to end when the core is gone; 0 for none.

        Without any, the process ends at once, and `close` is not called.
        """

    def hello(self) -> EngineHello:
        """Import the engine; return version and devices. Raises EngineMissing if not installed."""

    def load(self, command: LoadModel, show: ShowProgress) -> ModelLoaded:
        """Load a model, and its draft model."""

    def plan(self, command: PlanLoad) -> LoadPlanned:
        """Forecast the memory of a load, without loading."""

    def begin_texts(self, number: int, command: EmbedTexts | RankTexts) -> None:
        """Take in a request for vectors of length 1, or for scores, as `begin` does one for text.

        Its last report is `TextsEmbedded`, `TextsRanked` or `CommandFailed`. Raises InvalidRequest
        for a model that does not do that, and for a text that is too long.
        """

    def tokenize(self, number: int, query: TokenQuery) -> TokensRead | None:
        """Return a text and its tokens, without evaluating them; also between two turns.

        None where that takes longer, for a request with images: then it is in work under its
        number, as if `begin` had taken it in, and a later `step` reports `TokensRead` or
        `CommandFailed`.
        """

    def begin(self, number: int, request: GenerateRequest) -> None:
        """Take a request in, under a number that its reports will have.

        There are at most `ModelLoaded.parallel` at a time. Renders its prompt and makes its
        grammar, within `Flag.bounds`; raises DeckError for one that cannot be answered. Images are
        left to `step`, one in each, which then reports what cannot be answered.
        """

    def cancel(self, number: int) -> None:
        """Forget a request, between two turns; there will be no reports of it any more."""

    def pause(self, number: int) -> None:
        """Give a request in work no further tokens until `resume`; it keeps what it has."""

    def resume(self, number: int) -> None:
        """Go on with a request in work."""

    def shrink_cache(self, keep_bytes: int, *, stays: bool) -> None:
        """Drop cached states of conversations, the oldest first, until `keep_bytes` are left.

        Where it `stays` so, that is the limit from now on.
        """

    @property
    def working(self) -> bool:
        """Whether `step` has anything to do: a request is in work that is not paused."""

    def step(self) -> list[EngineReport]:
        """Do one turn for all requests; return its reports, in order.

        The last report of a request for text is `AnswerDone` or `CommandFailed`. A failure that
        concerns one request is such a report; a DeckError that is raised fails all of them. Where
        the flag is set meanwhile, all of them are cancelled: the turn may be given up, and reports
        nothing.
        """

    def reset(self) -> None:
        """Forget all requests, and what an unexpected error may have spoiled."""

    def close(self) -> None:
        """Save what should outlive the process. Called last, when nothing is in work any more."""
