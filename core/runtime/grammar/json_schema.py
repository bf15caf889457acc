"""Translates a JSON schema into a grammar of the answers that fit it. Pure.

Every answer that the grammar admits fits the schema; the grammar may admit less (an order of keys,
one way to write a number). A keyword that would narrow the answer and cannot be put into a grammar
is refused by name: an answer that silently breaks the schema is worse than none. Keywords that only
describe are ignored. Keywords: JSON Schema 2020-12, and `definitions` of older drafts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.gbnf import LENGTH, check_grammar
from modeldeck.core.runtime.grammar.number_ranges import integer_between, number_between
from modeldeck.core.runtime.grammar.regex import pattern_rule
from modeldeck.core.runtime.grammar.schema_keywords import (
    ANNOTATIONS,
    FOR_TYPE,
    FORMATS,
    cannot,
    check_keywords,
    fixed_values,
    resolve,
    same,
    short,
    types_of,
)

DEPTH = 32
"""Schemas within schemas."""
SCHEMAS = 2000
"""Schemas within one schema, counting references once, and merged parts of allOf."""
ENTRIES = 100_000
"""Keywords, properties and list items that are visited: those combined by anyOf or allOf count for
each combination."""
NAME = 200
"""Characters of a property's name beside additionalProperties, whose grammar must exclude the name
character by character."""
ITEMS = 500
"""The largest minItems and maxItems, minLength and maxLength: a grammar expands each one."""

_BASE = {
    "ws": '| " " | "\\n" [ \\t]{0,20}',
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": 'integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "member": 'string ws ":" ws value',
    "object": '"{" ws (member ws ("," ws member ws)*)? "}"',
    "array": '"[" ws (value ws ("," ws value ws)*)? "]"',
}


def literal(text: str) -> str:
    r"""Text as a literal of a grammar.

    >>> print(literal('say "yes"'))
    "say \"yes\""
    """
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


def grammar_of(schema: Mapping[str, Any]) -> str:
    """Return the grammar of a schema's answers; that of `{}` admits any JSON object.

    Raises InvalidRequest for a schema that is wrong, has no grammar, or is too large. The time is
    bounded by the limits above, for any schema.
    """
    maker = _RuleBuilder(schema)
    try:
        return maker.text("object" if not set(schema) - ANNOTATIONS else maker.visit(schema, 0))
    except RecursionError as error:  # a value of const, enum or an equal keyword, nested deeply
        raise InvalidRequest("The JSON schema has values nested too deeply.") from error


class _RuleBuilder:
    """Builds the rules of a schema's grammar."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._rules: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._count = 0
        self._entries = 0
        self._length = 0

    def text(self, root: str) -> str:
        """The whole grammar. Raises InvalidRequest where it is not safe for an engine."""
        # In this order: names used before their definition count against llama.cpp's limits.
        rules = {**_BASE, **self._rules, "root": root}
        text = "".join(f"{name} ::= {rule}\n" for name, rule in rules.items())
        try:
            check_grammar(text)
        except InvalidRequest as error:
            raise InvalidRequest(
                f"The JSON schema has no sound grammar. {error.message}",
                "Make it smaller, and let no reference lead back to itself at once.",
            ) from error
        return text

    def rule(self, content: str) -> str:
        """Add a rule; return its name. Raises InvalidRequest when all rules are too long."""
        self._length += len(content)
        if self._length > LENGTH:
            raise InvalidRequest(
                f"The JSON schema's grammar is longer than {LENGTH} characters.", "Make it smaller."
            )
        name = f"r{len(self._rules)}"
        self._rules[name] = content
        return name

    def visit(self, schema: Any, depth: int) -> str:
        """Translate a schema; return the name of a rule or a short expression."""
        if schema is True:
            return "value"
        if not isinstance(schema, Mapping):
            raise cannot(f"{short(schema)}, which no answer fits")
        self._check(schema, depth)
        keys = set(schema) - ANNOTATIONS
        if not keys:
            return "value"
        if "$ref" in keys:
            return self._reference(schema, depth)
        for word in ("anyOf", "oneOf", "allOf"):
            if word in keys:
                return self._combined(schema, word, depth)
        if keys & {"const", "enum"}:
            return self.rule(" | ".join(literal(_json(value)) for value in fixed_values(schema)))
        return self._typed(schema, keys, depth)

    def _check(self, schema: Mapping[str, Any], depth: int = 0) -> None:
        """Check a schema's keywords. Raises InvalidRequest for a wrong one, or one schema more."""
        self._count += 1
        if depth > DEPTH or self._count > SCHEMAS:
            raise InvalidRequest(
                f"The JSON schema has more than {SCHEMAS} parts, or {DEPTH} within each other."
            )
        self._entries += check_keywords(schema)
        if self._entries > ENTRIES:
            raise InvalidRequest(
                f"The JSON schema has more than {ENTRIES} entries, as often as they are combined."
            )

    def _reference(self, schema: Mapping[str, Any], depth: int) -> str:
        """The rule of a reference's target, made once, since it may refer to itself."""
        reference = schema["$ref"]
        if set(schema) - ANNOTATIONS != {"$ref"}:
            raise cannot("keywords beside $ref")
        if reference not in self._references:
            target = resolve(self._schema, reference)
            name = self.rule("")
            self._references[reference] = name
            self._rules[name] = self.visit(target, depth + 1)
        return self._references[reference]

    def _combined(self, schema: Mapping[str, Any], word: str, depth: int) -> str:
        parts = schema[word]
        rest = {k: v for k, v in schema.items() if k != word and k not in ANNOTATIONS}
        if word == "allOf":
            return self.visit(self._merged([rest, *parts]), depth + 1)
        names = [
            self.visit(self._merged([rest, part]) if rest else part, depth + 1) for part in parts
        ]
        return self.rule(" | ".join(names))

    def _merged(self, parts: Iterable[Any]) -> dict[str, Any]:
        """Merge schemas that must all hold into one, where their keywords can be added up."""
        whole: dict[str, Any] = {}
        for part in parts:
            part = self._dereferenced(part)
            if part is True:
                continue
            if not isinstance(part, Mapping):
                raise cannot(f"{short(part)}, which no answer fits")
            for key, value in part.items():
                if key in ANNOTATIONS:
                    continue
                if key not in whole or same(whole[key], value):
                    whole[key] = value
                elif key == "properties" and not set(whole[key]) & set(value):
                    whole[key] = {**whole[key], **value}
                elif key == "required":
                    whole[key] = [*whole[key], *value]
                else:
                    raise cannot(f"two different values of {key} that must both hold")
        return whole

    def _dereferenced(self, part: Any) -> Any:
        """A part of allOf, or the target of its reference, with checked keywords.

        Raises InvalidRequest for circular references.
        """
        passed: set[str] = set()
        while isinstance(part, Mapping):
            self._check(part)
            if set(part) - ANNOTATIONS != {"$ref"}:
                break
            reference = part["$ref"]
            if reference in passed:
                raise InvalidRequest(
                    f"The JSON schema's $ref {short(reference)} leads back to itself."
                )
            passed.add(reference)
            part = resolve(self._schema, reference)
        return part

    def _typed(self, schema: Mapping[str, Any], keys: set[str], depth: int) -> str:
        kinds = types_of(schema)
        if not kinds:
            kinds = [name for name, words in FOR_TYPE.items() if keys & words - {"format"}][:1]
            if not kinds:
                raise cannot(sorted(keys)[0])
        found = [self._of_type(name, schema, depth) for name in kinds]
        known = frozenset({"type"}).union(*(FOR_TYPE[name] for name in kinds))
        if unknown := sorted(keys - known):
            raise cannot(unknown[0])
        return found[0] if len(found) == 1 else self.rule(" | ".join(found))

    def _of_type(self, kind: str, schema: Mapping[str, Any], depth: int) -> str:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._number(kind, schema)
        return kind

    def _object(self, schema: Mapping[str, Any], depth: int) -> str:
        properties = schema.get("properties", {})
        required = frozenset(schema.get("required", ()))
        more = schema.get("additionalProperties", not properties)
        missing = dict.fromkeys(n for n in schema.get("required", ()) if n not in properties)
        if missing and more is False:
            raise InvalidRequest(
                f"The JSON schema requires {short(next(iter(missing)))}, which it does not admit."
            )
        extra = more if isinstance(more, Mapping) else True
        members = {**properties, **dict.fromkeys(missing, extra)}
        if not members and more is True:
            return "object"
        pairs = {
            name: self.rule(f'{literal(_json(name))} ws ":" ws {self.visit(part, depth + 1)} ws')
            for name, part in members.items()
        }
        other = None
        if more is not False:
            key = self._other_than(list(members)) if members else "string"
            other = self.rule(f'{key} ws ":" ws {self.visit(more, depth + 1)} ws')
        first = [pairs[name] for name in pairs if name in required]
        rest = [pairs[name] for name in pairs if name not in required]
        return self.rule(f'"{{" ws {self._members(first, rest, other)} "}}"')

    def _members(self, first: Sequence[str], rest: Sequence[str], other: str | None) -> str:
        """Required members, then optional ones, then any number of others."""
        tail = f'("," ws {other})*' if other else ""
        after = [tail]
        for name in reversed(rest):
            after.append(self.rule(f'("," ws {name})? {after[-1]}'))
        if first:
            return ' "," ws '.join(first) + f" {after[-1]}"
        beginnings = [f"{name} {after[-2 - place]}" for place, name in enumerate(rest)]
        if other:
            beginnings.append(f"{other} {tail}")
        return f"({' | '.join(beginnings)})?" if beginnings else ""

    def _other_than(self, names: Sequence[str]) -> str:
        """A JSON string that is none of these names: as a tree of letters."""
        if max(map(len, names)) > NAME:
            raise cannot(f"additionalProperties beside a property of over {NAME} characters")
        if not all(re.fullmatch(r"[\w $.:/@-]+", name) for name in names):
            raise cannot("additionalProperties beside properties with special characters")
        return self.rule(r'"\"" ' + self._tree(sorted(set(names))))

    def _tree(self, names: Sequence[str]) -> str:
        letters = sorted({name[0] for name in names if name})
        excluded = "".join(letters).replace("-", "\\-")
        ways = [rf'[^"\\\x00-\x1F\x7F{excluded}] char* "\""']
        for letter in letters:
            after = [name[1:] for name in names if name.startswith(letter)]
            ways.append(f"{literal(letter)} {self._tree(after)}")
        if "" not in names:
            ways.append(r'"\""')
        return self.rule(" | ".join(ways))

    def _array(self, schema: Mapping[str, Any], depth: int) -> str:
        least, most = _range(schema, "minItems", "maxItems")
        fixed = schema.get("prefixItems", [])
        items = schema.get("items", True)
        if isinstance(items, list):  # how drafts before 2020-12 say prefixItems
            fixed, items = items, schema.get("additionalItems", False)
        parts = [f"{self.visit(part, depth + 1)} ws" for part in fixed]
        if fixed:
            if most is not None and most < len(parts):
                raise cannot("maxItems below the number of prefixItems")
            least = max(0, least - len(parts))
            most = None if most is None else most - len(parts)
            more = "prefixItems" in schema and "items" in schema and items is not False
            if not more and least:
                raise cannot("minItems above the number of prefixItems")
            after = self._more(f"{self.visit(items, depth + 1)} ws", least, most) if more else ""
            return self.rule(f'"[" ws {_joined(parts)} {after} "]"')
        if items is False or most == 0:
            return self.rule('"[" ws "]"')
        item = self.rule(f"{self.visit(items, depth + 1)} ws")
        body = f"{item} {self._more(item, max(0, least - 1), None if most is None else most - 1)}"
        return self.rule(f'"[" ws {body if least else f"({body})?"} "]"')

    def _more(self, item: str, least: int, most: int | None) -> str:
        """Items after a first one."""
        if most == 0:
            return ""
        times = "*" if (least, most) == (0, None) else f"{{{least},{'' if most is None else most}}}"
        return f'("," ws {item}){times}'

    def _string(self, schema: Mapping[str, Any]) -> str:
        kind, pattern = schema.get("format"), schema.get("pattern")
        least, most = _range(schema, "minLength", "maxLength")
        sized = (least, most) != (0, None)
        if pattern is not None:
            if sized:
                raise cannot("pattern together with minLength or maxLength")
            return self.rule(rf'"\"" {pattern_rule(pattern)} "\""')
        if kind in FORMATS:
            if sized:
                raise cannot("format together with minLength or maxLength")
            return self.rule(rf'"\"" {FORMATS[kind]} "\""')
        if not sized:
            return "string"
        times = f"{{{least},{'' if most is None else most}}}" if most != 0 else ""
        return self.rule(rf'"\"" {"char" + times if most != 0 else ""} "\""')

    def _number(self, kind: str, schema: Mapping[str, Any]) -> str:
        bounds: list[float | None] = []
        for plain, exclusive, step in (
            ("minimum", "exclusiveMinimum", 1),
            ("maximum", "exclusiveMaximum", -1),
        ):
            value = schema.get(plain)
            strict = schema.get(exclusive)
            if strict is not None:
                if kind == "number" or strict != int(strict) or value is not None:
                    raise cannot(exclusive)
                value = strict + step
            bounds.append(value)
        low, high = bounds
        if low is None and high is None:
            return kind
        make = integer_between if kind == "integer" else number_between
        return self.rule(make(low, high))


def _range(schema: Mapping[str, Any], least: str, most: str) -> tuple[int, int | None]:
    low, high = schema.get(least, 0), schema.get(most)
    for name, value in ((least, low), (most, high)):
        if value is not None and value > ITEMS:
            raise InvalidRequest(f"The JSON schema's {name} is {value}; the most is {ITEMS}.")
    if high is not None and high < low:
        raise InvalidRequest(f"The JSON schema's {most} is below its {least}.")
    return low, high


def _joined(parts: Sequence[str]) -> str:
    return ' "," ws '.join(parts)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
