"""Grammars of answers, in llguidance's language: of a schema, an expression, GBNF, calls. Pure.

The language is llguidance's dialect of Lark (docs/syntax.md of github.com/guidance-ai/llguidance),
which has JSON schemas and single tokens within it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.gbnf import check_grammar
from modeldeck.core.runtime.grammar.lark import lark_of
from modeldeck.core.runtime.grammar.schema_guard import ANY_OBJECT, DIFFICULT, prepare

WHITESPACE = r" |\n[ \t]{0,20}"
"""Between the parts of JSON: as models write it, on one line or on many, and never without end."""
EXPRESSION_LENGTH = 1 << 14
"""Characters of a regular expression."""

_OPTIONS = {"whitespace_pattern": WHITESPACE, "coerce_one_of": True}
"""Alternatives of oneOf are not checked to exclude each other: those of real schemas do."""
_SPACED = f"%llguidance {json.dumps({'ignore_once': True})}\n%ignore /{WHITESPACE}/\n"
"""The same whitespace around JSON schemas, without which they could not be alternatives."""


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """What an answer is held to."""

    forms: tuple[str, ...]
    """Grammars, each with a rule `start`. The first one that llguidance takes counts: further ones
    of a schema admit more, and stand for one that may be followed in part."""
    what: str
    """What it was made of, for errors: `grammar`, `JSON schema`, `regular expression`."""


def of_gbnf(text: str) -> AnswerGrammar:
    """The grammar of a text in llama.cpp's GBNF. Raises InvalidRequest for an unsafe one."""
    return AnswerGrammar(lark_of(check_grammar(text)), "grammar")


def of_expression(text: str) -> AnswerGrammar:
    r"""The grammar of a regular expression, in the syntax of Rust's regex-syntax.

    Raises InvalidRequest for one that is too long.

    >>> of_expression("a/b+").forms
    ('start: /a\\/b+/',)
    """
    if len(text) > EXPRESSION_LENGTH:
        raise InvalidRequest(
            f"The regular expression has {len(text)} characters; the most are {EXPRESSION_LENGTH}."
        )
    return AnswerGrammar((f"start: {expression(text)}",), "regular expression")


def expression(text: str) -> str:
    """A regular expression between the slashes of a rule."""
    written = ""
    escaped = False
    for sign in text:
        if sign == "\n":
            sign = "n" if escaped else "\\n"
        elif sign == "/" and not escaped:
            sign = "\\/"
        escaped = sign == "\\" and not escaped
        written += sign
    return f"/{written}/"


def of_schema(schema: Mapping[str, Any], *, strict: bool = True) -> AnswerGrammar:
    """The grammar of a JSON schema's answers; that of `{}` admits any JSON object.

    `strict` refuses by name what cannot be enforced; otherwise that is left out. Raises
    InvalidRequest for a schema that is wrong or too large.
    """
    forms = tuple(f"start: {form}" for form in schema_forms(schema, strict=strict))
    return AnswerGrammar(forms, "JSON schema")


def schema_forms(schema: Mapping[str, Any], *, strict: bool) -> tuple[str, ...]:
    """A schema as an item of a rule, in forms that demand less and less; one where it is strict."""
    if strict:
        return (json_rule(prepare(schema)),)
    return tuple(json_rule(prepare(schema, left_out=out)) for out in (frozenset(), DIFFICULT))


def json_rule(prepared: Mapping[str, Any]) -> str:
    """A prepared schema as an item of a rule."""
    return "%json " + json.dumps({**prepared, "x-guidance": _OPTIONS})


def literal(text: str) -> str:
    """Text as an item of a rule; nothing for no text."""
    return json.dumps(text, ensure_ascii=False) if text else ""


def alternatives(rules: Mapping[str, str]) -> str:
    """A grammar of rules, with whitespace between their items. One of them is named `start`."""
    return _SPACED + "".join(f"{name}: {rule}\n" for name, rule in rules.items())


def argument_forms(parameters: Mapping[str, Any]) -> Sequence[str]:
    """The arguments of a tool as an item of a rule, in forms that demand less and less.

    Nothing that cannot be enforced keeps a tool from being called. Raises InvalidRequest for
    parameters that are malformed or too large.
    """
    found = []
    for left_out in (frozenset[str](), DIFFICULT):
        prepared = prepare(parameters, left_out=left_out)
        if prepared.get("type") != "object":  # a call has an object of arguments in any case
            prepared = {**prepared, "type": "object"}
        found.append(json_rule(prepared))
    return (*found, json_rule(ANY_OBJECT))
