"""Translates the regular subset of JSON Schema's patterns into grammars. Pure.

Sequences, alternatives, groups, character classes and repetitions, as JSON Schema recommends
(2020-12, core, section 6.4). An expression that is not anchored may have text around it.
"""

from __future__ import annotations

import re

from modeldeck.core.errors import InvalidRequest

LENGTH = 1000
"""Characters of an expression."""
DEPTH = 32
"""Nested groups."""

_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " "}
_CONTROLS = {"t": "\\t", "n": "\\n", "r": "\\r", "f": "\\f"}
_TIMES = re.compile(r"[*+?]|\{\d{1,4}(?:,\d{0,4})?\}")


def pattern_rule(pattern: str) -> str:
    r"""Return the grammar of the strings that a pattern matches, without JSON's quotes.

    Raises InvalidRequest for a pattern that is wrong or not supported.

    >>> print(pattern_rule("^[a-z]{2,3}-\\d+$"))
    ([a-z]{2,3} "-" [0-9]+)
    """
    if len(pattern) > LENGTH:
        raise InvalidRequest(f"A pattern of the JSON schema is longer than {LENGTH} characters.")
    reader = _RegexReader(pattern)
    before = "" if pattern.startswith("^") else "char* "
    after = "" if pattern.endswith("$") and not pattern.endswith("\\$") else " char*"
    return f"{before}{reader.whole()}{after}"


class _RegexReader:
    """Recursive-descent parser of a pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def whole(self) -> str:
        """The whole expression, in brackets."""
        if self._peek() == "^":
            self._at += 1
        found = self._choice(0)
        if self._at < len(self._pattern):
            raise self._wrong("a bracket is closed that was not opened")
        return f"({found})"

    def _wrong(self, what: str) -> InvalidRequest:
        return InvalidRequest(f"The pattern {self._pattern[:60]!r} is not supported: {what}.")

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _choice(self, depth: int) -> str:
        if depth > DEPTH:
            raise self._wrong("its groups are too deep")
        ways = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            ways.append(self._sequence(depth))
        if (
            len(ways) > 1
            and ("^" in self._pattern[:1] or self._pattern.endswith("$"))
            and not depth
        ):
            raise self._wrong("an anchor would hold for one alternative only; put them in a group")
        return " | ".join(ways)

    def _sequence(self, depth: int) -> str:
        items: list[str] = []
        while (c := self._peek()) not in ("", "|", ")"):
            if c == "$" and self._at == len(self._pattern) - 1:
                self._at += 1
                break
            item = self._item(depth)
            if times := _TIMES.match(self._pattern, self._at):
                item += times.group()
                self._at = times.end()
                if self._peek() == "?":
                    self._at += 1  # not greedy: the same texts
            items.append(item)
        return " ".join(items) or '""'

    def _item(self, depth: int) -> str:
        c = self._peek()
        self._at += 1
        match c:
            case "(":
                return self._group(depth)
            case "[":
                return self._class()
            case ".":
                return "char"
            case "\\":
                return self._escape()
            case "^" | "$":
                raise self._wrong(f"there is a {c} in the middle")
            case "*" | "+" | "?" | "{":
                raise self._wrong(f"{c} repeats nothing")
        return self._plain(c)

    def _plain(self, c: str) -> str:
        if c < " " or c == "\x7f":
            raise self._wrong("it has control characters")
        return {'"': '"\\\\\\""', "\\": '"\\\\\\\\"'}.get(c, f'"{c}"')

    def _group(self, depth: int) -> str:
        if self._peek() == "?":
            if not self._pattern.startswith("?:", self._at):
                raise self._wrong("it looks around, or names its groups")
            self._at += 2
        found = self._choice(depth + 1)
        if self._peek() != ")":
            raise self._wrong("a bracket is not closed")
        self._at += 1
        return f"({found})"

    def _escape(self) -> str:
        c = self._peek()
        self._at += 1
        if c in _CLASSES:
            return f"[{_CLASSES[c]}]"
        if c in ("D", "W", "S"):
            return rf'[^"\\\x00-\x1F\x7F{_CLASSES[c.lower()]}]'
        if c in _CONTROLS:
            return f'"\\{_CONTROLS[c]}"'
        if not c or c.isalnum():
            raise self._wrong(f"it has \\{c}")
        return self._plain(c)

    def _class(self) -> str:
        negated = self._peek() == "^"
        self._at += negated
        content = ""
        while (c := self._peek()) != "]":
            if not c:
                raise self._wrong("a bracket is not closed")
            self._at += 1
            content += self._member(c)
        self._at += 1
        if not content:
            raise self._wrong("a character class is empty")
        return rf'[^"\\\x00-\x1F\x7F{content}]' if negated else f"[{content}]"

    def _member(self, c: str) -> str:
        if c == "\\":
            c = self._peek()
            self._at += 1
            if c in _CLASSES:
                return _CLASSES[c]
            if not c or c.isalnum():
                raise self._wrong(f"it has \\{c} in a class")
        elif c == "-" and self._peek() not in ("]", "") and self._pattern[self._at - 2] not in "[^":
            return "-"
        if c in '"\\' or c < " " or c == "\x7f":
            raise self._wrong("a class has characters that JSON must escape")
        return f"\\{c}" if c in "[]-" else c
