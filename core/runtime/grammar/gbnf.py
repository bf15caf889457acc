"""Checks grammars of answers, in llama.cpp's GBNF, before llama.cpp gets them. Pure.

llama.cpp follows a grammar in native code that trusts it: deeply nested brackets overflow its
stack, left recursion fills the memory, and a rule that can begin in very many ways blocks the
engine for minutes, without a check of its cancel flag. All of that shows in the grammar, and is
refused here. Some ambiguous grammars only get slow with the text; the engine limits their time.

The syntax is that of llama.cpp's grammars/README.md, as src/llama-grammar.cpp reads it; its symbols
are counted in the same way, since its limit of repetitions depends on them. Single tokens (`<[7]>`)
are not supported: a grammar is about text, and must not depend on the model's vocabulary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modeldeck.core.errors import InvalidRequest

LENGTH = 1 << 18
"""Characters of a grammar; those of real clients' schemas have a tenth of it."""
DEPTH = 64
"""Nested brackets; llama.cpp recurses into each."""
REPETITIONS = 2000
"""llama.cpp's own limit (MAX_REPETITION_THRESHOLD) on repeated symbols times repetitions."""
ELEMENTS = 200_000
"""Elements of all rules, with repetitions expanded; each takes several times 8 bytes."""
WAYS = 5_000
"""Ways in which a rule can begin: llama.cpp keeps a stack for each."""
NAME_LENGTH = 200

_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_COUNT = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_ESCAPES = {"x": 2, "u": 4, "U": 8}
_PLAIN_ESCAPES = frozenset('trn\\"[]-')


@dataclass(frozen=True, slots=True)
class _RepeatedItem:
    """An item of a sequence, with its repetition."""

    content: str | _Alternatives | None
    """The name of a rule, a group, or None for characters."""
    elements: int
    """Elements of the characters."""
    least: int = 1
    most: int | None = 1


@dataclass(frozen=True, slots=True)
class _Alternatives:
    """Alternative sequences."""

    sequences: tuple[tuple[_RepeatedItem, ...], ...]


def check_grammar(text: str) -> None:
    """Raise InvalidRequest, with the line and the reason, for a grammar that is not safe.

    >>> check_grammar('root ::= "yes" | "no"')
    >>> check_grammar('root ::= root "a"')
    Traceback (most recent call last):
    ...
    modeldeck.core.errors.InvalidRequest: The grammar's rule root begins with itself.
    """
    if len(text) > LENGTH:
        raise InvalidRequest(f"The grammar has {len(text)} characters; the most are {LENGTH}.")
    rules = _GbnfReader(text).rules()
    if "root" not in rules:
        raise InvalidRequest("The grammar has no rule named root.")
    for choice in rules.values():
        _check_names(choice, rules)
    if (total := sum(_elements(choice) for choice in rules.values())) > ELEMENTS:
        raise InvalidRequest(
            f"The grammar has {total} elements once written out; the most are {ELEMENTS}.",
            "Repeat less.",
        )
    _StartCounter(rules).check()


class _GbnfReader:
    """Recursive-descent parser of a grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._symbols: set[str] = set()
        self._made = 0
        """Symbols that llama.cpp generates for groups and repetitions."""

    def rules(self) -> dict[str, _Alternatives]:
        """Parse all rules, by name. The last definition of a name counts."""
        if "\0" in self._text:
            raise InvalidRequest("The grammar has a null character.")
        found: dict[str, _Alternatives] = {}
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

    def _choice(self, depth: int) -> _Alternatives:
        sequences = [self._sequence(depth)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(lines=True)
            sequences.append(self._sequence(depth))
        return _Alternatives(tuple(sequences))

    def _sequence(self, depth: int) -> tuple[_RepeatedItem, ...]:
        items: list[_RepeatedItem] = []
        while self._at < len(self._text):
            before = self._count_symbols()
            item = self._item(depth)
            if item is None:
                break
            self._skip(lines=depth > 0)
            weight = max(1, self._count_symbols() - before) if _is_group(item) else 1
            items.append(self._repeated(item, weight, lines=depth > 0))
        return tuple(items)

    def _item(self, depth: int) -> _RepeatedItem | None:
        """The next item, without its repetition; None where there is none."""
        match self._text[self._at]:
            case '"':
                return _RepeatedItem(None, self._literal())
            case "[":
                return _RepeatedItem(None, self._class())
            case ".":
                self._at += 1
                return _RepeatedItem(None, 1)
            case "(":
                return _RepeatedItem(self._group(depth + 1), 1)
            case "<" | "!":
                raise self._wrong("single tokens are not supported")
            case c if _NAME.match(c):
                return _RepeatedItem(self._name(), 1)
        return None

    def _group(self, depth: int) -> _Alternatives:
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

    def _literal(self) -> int:
        self._at += 1
        count = 0
        while self._peek() != '"':
            self._character()
            count += 1
        self._at += 1
        return count

    def _class(self) -> int:
        self._at += 1
        if self._peek() == "^":
            self._at += 1
        count = 0
        while self._peek() != "]":
            self._character()
            count += 1
            if self._peek() == "-" and not self._text.startswith("-]", self._at):
                self._at += 1
                self._character()
                count += 1
        self._at += 1
        if not count:
            raise self._wrong("a character class is empty")
        return count

    def _peek(self) -> str:
        if self._at >= len(self._text):
            raise self._wrong("the grammar ends in the middle")
        return self._text[self._at]

    def _character(self) -> None:
        """Pass one character, plain or escaped."""
        if self._peek() != "\\":
            self._at += 1
            return
        self._at += 1
        kind = self._peek()
        self._at += 1
        digits = _ESCAPES.get(kind, 0)
        if not digits:
            if kind not in _PLAIN_ESCAPES:
                raise self._wrong(f"there is no escape \\{kind}")
            return
        number = self._text[self._at : self._at + digits]
        if not re.fullmatch(f"[0-9A-Fa-f]{{{digits}}}", number):
            raise self._wrong(f"expected {digits} hexadecimal digits")
        self._at += digits

    def _repeated(self, item: _RepeatedItem, weight: int, *, lines: bool) -> _RepeatedItem:
        """The item with its repetitions; `weight` is how many symbols it has."""
        while (times := self._times()) is not None:
            least, most = times
            if not item.elements or (item.least, item.most) != (1, 1):
                raise self._wrong("expected something to repeat before this")
            weight *= most or least or 1
            if max(weight, least, most or 0) > REPETITIONS:
                raise self._wrong(f"this repeats more than {REPETITIONS} items")
            self._made += 1 if most is None else most - least
            item = _RepeatedItem(item.content, item.elements, least, most)
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


def _is_group(item: _RepeatedItem) -> bool:
    return isinstance(item.content, _Alternatives)


def _check_names(choice: _Alternatives, rules: dict[str, _Alternatives]) -> None:
    for sequence in choice.sequences:
        for item in sequence:
            if isinstance(item.content, _Alternatives):
                _check_names(item.content, rules)
            elif item.content is not None and item.content not in rules:
                raise InvalidRequest(f"The grammar has no rule named {item.content}.")


def _elements(choice: _Alternatives) -> int:
    """About how many elements llama.cpp makes of it."""
    total = 1
    for sequence in choice.sequences:
        total += 1
        for item in sequence:
            inner = _elements(item.content) if isinstance(item.content, _Alternatives) else 0
            optional = 1 if item.most is None else item.most - item.least
            total += inner + item.elements * max(1, item.least) + optional * (item.elements + 3)
    return total


class _StartCounter:
    """Counts the ways in which each rule can begin, and refuses left recursion."""

    def __init__(self, rules: dict[str, _Alternatives]) -> None:
        self._rules = rules
        self._empty = _nullable(rules)
        self._ways: dict[str, int] = {}

    def check(self) -> None:
        """Raise InvalidRequest for a rule that begins with itself, or in too many ways.

        Uses an explicit stack, since chains of rules may be long.
        """
        for name in self._rules:
            entered: set[str] = set()
            todo = [name]
            while todo:
                current = todo[-1]
                if current in self._ways or current in entered:
                    todo.pop()
                    if current not in self._ways:
                        self._finish(current)
                        entered.discard(current)
                    continue
                entered.add(current)
                first = self._firsts(self._rules[current])
                if again := next((n for n in first if n in entered), None):
                    raise InvalidRequest(f"The grammar's rule {again} begins with itself.")
                todo += [n for n in first if n not in self._ways]

    def _finish(self, name: str) -> None:
        self._ways[name] = ways = self._count(self._rules[name])
        if ways > WAYS:
            raise InvalidRequest(
                f"The grammar's rule {name} can begin in {ways} ways; the most are {WAYS}.",
                "Make fewer of its first parts optional.",
            )

    def _firsts(self, choice: _Alternatives) -> set[str]:
        """Names of the rules that it can begin with."""
        found: set[str] = set()
        for sequence in choice.sequences:
            for item in sequence:
                if isinstance(item.content, _Alternatives):
                    found |= self._firsts(item.content)
                elif item.content is not None:
                    found.add(item.content)
                if not self._may_be_empty(item):
                    break
        return found

    def _count(self, choice: _Alternatives) -> int:
        total = 0
        for sequence in choice.sequences:
            for item in sequence:
                ways = 1
                if isinstance(item.content, _Alternatives):
                    ways = self._count(item.content)
                elif item.content is not None:
                    ways = self._ways[item.content]
                if self._content_may_be_empty(item) and (item.most is None or item.most > 1):
                    if item.most is None:
                        raise InvalidRequest(
                            "The grammar repeats without limit what may be empty.",
                            "Let what is repeated have at least one character.",
                        )
                    ways *= item.most
                total += ways
                if not self._may_be_empty(item):
                    break
            else:
                total += 1
        return total

    def _content_may_be_empty(self, item: _RepeatedItem) -> bool:
        """Whether the content of an item can be empty."""
        return _key(item.content) in self._empty if item.content is not None else item.elements == 0

    def _may_be_empty(self, item: _RepeatedItem) -> bool:
        return item.least == 0 or self._content_may_be_empty(item)


def _key(content: str | _Alternatives) -> str | int:
    """Key of a rule, its name, or of a group, its identity."""
    return id(content) if isinstance(content, _Alternatives) else content


def _nullable(rules: dict[str, _Alternatives]) -> set[str | int]:
    """Keys of the rules and groups that can be empty.

    Linear in the size of the grammar: each sequence counts its items that are not known to be
    empty, and is visited again only when one of them becomes so.
    """
    empty: set[str | int] = set()
    todo: list[str | int] = []
    waiting: dict[str | int, list[_Sequence]] = {}

    def enter(choice: _Alternatives, owner: str | int) -> None:
        for items in choice.sequences:
            sequence = _Sequence(owner)
            for item in items:
                if isinstance(item.content, _Alternatives):
                    enter(item.content, _key(item.content))
                if item.least == 0 or (item.content is None and item.elements == 0):
                    continue
                sequence.left += 1
                if item.content is not None:
                    waiting.setdefault(_key(item.content), []).append(sequence)
            if not sequence.left:
                todo.append(owner)

    for name, choice in rules.items():
        enter(choice, name)
    while todo:
        key = todo.pop()
        if key in empty:
            continue
        empty.add(key)
        for sequence in waiting.get(key, ()):
            sequence.left -= 1
            if not sequence.left:
                todo.append(sequence.owner)
    return empty


@dataclass(slots=True)
class _Sequence:
    """A sequence of the rule or group with this key."""

    owner: str | int
    left: int = 0
    """Items that are not known to be empty; characters never are."""
