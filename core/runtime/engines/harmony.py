"""Answers in harmony, which gpt-oss writes, as the text that other models write. Pure.

An answer is a row of messages, each with a head that says for whom it is: the channel `analysis` is
what the model thinks, `final` and `commentary` are text, and `to=functions.add` is a call. Source:
docs/format.md of github.com/openai/harmony. Thoughts come out between `<think>` and `</think>`, and
calls as Hermes has them, which `modeldeck.core.runtime.engines.tool_calls` understands.
"""

from __future__ import annotations

import json
import re
from typing import Any

from modeldeck.core.runtime.engines.text import overlap

ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>")
SIGNS = (*ENDS, "<|channel|>", "<|message|>", "<|constrain|>")
"""Tokens that stand for no text by themselves, and say what the text is."""
_BODY = "<|message|>"
_BEGINNINGS = ("<|channel|>", "<|start|>", "<|constrain|>", " to=", "to=", _BODY)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_CALLED = re.compile(r"\bto=functions\.([\w.-]+)")
_THOUGHTS = re.compile(r"<think>(.*?)</think>\s*", re.S)
_ROLE = re.compile(r"<\|start\|>\s*(\w+)")


def is_harmony(template: str) -> bool:
    """Whether a template teaches harmony.

    >>> is_harmony("{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}")
    True
    >>> is_harmony("<|im_start|>assistant")
    False
    """
    return "<|start|>assistant<|channel|>" in template


def apart(turn: dict[str, Any]) -> dict[str, Any]:
    r"""A message of the past as a template of harmony expects it: thoughts apart from the text.

    >>> apart({"role": "assistant", "content": "<think>Hm.</think>\n\nYes."})
    {'role': 'assistant', 'content': 'Yes.', 'thinking': 'Hm.'}
    """
    found = _THOUGHTS.match(turn["content"]) if turn["role"] == "assistant" else None
    if found is None:
        return turn
    text = turn["content"][found.end() :]
    # Templates refuse a call of a tool that has both.
    thoughts = {} if text and "tool_calls" in turn else {"thinking": found[1]}
    return {**turn, "content": text, **thoughts}


class HarmonyStream:
    """An answer in harmony as it may be shown."""

    def __init__(self) -> None:
        self._held = ""
        self._closes: str | None = None
        """What ends the message that is being written; None in a head."""
        self._shown = True
        self._first = True
        """Whether nothing has come: an answer that follows a grammar has no head at all."""

    def feed(self, text: str) -> str:
        """Take a piece of the answer and give what is certain of its text; it may be empty."""
        self._held += text
        out = ""
        while True:
            before = len(self._held)
            out += self._head() if self._closes is None else self._body()
            if len(self._held) == before or not self._held:
                return out

    def finish(self) -> str:
        """The answer is over: give what was held back."""
        held, self._held = self._held, ""
        if self._closes is None:
            return held if self._first else ""
        # The token that ends a call ends the answer as well, and is not seen.
        ending = self._closes if self._closes != _THOUGHT[1] else ""
        return held + ending if self._shown else ""

    def _head(self) -> str:
        """Pass a head, once it is whole."""
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
        """Let the text of a message out, up to its end or to where one may begin."""
        assert self._closes is not None
        found = [(at, sign) for sign in ENDS if (at := self._held.find(sign)) >= 0]
        if not found:
            end = len(self._held) - max(overlap(self._held, sign) for sign in ENDS)
            passed, self._held = self._held[:end], self._held[end:]
            return passed if self._shown else ""
        at, sign = min(found)
        passed = self._held[:at] + self._closes
        # What begins the next message is a part of its head.
        self._held = self._held[at if sign == "<|start|>" else at + len(sign) :]
        self._closes = None
        return passed if self._shown else ""


_CALL = ('<tool_call>{{"name": {}, "arguments": ', "}</tool_call>")
_THOUGHT = ("<think>", "</think>\n\n")
