"""The answer to one request, from the bytes of its tokens to what the core is told."""

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
    r"""The text of one token; a part of a character is written as OpenAI's API does.

    >>> token_text(b" two"), token_text(b"\xf0\x9f")
    (' two', 'bytes:\\xf0\\x9f')
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


class AnswerWriter:
    """Puts an answer together: what is shown of it, how it ends, and how fast it was."""

    def __init__(
        self,
        request: GenerateRequest,
        stops: Sequence[str],
        emit: Emit,
        *,
        limit: int,
        form: HarmonyStream | None = None,
    ) -> None:
        """Begin an answer now.

        Args:
            request: What was asked.
            stops: Strings that end it.
            emit: Takes its text.
            limit: Most tokens it may have.
            form: How the model writes its answer, where that is not plain text.
        """
        self._started = time.perf_counter()
        self._first: float | None = None
        self._text = TextStream(stops)
        self._form = form
        self._tools = ToolStream(request.tools) if wants_tools(request) else None
        self._emit = emit
        self._limit = limit
        self._pending: list[TokenLogprob] = []
        """Of tokens whose text is held back."""
        self._reason: FinishReason = "length"
        self.count = 0
        """Tokens so far."""

    @property
    def room(self) -> int:
        """Tokens that it may still have."""
        return self._limit - self.count

    def end(self) -> None:
        """The model has said that the answer is over."""
        self._first = self._first or time.perf_counter()
        self._reason = "stop"

    def take(self, data: bytes, logprob: TokenLogprob | None = None) -> bool:
        """Take a token; says whether the answer goes on after it."""
        self._first = self._first or time.perf_counter()
        self.count += 1
        if logprob is not None:
            self._pending.append(logprob)
        self._pass(self._text.feed(data))
        if self._text.stopped:
            self._reason = "stop"
            return False
        return self.count < self._limit

    def rest(self, data: bytes) -> None:
        """Take text that its tokens had left out so far."""
        self._pass(self._text.feed(data))

    def _pass(self, text: str) -> None:
        self._show(self._form.feed(text) if self._form is not None and text else text)

    def _show(self, text: str) -> None:
        if self._tools is not None and text:
            text = self._tools.feed(text)
        if text:
            self._say(text)

    def _say(self, text: str) -> None:
        found = tuple(self._pending)
        self._pending.clear()
        self._emit(text, found)

    def done(self, prompt_tokens: int) -> AnswerDone:
        """Show what was held back, and give the counts."""
        self._pass(self._text.finish())
        if self._form is not None:
            self._show(self._form.finish())
        calls: tuple[ToolCall, ...] = ()
        if self._tools is not None:
            if rest := self._tools.finish():
                self._say(rest)
            calls = self._tools.calls
        ended = time.perf_counter()
        first = self._first or ended
        return AnswerDone(
            reason="tool_calls" if calls else self._reason,
            tool_calls=calls,
            prompt_tokens=prompt_tokens,
            completion_tokens=self.count,
            # The first token belongs to the prompt: what follows shows the speed.
            tokens_per_s=(self.count - 1) / (ended - first)
            if self.count > 1 and ended > first
            else None,
            time_to_first_token_s=first - self._started,
        )
