"""Tool calls in answers: parsed from the stream of an answer, or forced by a grammar. Pure.

Models write calls in a few formats, which their templates show them. All formats are parsed for all
models: a marker followed by the call, or an answer that is only the JSON of a call.
"""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Callable, Sequence
from typing import Any

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.engines.chat import wants_tools
from modeldeck.core.runtime.engines.text import overlap
from modeldeck.core.runtime.engines.tool_formats import LLAMA, MARKERS, CallFormat, calls_in
from modeldeck.core.runtime.grammar.gbnf import check_grammar
from modeldeck.core.runtime.grammar.json_schema import grammar_of, literal
from modeldeck.core.runtime.grammar.regex import pattern_rule
from modeldeck.core.runtime.grammar.schema_keywords import rebase
from modeldeck.core.schema import GenerateRequest, Tool, ToolCall

ID_LENGTH = 9
"""Letters and digits of a call's id: the templates of Mistral's models take no other length."""


_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}
PLAIN = CallFormat(opens="", closes=None)
PLAIN_LLAMA = CallFormat(opens="", closes=None, arguments="parameters")

_BEGINNING = re.compile(r'\s*(\{|\[\s*\{)\s*"(name|type|function|id|arguments|parameters)"')
"""The beginning of an answer that may be only the JSON of a call."""


def marker_of(template: str) -> CallFormat:
    """The format in which a template shows a call."""
    for marker in MARKERS:
        # Llama's templates use the tag for code only; a function call is plain JSON.
        if marker.opens in template and marker is not LLAMA and not marker.bare:
            return marker
    return PLAIN_LLAMA if '"parameters"' in template else PLAIN


def grammar_for(request: GenerateRequest, template: str) -> str | None:
    """Return the checked grammar of a request's answer; None for an unconstrained one.

    Raises InvalidRequest for a schema, grammar or tool choice that is wrong or too large.
    """
    grammar = forced_grammar(request, template) if wants_tools(request) else None
    if grammar is None and request.json_schema is not None:
        return grammar_of(request.json_schema)
    if grammar is None and request.regex is not None:
        whole = request.regex.removeprefix("^").removesuffix("$")
        grammar = f"root ::= {pattern_rule(f'^({whole})$')}\nchar ::= [^\\n]\n"
    grammar = grammar or request.grammar
    if grammar is not None:
        check_grammar(grammar)
    return grammar


def forced_grammar(request: GenerateRequest, template: str) -> str | None:
    """Return the grammar of an answer that must be a call; None where the model may choose.

    Raises InvalidRequest for an unknown tool, or a schema without a grammar.
    """
    choice = request.tool_choice
    if choice in (None, "auto", "none"):
        return None
    tools = [tool for tool in request.tools if choice in ("required", tool.name)]
    if not tools:
        raise InvalidRequest(f"There is no tool {choice!r} to choose.", "Send it among the tools.")
    if any(form is not None for form in (request.grammar, request.json_schema, request.regex)):
        raise InvalidRequest("An answer cannot be a call of a tool and follow another grammar.")
    marker = marker_of(template)
    try:
        calls = [_call_schema(tool, marker, f"#/anyOf/{i}") for i, tool in enumerate(tools)]
    except RecursionError as error:
        raise InvalidRequest("The parameters of a tool are nested too deeply.") from error
    grammar = grammar_of({"anyOf": calls})
    before, after = marker.around
    begin = literal(marker.opens + before) if marker.opens + before else ""
    end = literal(after + (marker.closes or "")) if after + (marker.closes or "") else ""
    return grammar.replace("\nroot ::= ", f"\nroot ::= {begin} call {end}\ncall ::= ")


def _call_schema(tool: Tool, marker: CallFormat, place: str) -> dict[str, Any]:
    """The schema of a call; `place` is the JSON pointer to it in the whole schema."""
    parameters = rebase(tool.parameters, f"{place}/properties/{marker.arguments}")
    return {
        "type": "object",
        "properties": {
            marker.name: {"const": tool.name},
            marker.arguments: parameters or _NO_PARAMETERS,
        },
        "required": [marker.name, marker.arguments],
        "additionalProperties": False,
    }


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

    def finish(self) -> str:
        """End the answer: return the text that was held back and is no call."""
        marker, self._marker = self._marker, None
        held, self._held = self._held, ""
        if marker is not None:
            whole = marker.opens + held
            return "" if self._take(whole if marker.bare else held) else whole
        if self._fresh and held.strip() and self._take(held):
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
        found = calls_in(body, self._texts)
        if not found or any(name not in self._texts for name, _ in found):
            return False
        self.calls += tuple(
            ToolCall(
                id=self._make_id(), name=name, arguments=json.dumps(arguments, ensure_ascii=False)
            )
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
