"""An answer while it comes: its text, its thought, what was measured, how it ended. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from modeldeck.core.errors import CoreUnreachable, DeckError, EngineFailed
from modeldeck.core.schema import Chunk, Instance, InstanceState, RequestInfo
from modeldeck.tui.chats.chat import ChatFigures, ChatTurn, Ended
from modeldeck.tui.text import format as fmt


class AnswerRecorder:
    """Collects the pieces of one answer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds; the answer is asked for now."""
        self._clock = clock
        self.text = ""
        """The text so far, without terminal control characters."""
        self.thought = ""
        """What the model thinks before it answers, without terminal control characters."""
        self.thought_tokens = 0
        """Pieces of the thought: about its tokens."""
        self.pieces = 0
        """Pieces of the text: about its tokens."""
        self.last: Chunk | None = None
        """The piece with the counts; None before it came."""
        self.asked_at = clock()
        self.first_at: float | None = None
        """When the first piece of the text came, by the clock."""
        self._thought_at: float | None = None

    def add(self, chunk: Chunk) -> str:
        """Append a piece; return the new text, cleaned."""
        now = self._clock()
        if chunk.thought:
            self.thought_tokens += 1
            self._thought_at = self._thought_at or now
            self.thought += fmt.clean(chunk.thought, lines=True)
        text = fmt.clean(chunk.text, lines=True)
        if chunk.text:
            self.pieces += 1
            self.first_at = self.first_at or now
            self.text += text
        if chunk.finish_reason or chunk.tokens_per_s:
            self.last = chunk
        return text

    @property
    def thought_s(self) -> float:
        """Seconds from the first piece of the thought to the first of the text, or to now."""
        return (self.first_at or self._clock()) - (self._thought_at or self.asked_at)

    def turned(self, turn: ChatTurn) -> ChatTurn:
        """The turn with what came, and the core's figures, else those measured here."""
        last = self.last
        since = self.first_at - self.asked_at if self.first_at is not None else None
        figures = ChatFigures(
            tokens_per_s=last.tokens_per_s if last else None,
            first_token_s=(last and last.time_to_first_token_s) or since,
            prompt_tokens=last.prompt_tokens if last else None,
            cached_tokens=last.cached_tokens if last else None,
            completion_tokens=last.completion_tokens if last else None,
            thought_tokens=((last and last.thought_tokens) or self.thought_tokens) or None,
            thought_s=self.thought_s if self.thought else None,
        )
        return replace(turn, text=self.text, thought=self.thought, figures=figures)


# How it ended


def ended(last: Chunk | None) -> Ended:
    """How an answer ended, by its last piece."""
    reason = last.finish_reason if last else None
    return {"length": "length", "cancelled": "stopped"}.get(reason or "", "")  # type: ignore[return-value] # literals


def why_stopped(last: Chunk | None, most: int | None) -> str:
    """Why the core ended an answer as `length`; empty for one that ended otherwise.

    Args:
        last: The last piece of the answer.
        most: The limit of tokens that was set; None for none.
    """
    if last is None or last.finish_reason != "length":
        return ""
    if last.looped:
        return "it repeated itself without end"
    if most and (last.completion_tokens or 0) >= most:
        return f"at {most:,} tokens, as set"
    return "the context is full"


def broken(error: DeckError, text: str) -> Ended:
    """How an error ended an answer of which this text came."""
    return "cut" if isinstance(error, CoreUnreachable | EngineFailed) or text else "failed"


def why_broken(error: DeckError) -> str:
    """Why an answer broke off, in a sentence."""
    if isinstance(error, CoreUnreachable):
        return "the core stopped"
    return fmt.clean(error.message).rstrip(".")


# While nothing came


def own_request(requests: Iterable[RequestInfo], client: str) -> RequestInfo | None:
    """The newest request of this front end that runs or waits."""
    live = [each for each in requests if each.live and each.client == client and client]
    return max(live, key=lambda each: each.since, default=None)


def waiting(instance: Instance | None, request: RequestInfo | None = None) -> str:
    """Text shown before the first piece of an answer."""
    if instance is None:
        return "loading the model"
    if instance.state is InstanceState.STARTING:
        return f"loading the model {fmt.percent(instance.progress)}"
    if request is not None and request.state == "waiting":
        return f"waiting, {request.place} before it" if request.place else "waiting"
    if request is not None and request.prompt_tokens and request.prompt_read is not None:
        share = request.prompt_read / request.prompt_tokens
        return f"reading your question, {fmt.percent(min(1.0, share))}"
    return "reading your question"
