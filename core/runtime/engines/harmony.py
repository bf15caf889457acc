"""Converts answers in OpenAI's harmony format, which gpt-oss writes, to plain text. Pure.

An answer is a sequence of messages, each with a header that names its purpose: the channel
`analysis` is reasoning, `final` and `commentary` are text, and `to=functions.add` is a tool call.
Source: docs/format.md of github.com/openai/harmony. Reasoning is written between `<think>` and
`</think>`, and calls in Hermes's format, which `modeldeck.core.runtime.engines.tool_calls` parses.
"""

from __future__ import annotations

import json
import re
from typing import Any

from modeldeck.core.runtime.engines.text import overlap

ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>")
SIGNS = (*ENDS, "<|channel|>", "<|message|>", "<|constrain|>")
"""Special tokens: they are no text, and mark the parts of an answer."""
_BODY = "<|message|>"
_BEGINNINGS = ("<|channel|>", "<|start|>", "<|constrain|>", " to=", "to=", _BODY)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_CALLED = re.compile(r"\bto=functions\.([\w.-]+)")
_THOUGHTS = re.compile(r"<think>(.*?)</think>\s*", re.S)
_ROLE = re.compile(r"<\|start\|>\s*(\w+)")


def is_harmony(template: str) -> bool:
    """Whether a template uses the harmony format.

    >>> is_harmony("{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}")
    True
    >>> is_harmony("<|im_start|>assistant")
    False
    """
    return "<|start|>assistant<|channel|>" in template


def split_thoughts(turn: dict[str, Any]) -> dict[str, Any]:
    r"""Return an earlier message as a harmony template expects it: reasoning apart from the text.

    >>> split_thoughts({"role": "assistant", "content": "<think>Hm.</think>\n\nYes."})
    {'role': 'assistant', 'content': 'Yes.', 'thinking': 'Hm.'}
    """
    found = _THOUGHTS.match(turn["content"]) if turn["role"] == "assistant" else None
    if found is None:
        return turn
    text = turn["content"][found.end() :]
    # Templates refuse a tool call that has both.
    thoughts = {} if text and "tool_calls" in turn else {"thinking": found[1]}
    return {**turn, "content": text, **thoughts}


class HarmonyStream:
    """Stream filter: takes an answer in harmony and returns plain text."""

    def __init__(self) -> None:
        self._held = ""
        self._closes: str | None = None
        """Text to write at the end of the current message; None within a header."""
        self._shown = True
        self._first = True
        """Whether no header has come: an answer that follows a grammar has none at all."""

    def feed(self, text: str) -> str:
        """Take a piece of the answer and return the text that is certain; it may be empty."""
        self._held += text
        out = ""
        while True:
            before = len(self._held)
            out += self._head() if self._closes is None else self._body()
            if len(self._held) == before or not self._held:
                return out

    def finish(self) -> str:
        """End the answer: return the text that was held back."""
        held, self._held = self._held, ""
        if self._closes is None:
            return held if self._first else ""
        # The token that ends a call also ends the answer, and is not in the text.
        ending = self._closes if self._closes != _THOUGHT[1] else ""
        return held + ending if self._shown else ""

    def _head(self) -> str:
        """Consume a header, once it is complete."""
        if self._first and not any(
            sign.startswith(self._held) or self._held.startswith(sign) for sign in _BEGINNINGS
        ):
            self._first, self._closes = False, ""
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
        elif channel is not None and channel[1] == "analysis":
            opens, self._closes = _THOUGHT
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
        self._closes = None
        return passed if self._shown else ""


_CALL = ('<tool_call>{{"name": {}, "arguments": ', "}</tool_call>")
_THOUGHT = ("<think>", "</think>\n\n")
