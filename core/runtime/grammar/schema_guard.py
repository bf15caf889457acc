"""Prepares JSON schemas of requests for llguidance, which makes grammars of them. Pure.

llguidance is given the schema as it is, but for six things. It ignores keywords that it does not
know: they are refused by name, or left out knowingly. It compiles references in a circle to a
grammar without answers, and huge demands to answers without an end: they are refused. References
lead to `$defs` only, since it does not resolve all of RFC 6901. Its numbers above 0 and up to 0.5
may be 0 (1.9.1), so such a bound becomes an inclusive one nearby. And objects and tuples
are closed where a schema leaves that open, so that a model does not invent properties without end.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from fractions import Fraction
from math import lcm
from typing import Any

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.schema_keywords import (
    ANNOTATIONS,
    APPLICATORS,
    ENFORCED,
    FOR_TYPE,
    FORMATS,
    LEAST,
    MOST,
    cannot,
    check_shape,
    resolve,
    short,
)

DEPTH = 32
"""Schemas within schemas."""
SCHEMAS = 2000
"""Schemas within one schema; the target of a reference counts once or twice."""
ENTRIES = 100_000
"""Keywords, properties and list items of these schemas."""
LENGTH = 1 << 18
"""Characters of the prepared schema, as JSON."""
ITEMS = 500
"""The largest minItems, minLength and minProperties: beyond them an answer hardly ends."""
MULTIPLE, DECIMALS = 10_000, 9
"""The largest common multiple of all multipleOf, without its final zeros, and the most decimals of
one: llguidance makes a state for each remainder, without a limit of its own."""
DIFFICULT = frozenset(
    [
        *("pattern", "patternProperties", "format", "multipleOf", *LEAST, *MOST),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    ]
)
"""Keywords for which llguidance may find no grammar; the others say how a value is built."""
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}

NEARBY, NEARBY_UP_TO = 1e-9, 1e6
"""How far from a whole exclusive bound the inclusive one is, for bounds whose floats have that
precision."""

_MAPS = ("properties", "patternProperties")
_SINGLE = ("additionalProperties", "items")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")


def prepare(
    schema: Mapping[str, Any], *, left_out: Collection[str] | None = None
) -> dict[str, Any]:
    """Return what llguidance gets for a schema; `{}` becomes any JSON object.

    Args:
        schema: JSON Schema 2020-12, from a client.
        left_out: None to refuse by name what cannot be enforced. Otherwise that is left out, and
            these keywords as well.

    Raises:
        InvalidRequest: A value has the wrong shape, references go round in a circle, or the schema
            is too large; without `left_out` also a keyword that cannot be enforced.

    >>> prepare({"title": "Point", "properties": {"x": {"type": "integer"}}})
    {'properties': {'x': {'type': 'integer'}}, 'type': 'object', 'additionalProperties': False}
    """
    try:
        prepared = _Preparation(schema, left_out).whole()
        length = len(json.dumps(prepared))
    except RecursionError as error:  # a value of const or enum
        raise InvalidRequest("The JSON schema has values nested too deeply.") from error
    if length > LENGTH:
        raise InvalidRequest(
            f"The JSON schema has {length} characters; the most are {LENGTH}.", "Make it smaller."
        )
    return prepared


class _Preparation:
    """Prepares one schema: its root, then the targets of its references one by one."""

    def __init__(self, schema: Mapping[str, Any], left_out: Collection[str] | None) -> None:
        self._schema = schema
        self._left_out = left_out
        self._names: dict[tuple[str, bool], str] = {}
        """Names in `$defs` of the references, closed and open."""
        self._pending: list[tuple[str, Any, bool]] = []
        self._same: dict[str, list[tuple[str, str]]] = {"": []}
        """For each name in `$defs`, and "" for the root: the references for the same value."""
        self._count = 0
        self._entries = 0
        self._multiple = 1
        """The least common multiple of all multipleOf so far, in the last decimal."""

    def whole(self) -> dict[str, Any]:
        """The prepared schema."""
        if not self._schema.keys() - ANNOTATIONS:
            return dict(ANY_OBJECT)
        root = self._visit(self._schema, 0, owner="", closed=True)
        defs: dict[str, Any] = {}
        while self._pending:
            name, target, closed = self._pending.pop()
            self._same[name] = []
            defs[name] = self._visit(target, 0, owner=name, closed=closed)
        self._refuse_circles()
        return {**root, "$defs": defs} if defs else root

    def _visit(self, schema: Any, depth: int, *, owner: str | None, closed: bool) -> Any:
        """Prepare one schema.

        `owner` is the root or the target whose value this schema describes, None for a part of that
        value. `closed` says whether objects and tuples are closed.
        """
        if not isinstance(schema, Mapping):
            return schema
        self._measure(schema, depth)
        kept = self._kept(schema)
        alone = _is_alone(kept)
        made: dict[str, Any] = {}
        for key, value in kept.items():
            if key == "$ref":
                made[key] = self._reference(value, owner, closed=closed and alone)
            elif key in ("anyOf", "oneOf", "allOf"):
                inner = closed and alone
                made[key] = [
                    self._visit(part, depth + 1, owner=owner, closed=inner) for part in value
                ]
            elif key in _MAPS:
                made[key] = {name: self._part(part, depth) for name, part in value.items()}
            elif isinstance(value, list) and key in ("items", "prefixItems"):
                made[key] = [self._part(part, depth) for part in value]
            elif key in (*_SINGLE, "additionalItems"):
                made[key] = self._part(value, depth)
            else:
                made[key] = value
        return _completed(made, self._outer_names(kept) if closed and not alone else None, closed)

    def _part(self, schema: Any, depth: int) -> Any:
        return self._visit(schema, depth + 1, owner=None, closed=True)

    def _measure(self, schema: Mapping[str, Any], depth: int) -> None:
        """Count a schema. Raises InvalidRequest where all are too many, or this one is too deep."""
        self._count += 1
        if depth > DEPTH or self._count > SCHEMAS:
            raise InvalidRequest(
                f"The JSON schema has more than {SCHEMAS} parts, or {DEPTH} within each other."
            )
        self._entries += len(schema)
        for value in schema.values():
            self._entries += len(value) if isinstance(value, (Mapping, list)) else 0
        if self._entries > ENTRIES:
            raise InvalidRequest(f"The JSON schema has more than {ENTRIES} entries.")

    def _kept(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The keywords of a schema that llguidance gets, with values of the right shape."""
        kept: dict[str, Any] = {}
        for key, value in schema.items():
            if key in ANNOTATIONS:
                continue
            if key not in ENFORCED:
                if self._left_out is None:
                    raise cannot(key)
                continue
            check_shape(key, value)
            if key == "format" and value not in FORMATS:
                continue  # an annotation, as JSON Schema 2020-12 has it
            if self._left_out is not None and key in self._left_out:
                continue
            if why := self._excess(key, value):
                if self._left_out is None:
                    raise InvalidRequest(f"The JSON schema's {key} is {value}; {why}.")
                continue
            kept[key] = value
        return kept

    def _excess(self, key: str, value: Any) -> str:
        """Why a value is too much for any answer or grammar; empty where it is not."""
        if key in LEAST and value > ITEMS:
            return f"the most is {ITEMS}"
        if key == "multipleOf":
            units = Fraction(repr(value)) * 10**DECIMALS
            common = lcm(self._multiple, units.numerator)
            if units.denominator > 1 or int(str(common).rstrip("0")) > MULTIPLE:
                return f"the most is {MULTIPLE}, without zeros at its end"
            self._multiple = common
        return ""

    def _reference(self, reference: str, owner: str | None, *, closed: bool) -> str:
        """The reference to a target in `$defs`, which is prepared later."""
        if (reference, closed) not in self._names:
            try:
                target = resolve(self._schema, reference)
            except InvalidRequest:
                if self._left_out is None:
                    raise
                target = True
            name = self._names[reference, closed] = f"d{len(self._names)}"
            self._pending.append((name, target, closed))
        name = self._names[reference, closed]
        if owner is not None:
            self._same[owner].append((name, reference))
        return f"#/$defs/{name}"

    def _refuse_circles(self) -> None:
        """Raise InvalidRequest for a reference that leads back to itself for the same value."""
        done: set[str] = set()
        for start in self._same:
            trail: list[tuple[str, Iterator[tuple[str, str]]]] = [(start, iter(self._same[start]))]
            entered = {start}
            while trail:
                name, following = trail[-1]
                found = None if name in done else next(following, None)
                if found is None:
                    done.add(name)
                    entered.discard(name)
                    trail.pop()
                elif found[0] in entered:
                    raise InvalidRequest(
                        f"The JSON schema's $ref {short(found[1])} leads back to itself."
                    )
                else:
                    entered.add(found[0])
                    trail.append((found[0], iter(self._same[found[0]])))

    def _outer_names(self, kept: Mapping[str, Any]) -> list[str] | None:
        """The properties that all parts of a combined schema name together.

        None where they are not all that there may be, or no part is about an object.
        """
        names: dict[str, None] = {}
        seen: set[str] = set()
        todo: list[Any] = [kept]
        for schema in todo:  # it grows meanwhile
            if not isinstance(schema, Mapping):
                continue
            if schema.keys() & {"additionalProperties", "patternProperties", "minProperties"}:
                return None
            for key in ("properties", "required"):
                value = schema.get(key)
                names.update(dict.fromkeys(value if isinstance(value, (Mapping, list)) else ()))
            reference = schema.get("$ref")
            if isinstance(reference, str) and reference not in seen:
                seen.add(reference)
                try:
                    todo.append(resolve(self._schema, reference))
                except InvalidRequest:
                    return None
            for key in ("anyOf", "oneOf", "allOf"):
                parts = schema.get(key)
                todo += parts if isinstance(parts, list) else []
        return list(names) or None


def _is_alone(kept: Mapping[str, Any]) -> bool:
    """Whether a schema does not combine several that constrain an object or array."""
    own = FOR_TYPE["object"] | FOR_TYPE["array"]
    parts = [key for key in APPLICATORS if key in kept]
    parts += kept["allOf"][1:] if "allOf" in kept else []
    return not parts or (len(parts) == 1 and not kept.keys() & own)


def _completed(made: dict[str, Any], names: list[str] | None, closed: bool) -> dict[str, Any]:
    """A prepared schema with what it leaves open; `names` are those of combined objects."""
    if isinstance(items := made.get("items"), list):  # drafts before 2020-12 say prefixItems so
        made["items"] = made.pop("additionalItems", False)
        if items:
            made["prefixItems"] = items
    made.pop("additionalItems", None)
    _include_bounds(made)
    if names is not None:
        made["properties"] = {**made.get("properties", {}), **_missing(made, names)}
        made["additionalProperties"] = False
        return made
    if not made.keys() & {"type", "const", "enum", *APPLICATORS}:
        kinds = [name for name, words in FOR_TYPE.items() if made.keys() & words]
        if kinds:
            made["type"] = kinds[0]
    if not closed:
        return made
    if "prefixItems" in made:
        made.setdefault("items", False)
        made.setdefault("minItems", min(len(made["prefixItems"]), made.get("maxItems", ITEMS)))
    properties = made.get("properties")
    if properties and not made.keys() & {"additionalProperties", "patternProperties"}:
        made["properties"] = {**properties, **_missing(made, made.get("required", ()))}
        if made.get("minProperties", 0) <= len(made["properties"]):
            made["additionalProperties"] = False
    return made


def _include_bounds(made: dict[str, Any]) -> None:
    """Replace exclusive bounds that are whole, on the side of 0, by inclusive ones nearby."""
    for exclusive, inclusive, stricter, sign in (
        ("exclusiveMinimum", "minimum", max, 1),
        ("exclusiveMaximum", "maximum", min, -1),
    ):
        bound = made.get(exclusive)
        if bound is not None and 0 <= bound * sign <= NEARBY_UP_TO and bound == int(bound):
            del made[exclusive]
            near = bound + sign * NEARBY
            made[inclusive] = stricter(near, made.get(inclusive, near))


def _missing(made: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Properties of these names that a schema has not, of any value."""
    return {name: True for name in names if name not in made.get("properties", {})}
