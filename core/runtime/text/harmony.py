"""Splits answers in OpenAI's harmony format, which gpt-oss writes, into thought and text. Pure.

An answer is a sequence of messages, each with a header that names its purpose: the channel
`analysis` is the thought, `final` and `commentary` are text, and `to=functions.add` is a tool call.
Source: docs/format.md of github.com/openai/harmony. Calls are rewritten in Hermes's format, which
`modeldeck.core.runtime.text.tool_calls` parses.
"""

from __future__ import annotations

import json
import re

from modeldeck.core.runtime.text.text_streams import overlap
from modeldeck.core.runtime.text.thoughts import AnswerPart

ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>")
SIGNS = (*ENDS, "<|channel|>", "<|message|>", "<|constrain|>")
"""Special tokens: they are no text, and mark the parts of an answer."""
_BODY = "<|message|>"
_BEGINNINGS = ("<|channel|>", "<|start|>", "<|constrain|>", " to=", "to=", _BODY)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_CALLED = re.compile(r"\bto=functions\.([\w.-]+)")
_ROLE = re.compile(r"<\|start\|>\s*(\w+)")


def is_harmony(template: str) -> bool:
    """Whether a template uses the harmony format.

    >>> is_harmony("{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}")
    True
    >>> is_harmony("<|im_start|>assistant")
    False
    """
    return "<|start|>assistant<|channel|>" in template


class HarmonyStream:
    """Splits an answer in harmony; calls become text in Hermes's format."""

    def __init__(self, *, begun: bool = False) -> None:
        """`begun` is whether the prompt holds the beginning of the message that is the answer."""
        self._held = ""
        self._closes: str | None = "" if begun else None
        """Text to write at the end of the current message; None within a header."""
        self._shown = True
        self._first = not begun
        """Whether no header has come: an answer that follows a grammar has none at all."""
        self._settled = begun
        """Whether this message is the answer itself, or a call."""
        self._thought = False
        """Whether a thought has ended, and nothing was said after it."""
        self.thinking = False
        """Whether the answer is inside a thought now."""

    def feed(self, text: str) -> list[AnswerPart]:
        """Take a piece of the answer and return the parts that are certain; none is empty."""
        self._held += text
        parts: list[AnswerPart] = []
        while True:
            before = len(self._held)
            thought = self.thinking
            said = self._head() if self._closes is None else self._body()
            if said:
                parts.append(AnswerPart(said, thought))
            if len(self._held) == before or not self._held:
                return parts

    def finish(self, *, cut: bool = False) -> list[AnswerPart]:
        """End the answer: return what was held back; `cut` is whether it is not complete."""
        held, self._held = self._held, ""
        if self._closes is None:
            return [AnswerPart(held)] if held and self._first else []
        # The token that ends a call also ends the answer, and is not in the text.
        rest = held + ("" if cut else self._closes) if self._shown else ""
        return [AnswerPart(rest, self.thinking)] if rest else []

    def _head(self) -> str:
        """Consume a header, once it is complete; return what begins its message."""
        if self._first and not any(
            sign.startswith(self._held) or self._held.startswith(sign) for sign in _BEGINNINGS
        ):
            self._first, self._closes, self._settled = False, "", True
            return ""
        if (end := self._held.find(_BODY)) < 0:
            return ""
        head, self._held = self._held[:end], self._held[end + len(_BODY) :]
        self._first = False
        role, channel, called = _ROLE.search(head), _CHANNEL.search(head), _CALLED.search(head)
        self._shown = role is None or role[1] == "assistant"
        opens, self._closes = "", ""
        if called is not None:
            opens, self._closes = _CALL[0].format(json.dumps(called[1])), _CALL[1]
        else:
            self.thinking = channel is not None and channel[1] == "analysis"
        self._settled, self._thought = not self.thinking, False
        return opens if self._shown else ""

    def _body(self) -> str:
        """Return the text of a message, up to its end or to where an end token may begin."""
        assert self._closes is not None
        found = [(at, sign) for sign in ENDS if (at := self._held.find(sign)) >= 0]
        if not found:
            end = len(self._held) - max(overlap(self._held, sign) for sign in ENDS)
            passed, self._held = self._held[:end], self._held[end:]
            return passed if self._shown else ""
        at, sign = min(found)
        passed = self._held[:at] + self._closes
        # `<|start|>` belongs to the next header.
        self._held = self._held[at if sign == "<|start|>" else at + len(sign) :]
        self._thought = self.thinking
        self._closes, self.thinking, self._settled = None, False, False
        return passed if self._shown else ""

    @property
    def free(self) -> bool:
        """Whether a grammar of the answer does not hold yet."""
        return not self._settled and not (self._first and not self._held)

    @property
    def openings(self) -> tuple[str, ...]:
        """Tokens that may begin a header here; none elsewhere."""
        return ("<|channel|>", "<|start|>") if self._first and not self._held else ()

    @property
    def wanted(self) -> str:
        """After a thought, the header of the answer."""
        return f"<|start|>assistant{_FINAL}" if self._thought and not self._held else ""

    def spills(self, text: str) -> bool:
        """Never: a header stands between a thought and an answer."""
        return False

    def closing(self, *, settled: bool) -> str:
        """The text that ends the thought here; `settled` also where the answer then begins."""
        return f"<|end|><|start|>assistant{_FINAL if settled else ''}"


_CALL = ('<tool_call>{{"name": {}, "arguments": ', "}</tool_call>")
_FINAL = "<|channel|>final<|message|>"
