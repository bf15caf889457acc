"""Grammars of answers that must be a call of a tool, or may be one beside a JSON schema. Pure.

Where the model is free to call or to write, and a tool is strict, its text is free up to a call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.answer_grammar import (
    AnswerGrammar,
    alternatives,
    argument_forms,
    expression,
    json_rule,
    literal,
    of_expression,
    of_gbnf,
    of_schema,
    schema_forms,
)
from modeldeck.core.runtime.grammar.schema_guard import ANY_OBJECT, LENGTH
from modeldeck.core.runtime.text.chat_prompt import wants_tools
from modeldeck.core.runtime.text.tool_formats import LLAMA, MARKERS, SIGNS, CallFormat
from modeldeck.core.schema import GenerateRequest, Tool

CALLS = 16
"""Calls in one answer that may be calls or JSON; a model may repeat itself without end."""
PLAIN = CallFormat(opens="", closes=None)
PLAIN_LLAMA = CallFormat(opens="", closes=None, arguments="parameters")

_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}
_SIGNS = re.compile("|".join(map(re.escape, sorted(SIGNS, key=len, reverse=True))))


def grammar_for(
    request: GenerateRequest, template: str, signs: Mapping[str, int] | None = None
) -> AnswerGrammar | None:
    """Return the grammar of a request's answer; None for an unconstrained one.

    Args:
        request: The request.
        template: The model's chat template, which shows how calls are written.
        signs: Tokens of the model that stand for the signs of tool formats.

    Raises:
        InvalidRequest: A schema, grammar or tool choice is wrong or too large.
    """
    forced = wants_tools(request) and request.tool_choice not in (None, "auto")
    schema = request.json_schema
    if forced or (wants_tools(request) and schema is not None):
        return _calls_or_schema(request, _Writer(format_of(template), signs or {}), forced=forced)
    if _has_strict_tools(request):
        return _text_or_calls(request, _Writer(format_of(template), signs or {}))
    if schema is not None:
        return of_schema(schema, strict=request.strict_schema)
    if request.regex is not None:
        return of_expression(request.regex)
    return None if request.grammar is None else of_gbnf(request.grammar)


def format_of(template: str) -> CallFormat:
    """The format in which a template shows a call."""
    for known in MARKERS:
        # Llama's templates use the tag for code only; a function call is plain JSON.
        if known is LLAMA or known.bare:
            continue
        if known.opens in template and known.shown_by in template:
            return known
    return PLAIN_LLAMA if '"parameters"' in template else PLAIN


def _calls_or_schema(request: GenerateRequest, writer: _Writer, *, forced: bool) -> AnswerGrammar:
    """The grammar of one call, or without force of several calls or an answer by the schema."""
    tools = _chosen(request) if forced else request.tools
    arguments = [_arguments(tool) for tool in tools]
    answers: Sequence[str] = ()
    if not forced and request.json_schema is not None:
        answers = schema_forms(request.json_schema, strict=request.strict_schema)
    forms: list[str] = []
    for number in range(max(map(len, arguments))):
        rules = {"start": "calls"}
        if answers:
            rules = {"start": "calls | answer", "answer": answers[min(number, len(answers) - 1)]}
        rules["calls"] = writer.calls(1 if forced else CALLS)
        rules["call"] = " | ".join(f"call{i}" for i in range(len(tools)))
        for i, tool in enumerate(tools):
            rules[f"call{i}"] = writer.call(tool.name, f"arguments{i}")
            rules[f"arguments{i}"] = arguments[i][min(number, len(arguments[i]) - 1)]
        forms.append(alternatives(rules))
    # All tools together may be more than is read in time, where each of them is not.
    kept = [form for form in forms[:-1] if len(form) <= LENGTH]
    return AnswerGrammar((*kept, forms[-1]), "JSON schema")


def _has_strict_tools(request: GenerateRequest) -> bool:
    """Whether calls that the model makes by itself are held to schemas."""
    held = request.grammar is not None or request.regex is not None
    return wants_tools(request) and not held and any(tool.strict for tool in request.tools)


def _text_or_calls(request: GenerateRequest, writer: _Writer) -> AnswerGrammar:
    """The grammar of text that may go over to calls. Raises InvalidRequest."""
    rules = writer.text_and_calls([tool.name for tool in request.tools], CALLS)
    for i, tool in enumerate(request.tools):
        rules[f"arguments{i}"] = _arguments(tool)[0] if tool.strict else json_rule(ANY_OBJECT)
    return AnswerGrammar((alternatives(rules),), "JSON schema of the tools")


def _chosen(request: GenerateRequest) -> Sequence[Tool]:
    """The tools of which one must be called. Raises InvalidRequest."""
    choice = request.tool_choice
    tools = [tool for tool in request.tools if choice in ("required", tool.name)]
    if not tools:
        raise InvalidRequest(f"There is no tool {choice!r} to choose.", "Send it among the tools.")
    if request.grammar is not None or request.regex is not None:
        raise InvalidRequest("An answer cannot be a call of a tool and follow another grammar.")
    return tools


def _arguments(tool: Tool) -> Sequence[str]:
    """The arguments of a tool, in forms that demand less and less; one where it is strict.

    Raises InvalidRequest.
    """
    try:
        parameters = tool.parameters or _NO_PARAMETERS
        if tool.strict:
            return schema_forms({"type": "object", **parameters}, strict=True)
        return argument_forms(parameters)
    except InvalidRequest as error:
        remedy = f"{error.remedy} Or send the tool without strict." if tool.strict else error.remedy
        raise InvalidRequest(
            f"The parameters of the tool {tool.name[:64]!r}: {error.message}", remedy
        ) from error


class _Writer:
    """Writes calls in one format as items of rules."""

    def __init__(self, known: CallFormat, signs: Mapping[str, int]) -> None:
        self._format = known
        self._signs = signs

    def calls(self, most: int) -> str:
        """One call or several, each the rule `call`, with the markers around."""
        known = self._format
        whole = f"{self._items(known.opens)} {self._opened(most)}"
        # Several calls between one pair of markers, or each between markers of its own.
        if most > 1 and not self._has_room and known.opens:
            whole = f"({whole}){{1,{most}}}"
        return whole

    def text_and_calls(self, names: Sequence[str], most: int) -> dict[str, str]:
        """Rules for text, calls, or both, with rules `arguments0` and so on for their arguments.

        After the sign of a call only a call can follow. Where calls have no sign, an answer that
        begins as a call of a known tool is one. Rules with `suffix` and `lazy` end as soon as they
        can, where others take as much as they can.
        """
        opens = self._format.opens
        rules = {"call": " | ".join(f"call{i}" for i in range(len(names)))}
        if not opens:
            heads = [r"\s*".join(map(re.escape, ("", *self._head(name)))) for name in names]
            for i, head in enumerate(heads):
                rules[f"call{i}"] = f'head{i} arguments{i} "}}"'
                rules[f"head{i}[lazy]"] = expression(head)
            begun = expression(f"(?s:({'|'.join(heads)}).*)")
            return {**rules, "start": "FREE | call", "FREE": f"/(?s:.*)/ & ~{begun}"}
        for i, name in enumerate(names):
            rules[f"call{i}"] = self.call(name, f"arguments{i}")
        token = self._signs.get(opens)
        signed = expression(f"(?s:.*{re.escape(opens)}.*)")
        return {
            **rules,
            "start": f"FREE | (opening {self._opened(most)}){{1,{most}}} FREE",
            "FREE": f"/(?s:.*)/ & ~{signed}",
            "opening": "begin" if token is None else f"begin | FREE <[{token}]>",
            f"begin[suffix={literal(opens)}]": "/(?s:.*)/",
        }

    @property
    def _has_room(self) -> bool:
        """Whether several calls have place between one pair of markers."""
        return self._format.around != ("", "") or self._format.encloses_several

    def _opened(self, most: int) -> str:
        """What follows the first marker: as many calls as have place there, and the last marker."""
        known = self._format
        before, after = known.around
        inner = "call"
        if most > 1 and known.around != ("", ""):
            inner = f'call ("," call){{0,{most - 1}}}'
        elif most > 1 and known.encloses_several:
            inner = f"call{{1,{most}}}"
        return f"{literal(before)} {inner} {literal(after)} {self._items(known.closes or '')}"

    def call(self, name: str, arguments: str) -> str:
        """A call of a tool, with a rule for its arguments."""
        known = self._format
        if known.written is None:
            return f'{" ".join(map(literal, self._head(name)))} {arguments} "}}"'
        before, between, after = known.written
        return f"{self._items(before + name + between)} {arguments} {self._items(after)}"

    def _head(self, name: str) -> Sequence[str]:
        """The parts of a call in JSON before its arguments."""
        keys = (json.dumps(self._format.name), json.dumps(self._format.arguments))
        return ("{", keys[0], ":", json.dumps(name), ",", keys[1], ":")

    def _items(self, text: str) -> str:
        """A text as items: signs as their tokens, where the model has them, or as text."""
        return " ".join(self._item(part) for part in _parts(text))

    def _item(self, part: str) -> str:
        token = self._signs.get(part)
        return literal(part) if token is None else f"(<[{token}]> | {literal(part)})"


def _parts(text: str) -> Iterator[str]:
    """A text cut into signs and what is between them."""
    at = 0
    for found in _SIGNS.finditer(text):
        if found.start() > at:
            yield text[at : found.start()]
        yield found.group()
        at = found.end()
    if at < len(text):
        yield text[at:]
