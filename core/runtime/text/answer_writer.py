"""Assembles the answer to one request from the bytes of its tokens, for the core."""

from __future__ import annotations

import time
from collections.abc import Sequence

from modeldeck.core.runtime.engines.base import Emit
from modeldeck.core.runtime.process.messages import AnswerDone
from modeldeck.core.runtime.text.chat_prompt import wants_tools
from modeldeck.core.runtime.text.text_streams import StopStream, Utf8Stream
from modeldeck.core.runtime.text.thoughts import AnswerPart, Splitter
from modeldeck.core.runtime.text.tool_calls import ToolStream
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
    """Splits and filters the text of an answer, emits it, and counts tokens and time.

    Stop strings and the grammar are for what the model says, not for what it thinks. A call is
    found in a thought too: some models begin it there, and their thought ends with it.
    """

    def __init__(
        self,
        request: GenerateRequest,
        stops: Sequence[str],
        emit: Emit,
        *,
        limit: int,
        splitter: Splitter | None = None,
    ) -> None:
        """Begin an answer now.

        Args:
            request: The request.
            stops: Stop strings.
            emit: Called with each part of the answer.
            limit: Largest number of tokens.
            splitter: Splits off the thought; None for a text that has none.
        """
        self._started = time.perf_counter()
        self._first: float | None = None
        self._utf8 = Utf8Stream()
        self._splitter = splitter
        self._stops = StopStream(stops)
        tools = request.tools if wants_tools(request) else ()
        self._tools = ToolStream(tools) if tools else None
        self._thought_tools = ToolStream(tools, in_thought=True) if tools else None
        self._emit = emit
        self._limit = limit
        self._pending: list[TokenLogprob] = []
        """Log probabilities of tokens whose text is held back."""
        self._reason: FinishReason = "length"
        self.count = 0
        """Tokens so far."""
        self.thought_count = 0
        """Of `count`, those of the thought and its markers."""

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
        before = self._thinking
        if logprob is not None and not before:
            self._pending.append(logprob)
        self._split(self._utf8.feed(data))
        if before or self._thinking:
            self.thought_count += 1
        if self._thinking:
            self._pending.clear()  # of the marker that opened it
        if self._stops.stopped:
            self._reason = "stop"
            return False
        return self.count < self._limit

    @property
    def _thinking(self) -> bool:
        return self._splitter is not None and self._splitter.thinking

    def rest(self, data: bytes) -> None:
        """Add text that the detokenizer had held back."""
        self._split(self._utf8.feed(data))

    def _split(self, text: str) -> None:
        if self._splitter is None:
            self._say(text)
        elif text:
            self._pass_on(self._splitter.feed(text))

    def _pass_on(self, parts: Sequence[AnswerPart]) -> None:
        for part in parts:
            if part.thought:
                tools = self._thought_tools
                self._think(tools.feed(part.text) if tools is not None else part.text)
            else:
                self._say(part.text)

    def _think(self, text: str) -> None:
        if text:
            self._emit(AnswerPart(text, thought=True), ())

    def _say(self, text: str) -> None:
        self._end_thought()
        self._filter_calls(self._stops.feed(text))

    def _end_thought(self, *, cut: bool = False) -> None:
        """Emit the thought that was held back as the possible beginning of a call."""
        if self._thought_tools is not None:
            self._think(self._thought_tools.finish(cut=cut))

    def _filter_calls(self, text: str) -> None:
        if self._tools is not None and text:
            text = self._tools.feed(text)
        if text:
            self._send(text)

    def _send(self, text: str) -> None:
        found = tuple(self._pending)
        self._pending.clear()
        self._emit(AnswerPart(text), found)

    def _finish(self) -> tuple[ToolCall, ...]:
        """Emit the text that was held back, and return the calls."""
        cut = self._reason == "length"
        self._split(self._utf8.finish())
        if self._splitter is not None:
            self._pass_on(self._splitter.finish(cut=cut))
        self._end_thought(cut=cut)
        self._filter_calls(self._stops.finish())
        if self._tools is None or self._thought_tools is None:
            return ()
        if rest := self._tools.finish(cut=cut):
            self._send(rest)
        return (*self._thought_tools.calls, *self._tools.calls)

    def done(self, prompt_tokens: int) -> AnswerDone:
        """Emit the text that was held back, and return the counts."""
        calls = self._finish()
        ended = time.perf_counter()
        first = self._first or ended
        return AnswerDone(
            reason="tool_calls" if calls and calls[-1].complete else self._reason,
            stop_text=self._stops.stop_text,
            tool_calls=calls,
            prompt_tokens=prompt_tokens,
            completion_tokens=self.count,
            thought_tokens=None if self._splitter is None else self.thought_count,
            # The first token counts for the prompt; the others show the speed.
            tokens_per_s=(self.count - 1) / (ended - first)
            if self.count > 1 and ended > first
            else None,
            time_to_first_token_s=first - self._started,
        )
