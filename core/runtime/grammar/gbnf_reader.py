"""Reads a grammar in llama.cpp's GBNF into its rules. Pure.

The syntax is that of llama.cpp's grammars/README.md, as src/llama-grammar.cpp reads it; its symbols
are counted in the same way, since its limit of repetitions depends on them. Single tokens (`<[7]>`)
are not supported: a grammar is about text, and must not depend on the model's vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from modeldeck.core.errors import InvalidRequest

DEPTH = 64
"""Nested brackets; llama.cpp recurses into each."""
REPETITIONS = 2000
"""llama.cpp's own limit (MAX_REPETITION_THRESHOLD) on repeated symbols times repetitions."""
NAME_LENGTH = 200

_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_COUNT = re.compile(r"\{\s*([0-9]{1,9})\s*(?:(,)\s*([0-9]{1,9})?\s*)?\}")
_ESCAPES = {"x": 2, "u": 4, "U": 8}
_PLAIN_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", **{sign: sign for sign in '\\"[]-'}}
_ALL = ((1, 0xD7FF), (0xE000, 0x10FFFF))
"""Characters of a text: a grammar may contain other numbers, which never match. llama.cpp admits no
token that begins with a null character either."""

Characters = tuple[tuple[int, int], ...]
"""A class: from the first to the last of each range, in order and apart."""


@dataclass(frozen=True, slots=True)
class RepeatedItem:
    """An item of a sequence, with its repetition."""

    content: str | Alternatives | None
    """The name of a rule, a group, or None for characters."""
    elements: int
    """Elements of the characters."""
    characters: tuple[Characters, ...] = ()
    """One class after the other."""
    least: int = 1
    most: int | None = 1


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Alternative sequences."""

    sequences: tuple[tuple[RepeatedItem, ...], ...]


class GbnfReader:
    """Recursive-descent parser of a grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._symbols: set[str] = set()
        self._made = 0
        """Symbols that llama.cpp generates for groups and repetitions."""

    def rules(self) -> dict[str, Alternatives]:
        """Parse all rules, by name. The last definition of a name counts."""
        if "\0" in self._text:
            raise InvalidRequest("The grammar has a null character.")
        found: dict[str, Alternatives] = {}
        self._skip(lines=True)
        while self._at < len(self._text):
            name = self._name()
            self._skip(lines=False)
            if not self._text.startswith("::=", self._at):
                raise self._wrong("expected ::= after the name of a rule")
            self._at += 3
            self._skip(lines=True)
            found[name] = self._choice(0)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                raise self._wrong("expected the end of the line or a next item")
            self._skip(lines=True)
        return found

    def _wrong(self, what: str) -> InvalidRequest:
        line = self._text.count("\n", 0, self._at) + 1
        near = self._text[self._at : self._at + 20].split("\n")[0]
        where = f" at {near!r}" if near else ""
        return InvalidRequest(f"The grammar is wrong in line {line}{where}: {what}.")

    def _skip(self, *, lines: bool) -> None:
        found = (_SPACE_AND_LINES if lines else _SPACE).match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._wrong("expected the name of a rule")
        if len(found.group()) > NAME_LENGTH:
            raise self._wrong(f"a name has at most {NAME_LENGTH} characters")
        self._at = found.end()
        self._symbols.add(found.group())
        return found.group()

    def _count_symbols(self) -> int:
        return len(self._symbols) + self._made

    def _choice(self, depth: int) -> Alternatives:
        sequences = [self._sequence(depth)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(lines=True)
            sequences.append(self._sequence(depth))
        return Alternatives(tuple(sequences))

    def _sequence(self, depth: int) -> tuple[RepeatedItem, ...]:
        items: list[RepeatedItem] = []
        while self._at < len(self._text):
            before = self._count_symbols()
            item = self._item(depth)
            if item is None:
                break
            self._skip(lines=depth > 0)
            weight = max(1, self._count_symbols() - before) if _is_group(item) else 1
            items.append(self._repeated(item, weight, lines=depth > 0))
        return tuple(items)

    def _item(self, depth: int) -> RepeatedItem | None:
        """The next item, without its repetition; None where there is none."""
        match self._text[self._at]:
            case '"':
                characters = self._literal()
                return RepeatedItem(None, len(characters), characters)
            case "[":
                elements, found = self._class()
                return RepeatedItem(None, elements, (found,))
            case ".":
                self._at += 1
                return RepeatedItem(None, 1, (_ALL,))
            case "(":
                return RepeatedItem(self._group(depth + 1), 1)
            case "<" | "!":
                raise self._wrong("single tokens are not supported")
            case c if _NAME.match(c):
                return RepeatedItem(self._name(), 1)
        return None

    def _group(self, depth: int) -> Alternatives:
        if depth > DEPTH:
            raise self._wrong(f"there are more than {DEPTH} brackets within each other")
        self._at += 1
        self._skip(lines=True)
        self._made += 1
        choice = self._choice(depth)
        if not self._text.startswith(")", self._at):
            raise self._wrong("expected a closing bracket")
        self._at += 1
        return choice

    def _literal(self) -> tuple[Characters, ...]:
        self._at += 1
        found = []
        while self._peek() != '"':
            code = self._character()
            found.append(_class_of([(code, code)]))
        self._at += 1
        return tuple(found)

    def _class(self) -> tuple[int, Characters]:
        """Its elements, and its characters."""
        self._at += 1
        if negated := self._peek() == "^":
            self._at += 1
        ranges: list[tuple[int, int]] = []
        count = 0
        while self._peek() != "]":
            low = high = self._character()
            count += 1
            if self._peek() == "-" and not self._text.startswith("-]", self._at):
                self._at += 1
                high = self._character()
                count += 1
            ranges.append((low, high))
        self._at += 1
        if not count:
            raise self._wrong("a character class is empty")
        return count, _class_of(_others(_class_of(ranges)) if negated else ranges)

    def _peek(self) -> str:
        if self._at >= len(self._text):
            raise self._wrong("the grammar ends in the middle")
        return self._text[self._at]

    def _character(self) -> int:
        """Pass one character, plain or escaped, and return its number."""
        found = self._peek()
        self._at += 1
        if found != "\\":
            return ord(found)
        kind = self._peek()
        self._at += 1
        digits = _ESCAPES.get(kind, 0)
        if not digits:
            if kind not in _PLAIN_ESCAPES:
                raise self._wrong(f"there is no escape \\{kind}")
            return ord(_PLAIN_ESCAPES[kind])
        number = self._text[self._at : self._at + digits]
        if not re.fullmatch(f"[0-9A-Fa-f]{{{digits}}}", number):
            raise self._wrong(f"expected {digits} hexadecimal digits")
        self._at += digits
        return int(number, 16)

    def _repeated(self, item: RepeatedItem, weight: int, *, lines: bool) -> RepeatedItem:
        """The item with its repetitions; `weight` is how many symbols it has."""
        while (times := self._times()) is not None:
            least, most = times
            if not item.elements or (item.least, item.most) != (1, 1):
                raise self._wrong("expected something to repeat before this")
            weight *= most or least or 1
            if max(weight, least, most or 0) > REPETITIONS:
                raise self._wrong(f"this repeats more than {REPETITIONS} items")
            self._made += 1 if most is None else most - least
            item = replace(item, least=least, most=most)
            self._skip(lines=lines)
        return item

    def _times(self) -> tuple[int, int | None] | None:
        """The repetition at this place; None for none."""
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        mark = self._text[self._at : self._at + 1]
        if mark in simple:
            self._at += 1
            return simple[mark]
        if mark != "{":
            return None
        found = _COUNT.match(self._text, self._at)
        if found is None:
            raise self._wrong("expected {2}, {2,} or {2,5}")
        least = int(found[1])
        most = (int(found[3]) if found[3] else None) if found[2] else least
        if most is not None and most < max(least, 1):
            raise self._wrong("the most is less than the least")
        self._at = found.end()
        return least, most


def _is_group(item: RepeatedItem) -> bool:
    return isinstance(item.content, Alternatives)


def _class_of(ranges: Iterable[tuple[int, int]]) -> Characters:
    """The characters of a text that are in the ranges; none in one whose first is the larger."""
    kept = sorted(
        (max(first, low), min(last, high))
        for first, last in ranges
        for low, high in _ALL
        if max(first, low) <= min(last, high)
    )
    found: list[tuple[int, int]] = []
    for low, high in kept:
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return tuple(found)


def _others(characters: Characters) -> Iterable[tuple[int, int]]:
    """The ranges between these."""
    edges = [0, *(edge for low, high in characters for edge in (low - 1, high + 1)), 0x10FFFF]
    return zip(edges[::2], edges[1::2], strict=True)
