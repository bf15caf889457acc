"""Finds repeated characters of a grammar that may be one lexeme, as the text of a string. Pure.

llguidance takes the longest lexeme at each place of a text: it decides by the next byte whether one
goes on, and does not go back. So `[^"]*` may be read at once where no other class of characters
that may come there has one that begins with the same byte, and where only its own repetition lets
one of them come after another: the characters of `[a-z]+ "x"` stay apart, and so do those of
`[é]+ "è"`, and of `name name` with `name ::= [a-z]+`. What may come after what is found without
regard to the rules around it, which finds more than can be: then characters stay apart that need
not. Where a class has no characters all stay apart, since a lexeme that nothing can end is read on
by llguidance without end.

The sets are those of Glushkov's construction (The Abstract Theory of Automata, 1961), here over all
rules of a grammar. A position is where a class of characters stands in a rule. Two positions that
share a byte can both be that of one character of a text; what may follow either may then come at
the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

ITEMS, POSITIONS = 2_000, 500
"""Items of a grammar, and positions; of one that has more, all characters stay apart."""
PASSES, STEPS = 100, 20_000
"""Times that the rules are gone through, and positions that are looked at, until nothing more is
found."""
WRITTEN_OUT = 16
"""Times that something must come, each of which is looked at by itself: after four hexadecimal
digits comes something else than after one."""
MARKS = ("*", "+", "?", "{")
"""Beginnings of repetitions."""

Ranges = Sequence[tuple[int, int]]
"""Characters, from the first to the last of each range."""

_TIMES = re.compile(r"\{([0-9]+)(,?)([0-9]*)\}")


@dataclass(frozen=True, slots=True)
class Position:
    """Where a class of characters stands."""

    rule: str
    part: int
    """Its number among the parts of the rule."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A rule or position in a sequence, and how often it may come."""

    symbol: str | int
    least: int = 1
    most: int | None = 1

    @property
    def is_endless(self) -> bool:
        """Whether any number may come, from none or from one on."""
        return self.most is None and self.least <= 1


def find_runs(rules: Mapping[str, Sequence[str]], classes: Mapping[str, Ranges]) -> list[Position]:
    """Find the positions whose characters may be read at once.

    Args:
        rules: Their parts by name: names, marks, `|`, and names in brackets for a text. The first
            one is what the whole answer is.
        classes: Characters by the name of their class.

    >>> rules = {"start": ["q", "g", "*", "q"], "g": ["c", "|", "b", "q"]}
    >>> classes = {"q": ((34, 34),), "b": ((92, 92),), "c": ((97, 122),)}
    >>> find_runs(rules, classes)
    [Position(rule='g', part=0)]
    """
    if sum(part.count(" ") + 1 for parts in rules.values() for part in parts) > ITEMS:
        return []
    bytes_ = {name: _first_bytes(ranges) for name, ranges in classes.items()}
    reader = _Reader(rules, bytes_)
    if len(reader.positions) > POSITIONS or 0 in bytes_.values():
        return []
    found = _Sets(reader)
    if not found.fill():
        return []
    return [reader.positions[number] for number in reader.runs if found.is_apart(number)]


class _Reader:
    """Numbers the positions of rules, and finds those whose characters are repeated without end."""

    def __init__(self, rules: Mapping[str, Sequence[str]], classes: Mapping[str, int]) -> None:
        self.positions: list[Position] = []
        self.bytes: list[int] = []
        """What a character of each position begins with, as bits."""
        self.sequences: dict[str, list[list[_Item]]] = {}
        self.start = next(iter(rules))
        self._classes = classes
        for name, parts in rules.items():
            self.sequences[name] = list(self._read(name, parts))
        items = [i for found in self.sequences.values() for items in found for i in items]
        looped = {i.symbol for i in items if i.is_endless}
        looped -= {i.symbol for i in items if isinstance(i.symbol, str) and not i.is_endless}
        looped.discard(self.start)
        self.single = dict.fromkeys(self.sequences, 0)
        """Positions that are an alternative by themselves, of rules that are repeated without end
        wherever they are used."""
        for rule in self.sequences.keys() & looped:
            for alternative in self.sequences[rule]:
                match alternative:
                    case [_Item(int(number), 1, 1)]:
                        self.single[rule] |= 1 << number
        self.runs = [
            number
            for number, position in enumerate(self.positions)
            if number in looped or self.single.get(position.rule, 0) >> number & 1
        ]

    def _read(self, rule: str, parts: Sequence[str]) -> Iterator[list[_Item]]:
        """The alternatives of a rule."""
        items: list[_Item] = []
        for number, part in enumerate(parts):
            if part == "|":
                yield items
                items = []
            elif part.startswith(MARKS):
                items += self._repeated(items.pop().symbol, part)
            elif part.startswith("("):
                inner = f"{rule} {number}"  # no rule has such a name
                self.sequences[inner] = list(self._read(inner, part[1:-1].split()))
                items.append(_Item(inner))
            elif part in self._classes:
                items.append(_Item(self._new(Position(rule, number), self._classes[part])))
            elif part != '""':
                items.append(_Item(part))
        yield items

    def _new(self, position: Position, bytes_: int) -> int:
        """The number of a new position."""
        self.positions.append(position)
        self.bytes.append(bytes_)
        return len(self.positions) - 1

    def _repeated(self, symbol: str | int, mark: str) -> Iterator[_Item]:
        """The items for one that is repeated: one for each time that it must come, if few."""
        least, most = _times(mark)
        if isinstance(symbol, str) or not 1 < least <= WRITTEN_OUT:
            yield _Item(symbol, least, most)
            return
        yield _Item(symbol)
        for _ in range(least - 1):
            yield _Item(self._new(self.positions[symbol], self.bytes[symbol]))
        if most != least:
            # No run itself: those before it have the same characters.
            yield _Item(self._new(self.positions[symbol], self.bytes[symbol]), 0, 2)


class _Sets:
    """What each rule begins and ends with, and what may follow each position. Sets are bits."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._rules = reader.sequences
        self._empty = dict.fromkeys(self._rules, False)
        self._first = dict.fromkeys(self._rules, 0)
        self._last = dict.fromkeys(self._rules, 0)
        self._follow = [0] * len(reader.positions)
        self._beside = [0] * len(reader.positions)
        """What may come where a position may come."""
        self._overlapping = [
            sum(1 << number for number, other in enumerate(reader.bytes) if own & other)
            for own in reader.bytes
        ]
        self._noted: set[tuple[int, int]] = set()
        self._split = 0
        """Positions that may come after themselves otherwise than by their own repetition."""

    def fill(self) -> bool:
        """Fill the sets; False if that takes too long."""
        for _ in range(PASSES):
            if not sum(self._extended(rule) for rule in reversed(self._rules)):
                break
        else:
            return False
        for sequences in self._rules.values():
            for items in sequences:
                self._find_follow(items)
        return self._find_beside()

    def is_apart(self, number: int) -> bool:
        """Whether each of its characters, where it may come, can only be at this position."""
        own = 1 << number
        return not (self._split & own or self._beside[number] & self._overlapping[number] & ~own)

    def _ends(self, symbol: str | int) -> tuple[int, int, bool]:
        """What a symbol begins and ends with, and whether it may be empty."""
        if isinstance(symbol, int):
            return 1 << symbol, 1 << symbol, False
        return self._first[symbol], self._last[symbol], self._empty[symbol]

    def _extended(self, rule: str) -> bool:
        """Add to the sets of a rule what its parts have by now; whether that was anything."""
        before = self._first[rule], self._last[rule], self._empty[rule]
        for items in self._rules[rule]:
            first = last = 0
            is_empty = True
            for item in items:
                begins, ends, may_be_empty = self._ends(item.symbol)
                may_be_empty |= item.least == 0
                first |= begins if is_empty else 0
                last = ends | (last if may_be_empty else 0)
                is_empty &= may_be_empty
            self._first[rule] |= first
            self._last[rule] |= last
            self._empty[rule] |= is_empty
        return before != (self._first[rule], self._last[rule], self._empty[rule])

    def _find_follow(self, items: Sequence[_Item]) -> None:
        """Note what follows what in one alternative."""
        last = 0
        for item in items:
            begins, ends, may_be_empty = self._ends(item.symbol)
            self._note(last, begins, own=0)
            if item.most != 1:
                own = 0
                if item.is_endless:
                    own = (
                        begins if isinstance(item.symbol, int) else self._reader.single[item.symbol]
                    )
                self._note(ends, begins, own)
            last = ends | (last if may_be_empty or item.least == 0 else 0)

    def _note(self, last: int, first: int, own: int) -> None:
        """Note that these may come after those; `own` are runs that are repeated by that."""
        if (last, first) not in self._noted:
            self._noted.add((last, first))
            for number in _bits(last):
                self._follow[number] |= first
        self._split |= last & first & ~own

    def _find_beside(self) -> bool:
        """Find what may come together; False if that takes too long."""
        first = self._first[self._reader.start]
        todo = [(together, together) for together in {first, *self._follow}]
        found = set(todo)
        steps = 0
        while todo:
            some, others = todo.pop()
            for number in _bits(some):
                if (steps := steps + 1) > STEPS:
                    return False
                new = others & ~self._beside[number]
                self._beside[number] |= new
                for other in _bits(new & self._overlapping[number] & ~(1 << number)):
                    steps += 1
                    one, two = self._follow[number], self._follow[other]
                    pairs = {(one, two), (two, one)} - found
                    found |= pairs
                    todo += pairs
        return True


def _first_bytes(ranges: Ranges) -> int:
    """The bytes that the characters begin with in UTF-8, as bits."""
    found = 0
    for low, high in ranges:
        first, last = (_lead(code) for code in (low, high))
        found |= (2 << last) - (1 << first)
    return found


def _lead(code: int) -> int:
    """The first byte of a character in UTF-8 (RFC 3629, section 3); also of a surrogate."""
    return chr(code).encode("utf-8", "surrogatepass")[0]


def _times(mark: str) -> tuple[int, int | None]:
    """The least and the most times of a repetition."""
    simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if mark in simple:
        return simple[mark]
    found = _TIMES.fullmatch(mark)
    assert found is not None
    least = int(found[1])
    return least, int(found[3]) if found[3] else None if found[2] else least


def _bits(found: int) -> Iterator[int]:
    """The numbers in a set."""
    while found:
        yield (found & -found).bit_length() - 1
        found &= found - 1
