"""Assembles the answer to one request from the bytes of its tokens, for the core."""

from __future__ import annotations

import time
from collections.abc import Sequence

from modeldeck.core.runtime.engines.base import Emit
from modeldeck.core.runtime.engines.chat import wants_tools
from modeldeck.core.runtime.engines.harmony import HarmonyStream
from modeldeck.core.runtime.engines.text import TextStream
from modeldeck.core.runtime.engines.tool_calls import ToolStream
from modeldeck.core.runtime.process.messages import AnswerDone
from modeldeck.core.schema import FinishReason, GenerateRequest, TokenLogprob, ToolCall


def token_text(data: bytes) -> str:
    r"""Return the text of one token; part of a character is written as in OpenAI's API.

    >>> token_text(b" two"), token_text(b"\xf0\x9f")
    (' two', 'bytes:\\xf0\\x9f')
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class AnswerWriter:
    """Filters the text of an answer, emits it, and counts tokens and time."""

    def __init__(
        self,
        request: GenerateRequest,
        stops: Sequence[str],
        emit: Emit,
        *,
        limit: int,
        harmony: HarmonyStream | None = None,
    ) -> None:
        """Begin an answer now.

        Args:
            request: The request.
            stops: Stop strings.
            emit: Called with each piece of text.
            limit: Largest number of tokens.
            harmony: Decoder of the answer, for models that write harmony.
        """
        self._started = time.perf_counter()
        self._first: float | None = None
        self._text = TextStream(stops)
        self._harmony = harmony
        self._tools = ToolStream(request.tools) if wants_tools(request) else None
        self._emit = emit
        self._limit = limit
        self._pending: list[TokenLogprob] = []
        """Log probabilities of tokens whose text is held back."""
        self._reason: FinishReason = "length"
        self.count = 0
        """Tokens so far."""

    @property
    def room(self) -> int:
        """Tokens left until the limit."""
        return self._limit - self.count

    def end(self) -> None:
        """Note that the model has ended the answer."""
        self._first = self._first or time.perf_counter()
        self._reason = "stop"

    def take(self, data: bytes, logprob: TokenLogprob | None = None) -> bool:
        """Add a token; return whether the answer goes on after it."""
        self._first = self._first or time.perf_counter()
        self.count += 1
        if logprob is not None:
            self._pending.append(logprob)
        self._decode(self._text.feed(data))
        if self._text.stopped:
            self._reason = "stop"
            return False
        return self.count < self._limit

    def rest(self, data: bytes) -> None:
        """Add text that the detokenizer had held back."""
        self._decode(self._text.feed(data))

    def _decode(self, text: str) -> None:
        self._filter_calls(self._harmony.feed(text) if self._harmony is not None and text else text)

    def _filter_calls(self, text: str) -> None:
        if self._tools is not None and text:
            text = self._tools.feed(text)
        if text:
            self._send(text)

    def _send(self, text: str) -> None:
        found = tuple(self._pending)
        self._pending.clear()
        self._emit(text, found)

    def done(self, prompt_tokens: int) -> AnswerDone:
        """Emit the text that was held back, and return the counts."""
        self._decode(self._text.finish())
        if self._harmony is not None:
            self._filter_calls(self._harmony.finish())
        calls: tuple[ToolCall, ...] = ()
        if self._tools is not None:
            if rest := self._tools.finish():
                self._send(rest)
            calls = self._tools.calls
        ended = time.perf_counter()
        first = self._first or ended
        return AnswerDone(
            reason="tool_calls" if calls else self._reason,
            stop_text=self._text.stop_text,
            tool_calls=calls,
            prompt_tokens=prompt_tokens,
            completion_tokens=self.count,
            # The first token counts for the prompt; the others show the speed.
            tokens_per_s=(self.count - 1) / (ended - first)
            if self.count > 1 and ended > first
            else None,
            time_to_first_token_s=first - self._started,
        )
