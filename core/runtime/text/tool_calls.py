"""Tool calls, parsed from the stream of an answer. Pure.

Models write calls in a few formats, which their templates show them. All formats are parsed for all
models: a marker followed by the call, or an answer that is only the JSON of a call.
"""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Callable, Sequence

from modeldeck.core.runtime.text.cut_calls import cut_calls
from modeldeck.core.runtime.text.text_streams import overlap
from modeldeck.core.runtime.text.tool_formats import MARKERS, CallFormat, calls_in
from modeldeck.core.schema import Tool, ToolCall

ID_LENGTH = 9
"""Letters and digits of a call's id: the templates of Mistral's models take no other length."""


_BEGINNING = re.compile(r'\s*(\{|\[\s*\{)\s*"(name|type|function|id|arguments|parameters)"')
"""The beginning of an answer that may be only the JSON of a call."""


def new_id() -> str:
    """Make a random id for a call."""
    letters = string.ascii_letters + string.digits
    return "".join(letters[byte % len(letters)] for byte in os.urandom(ID_LENGTH))


class ToolStream:
    """Stream filter: takes an answer, returns its text without tool calls, and collects these.

    Text is held back only while it may be a call; if it turns out to be none, it is returned.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        *,
        in_thought: bool = False,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        """`in_thought` is for the text of a thought, where only a marker makes a call."""
        self._texts = {tool.name: _text_parameters(tool) for tool in tools}
        self._make_id = make_id
        self._held = ""
        self._marker: CallFormat | None = None
        """Format of the call that is being written; None outside a call."""
        self._fresh = not in_thought
        """Whether only whitespace has come so far: the whole answer may still be a call."""
        self.calls: tuple[ToolCall, ...] = ()

    def feed(self, text: str) -> str:
        """Take a piece of the answer and return the text that is certainly no call, maybe empty."""
        self._held += text
        out = ""
        while True:
            if self._marker is not None:
                if (after := self._close(self._marker)) is None:
                    return out
                out += after
                continue
            if self._fresh and self._may_be_plain():
                return out
            passed, again = self._pass()
            out += passed
            if not again:
                return out

    def finish(self, *, cut: bool = False) -> str:
        """End the answer: return the text that was held back and is no call.

        `cut` is whether it ended at its limit of tokens. A call that is not complete is then
        collected with the arguments that were written.
        """
        marker, self._marker = self._marker, None
        held, self._held = self._held, ""
        if marker is not None:
            whole = marker.opens + held
            taken = self._take(whole if marker.bare else held) or (cut and self._take_cut(held))
            return "" if taken else whole
        if self._fresh and held.strip() and (self._take(held) or (cut and self._take_cut(held))):
            return ""
        return "" if self.calls and not held.strip() else held

    def _may_be_plain(self) -> bool:
        """Whether the text so far may be the beginning of a call without a marker."""
        text = self._held.lstrip()
        if not text:
            return True
        if _BEGINNING.match(text):
            return True
        head = re.sub(r"\s", "", text)
        return any(
            opening.startswith(head)
            for start in ('{"', '[{"')
            for opening in (start + key + '"' for key in ("name", "type", "function", "id"))
        )

    def _pass(self) -> tuple[str, bool]:
        """Return text up to a marker, or to where one may begin, and whether there was one."""
        found = [(at, m) for m in MARKERS if (at := self._held.find(m.opens)) >= 0]
        if found:
            at, self._marker = min(found, key=lambda pair: pair[0])
            passed, self._held = self._held[:at], self._held[at + len(self._marker.opens) :]
            only_space = not passed.strip() and (self._fresh or bool(self.calls))
            self._note_text(passed)
            return "" if only_space else passed, True
        end = len(self._held) - max(overlap(self._held, marker.opens) for marker in MARKERS)
        if (self._fresh or self.calls) and not self._held[:end].strip():
            end = 0  # whitespace before, between and after calls is no text
        passed, self._held = self._held[:end], self._held[end:]
        self._note_text(passed)
        return passed, False

    def _note_text(self, passed: str) -> None:
        if passed.strip():
            self._fresh = False

    def _close(self, marker: CallFormat) -> str | None:
        """Parse the call if it is complete: the text to return instead, or None to wait."""
        if marker.closes is None or (end := self._held.find(marker.closes)) < 0:
            return None
        body, self._held = self._held[:end], self._held[end + len(marker.closes) :]
        self._marker, self._fresh = None, False
        whole = marker.opens + body + marker.closes
        return "" if self._take(whole if marker.bare else body) else whole

    def _take(self, body: str) -> bool:
        """Collect the calls that a text consists of; False where it is no call."""
        return self._collect(
            [
                (name, json.dumps(arguments, ensure_ascii=False))
                for name, arguments in calls_in(body, self._texts)
            ]
        )

    def _take_cut(self, body: str) -> bool:
        """Collect the calls of a text that ends within one; False where it is no call."""
        return self._collect(cut_calls(body))

    def _collect(self, found: Sequence[tuple[str, str]]) -> bool:
        """Collect calls, if they are all of known tools."""
        if not found or any(name not in self._texts for name, _ in found):
            return False
        self.calls += tuple(
            ToolCall(id=self._make_id(), name=name, arguments=arguments)
            for name, arguments in found
        )
        return True


def _text_parameters(tool: Tool) -> frozenset[str]:
    """Names of the parameters of type string, which are never parsed as JSON."""
    properties = tool.parameters.get("properties")
    if not isinstance(properties, dict):
        return frozenset()
    return frozenset(
        name
        for name, schema in properties.items()
        if isinstance(schema, dict) and schema.get("type") == "string"
    )
