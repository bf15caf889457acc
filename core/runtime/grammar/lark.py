"""Translates checked GBNF grammars into llguidance's dialect of Lark. Pure.

llguidance splits a text into lexemes before it parses, and takes the longest at each place; GBNF
has no lexemes. So a grammar is one lexeme where no rule is within itself; else each character is
its own, but for those that `character_runs` finds. What of 150,000 words may follow a lexeme is
found in a tenth of the time that it takes with single characters. In any case the grammar admits
the same texts as in llama.cpp; llguidance's own converter joins characters to longer lexemes, with
which `[a-z]+ "x"` could never end. Syntax: llguidance's docs/syntax.md; its regular expressions are
those of Rust's regex-syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from modeldeck.core.runtime.grammar.character_runs import MARKS, Ranges, find_runs

_PIECE = re.compile(
    r"""
    (?P<space> [ \t\r\n]+ | \#[^\r\n]* )
  | (?P<rule> [A-Za-z0-9-]+ ) [ \t]* ::=
  | (?P<name> [A-Za-z0-9-]+ )
  | " (?P<literal> (?: [^"\\] | \\. )* ) "
  | \[ (?P<no>\^)? (?P<class> (?: [^\]\\] | \\. )+ ) \]
  | \{ \s* (?P<least>[0-9]+) \s* (?P<more>,)? \s* (?P<most>[0-9]+)? \s* \}
  | (?P<mark> [*+?()|.] )
    """,
    re.X | re.S,
)
_CHARACTER = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|(.)", re.S
)
_CONTROLS = {"t": "\t", "r": "\r", "n": "\n"}
_CHARACTERS = ((1, 0xD7FF), (0xE000, 0x10FFFF))
"""Characters of a text: a grammar may contain other numbers, which never match. llama.cpp admits no
token that begins with a null character either."""
_ANY = r"[\x{1}-\x{10ffff}]"
_NONE = r"[^\x{0}-\x{10ffff}]"
_EMPTY = '""'
EXPRESSION_LENGTH = 1 << 14
"""Characters of a grammar that is written as one expression."""
EXPRESSION_DEPTH = 100
"""Rules within rules in it."""


def lark_of(grammar: str) -> tuple[str, ...]:
    r"""Translate a grammar that `gbnf.check_grammar` has accepted into llguidance's Lark.

    Returns the forms that are to be tried in turn: as one lexeme where it can be, by characters.

    >>> for form in lark_of('root ::= "a"* [^b] | root2\nroot2 ::= .'):
    ...     print(form)
    start: /(?:[\x{61}]*[^\x{0}\x{62}]|(?:[\x{1}-\x{10ffff}]))/
    start: c0 * c1 | r1
    r1: c2
    c0: /[\x{61}]/
    c1: /[^\x{0}\x{62}]/
    c2: /[\x{1}-\x{10ffff}]/
    <BLANKLINE>
    """
    writer = _LarkWriter(grammar)
    expression = writer.expression()
    by_characters = writer.text()
    return (by_characters,) if expression is None else (f"start: /{expression}/", by_characters)


class _LarkWriter:
    """Translates a grammar token by token."""

    def __init__(self, grammar: str) -> None:
        self._rules: dict[str, list[str]] = {}
        self._names: dict[str, str] = {"root": "start"}
        self._classes: dict[str, str] = {}
        self._ranges: dict[str, Ranges] = {}
        """Characters of the classes, by their names."""
        self._read(grammar)

    def text(self) -> str:
        """The grammar by characters and runs of them."""
        rules = {name: list(parts) for name, parts in self._rules.items()}
        runs = set()
        for position in find_runs({"start": rules["start"], **rules}, self._ranges):
            parts = rules[position.rule]
            runs.add(parts[position.part])
            parts[position.part] += "s"
            mark = parts[position.part + 1 : position.part + 2]
            if mark in (["+"], ["*"]):
                parts[position.part + 1] = "" if mark == ["+"] else "?"
        written = [f"{name}: {' '.join(_filled(parts))}\n" for name, parts in rules.items()]
        for content, name in self._classes.items():
            written.append(f"{name}: /{content}/\n")
            written += [f"{name}s: /{content}+/\n"] * (name in runs)
        return "".join(written)

    def expression(self) -> str | None:
        """The grammar as one expression; None for one that is too long, or no regular one."""
        classes = {name: content for content, name in self._classes.items()}
        try:
            return _ExpressionWriter(self._rules, classes).rule("start")
        except _NoExpression:
            return None

    def _read(self, grammar: str) -> None:
        """Translate all rules."""
        open_: list[list[str]] = []
        for piece in _PIECE.finditer(grammar):
            if piece["rule"] is not None:
                # The last definition of a rule counts.
                open_ = [self._begin(self._name(piece["rule"]))]
            elif piece["mark"] == "(":
                # Its own rule: llguidance limits nested brackets.
                name = f"g{len(self._rules)}"
                open_[-1].append(name)
                open_.append(self._begin(name))
            elif piece["mark"] == ")":
                open_.pop()
            elif piece["space"] is None:
                self._add(open_[-1], piece)

    def _add(self, found: list[str], piece: re.Match[str]) -> None:
        """Write a piece of a rule after those that are there."""
        if piece["name"] is not None:
            found.append(self._name(piece["name"]))
        elif piece["literal"] is not None:
            found.append(self._literal(piece["literal"]))
        elif piece["class"] is not None:
            found.append(self._class(_ranges(piece["class"]), negated=bool(piece["no"])))
        elif piece["least"] is not None:
            found += _times(piece)
        elif piece["mark"] == ".":
            found.append(self._lexeme(_ANY, _CHARACTERS))
        else:
            found.append(piece["mark"])

    def _begin(self, name: str) -> list[str]:
        self._rules[name] = []
        return self._rules[name]

    def _name(self, name: str) -> str:
        """The name of a rule: llguidance's are in small letters, and have other signs."""
        return self._names.setdefault(name, f"r{len(self._names)}")

    def _lexeme(self, content: str, ranges: Ranges) -> str:
        """A lexeme of one character. A small name lets no other lexeme be made of it."""
        name = self._classes.setdefault(content, f"c{len(self._classes)}")
        self._ranges[name] = ranges
        return name

    def _literal(self, content: str) -> str:
        letters = [self._class([(code, code)]) for code in _codes(content)]
        return letters[0] if len(letters) == 1 else f"({' '.join(letters) or _EMPTY})"

    def _class(self, ranges: Iterable[tuple[int, int]], *, negated: bool = False) -> str:
        kept = tuple(
            (max(first, low), min(last, high))
            for first, last in ranges
            for low, high in _CHARACTERS
            if max(first, low) <= min(last, high)
        )
        if not kept:
            return self._lexeme(_ANY, _CHARACTERS) if negated else self._lexeme(_NONE, ())
        content = "".join(
            rf"\x{{{low:x}}}" if low == high else rf"\x{{{low:x}}}-\x{{{high:x}}}"
            for low, high in kept
        )
        if negated:
            return self._lexeme(rf"[^\x{{0}}{content}]", _others(kept))
        return self._lexeme(f"[{content}]", kept)


class _NoExpression(Exception):
    """A rule is within itself, or the expression is too long."""


class _ExpressionWriter:
    """Writes rules of `_LarkWriter` as regular expressions, with the rules in them written out."""

    def __init__(self, rules: Mapping[str, Sequence[str]], classes: Mapping[str, str]) -> None:
        self._rules = rules
        self._known: dict[str, str] = {**classes, _EMPTY: ""}
        self._open: set[str] = set()

    def rule(self, name: str) -> str:
        """The expression of a rule, or of a lexeme. Raises _NoExpression."""
        if name in self._known:
            return self._known[name]
        if name in self._open or len(self._open) == EXPRESSION_DEPTH:
            raise _NoExpression
        self._open.add(name)
        written = self._written(self._rules[name])
        self._open.remove(name)
        self._known[name] = written
        return written

    def _written(self, parts: Iterable[str]) -> str:
        found: list[str] = []
        length = 0
        for part in parts:
            if part == "|":
                found.append(part)
            elif part.startswith(MARKS):
                found[-1] += part
            elif part.startswith("("):
                found.append(self._written(part[1:-1].split()))
            else:
                found.append(self.rule(part))
            length += len(found[-1])
            if length > EXPRESSION_LENGTH:
                raise _NoExpression
        return f"(?:{''.join(found)})"


def _filled(parts: Sequence[str]) -> Sequence[str]:
    """The parts of a rule, with a word for each sequence that holds nothing."""
    found: list[str] = []
    for before, part in pairwise(("|", *filter(None, parts), "|")):
        if before == part == "|":
            found.append(_EMPTY)
        found.append(part)
    return found[:-1]


def _times(piece: re.Match[str]) -> Sequence[str]:
    """A repetition by numbers as one mark; none for `{1}`, after which another may follow."""
    least = int(piece["least"])
    most = int(piece["most"]) if piece["most"] else None if piece["more"] else least
    if most is None:
        return ({0: "*", 1: "+"}.get(least, f"{{{least},}}"),)
    if least == most:
        return () if most == 1 else (f"{{{most}}}",)
    return ("?" if most == 1 else f"{{{least},{most}}}",)


def _others(ranges: Ranges) -> Ranges:
    """All characters but these."""
    found, next_ = [], 1
    for low, high in sorted(ranges):
        if next_ < low:
            found.append((next_, low - 1))
        next_ = max(next_, high + 1)
    return (*found, (next_, 0x10FFFF))


def _codes(content: str) -> Iterable[int]:
    """The characters of a literal, as numbers."""
    for found in _CHARACTER.finditer(content):
        number = found[1] or found[2] or found[3]
        if number:
            yield int(number, 16)
        else:
            yield ord(_CONTROLS.get(found[4], found[4]) if found[4] else found[5])


def _ranges(content: str) -> list[tuple[int, int]]:
    """The ranges of a class, as llama.cpp reads them: a sign alone is a range of one."""
    pieces = [found.group() for found in _CHARACTER.finditer(content)]
    codes = list(_codes(content))
    found: list[tuple[int, int]] = []
    place = 0
    while place < len(codes):
        # A dash that is last, or written with a backslash, is itself.
        if place + 2 < len(codes) and pieces[place + 1] == "-":
            found.append((codes[place], codes[place + 2]))
            place += 3
        else:
            found.append((codes[place], codes[place]))
            place += 1
    return found
