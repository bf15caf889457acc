"""Finds repeated characters of a grammar that may be one lexeme, as the text of a string. Pure.

llguidance takes the longest lexeme at each place of a text. So `[^"]*` may be read at once where no
other class of characters that may come there shares one with it, and where only its own repetition
lets one of them come after another: the characters of `[a-z]+ "x"` stay apart, and so do those of
`name name` with `name ::= [a-z]+`. What may come after what is found without regard to the rules
around it, which finds more than can be: then characters stay apart that need not.

The sets are those of Glushkov's construction (The Abstract Theory of Automata, 1961), here over all
rules of a grammar. A position is where a class of characters stands in a rule. Two positions that
share a character can both be that of one character of a text; what may follow either may then come
at the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

RULES, POSITIONS, RANGES = 1_000, 500, 2_000
"""Rules, positions, and ranges of characters of a grammar; of one that has more of any, all
characters stay apart."""
PASSES, STEPS = 100, 20_000
"""Times that the rules are gone through, and positions that are looked at, until nothing more is
found."""
WRITTEN_OUT = 16
"""Times that something must come, each of which is looked at by itself: after four hexadecimal
digits comes something else than after one."""
_TIMES = re.compile(r"\{(\d+)(,)?")
MARKS = ("*", "+", "?", "{")
"""Beginnings of repetitions."""

Ranges = tuple[tuple[int, int], ...]
"""Characters, from the first to the last of each range."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a class of characters stands."""

    rule: str
    part: int
    """Its number among the parts of the rule."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A rule or position in a sequence, with its repetition."""

    symbol: str | int
    mark: str = ""

    @property
    def is_optional(self) -> bool:
        return self.mark in ("*", "?") or self.mark.startswith(("{0,", "{0}"))

    @property
    def is_repeated(self) -> bool:
        return self.mark not in ("", "?")

    @property
    def is_endless(self) -> bool:
        """Whether any number may come, at least from one on."""
        return self.mark in ("*", "+")


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
    if len(rules) > RULES or sum(map(len, classes.values())) > RANGES:
        return []
    reader = _Reader(rules, {name: tuple(sorted(ranges)) for name, ranges in classes.items()})
    if len(reader.positions) > POSITIONS:
        return []
    found = _Sets(reader)
    if not found.fill():
        return []
    return [reader.positions[number] for number in reader.runs if found.is_apart(number)]


class _Reader:
    """Numbers the positions of rules, and finds those whose characters are repeated without end."""

    def __init__(self, rules: Mapping[str, Sequence[str]], classes: Mapping[str, Ranges]) -> None:
        self.positions: list[Position] = []
        self.characters: list[Ranges] = []
        """Of each position."""
        self.sequences: dict[str, list[list[_Item]]] = {}
        self.start = next(iter(rules))
        self._classes = classes
        for name, parts in rules.items():
            self.sequences[name] = list(self._read(name, parts))
        items = [i for found in self.sequences.values() for items in found for i in items]
        self.looped = {i.symbol for i in items if i.is_endless}
        """Positions and rules that are repeated without end, rules wherever they are used."""
        self.looped -= {i.symbol for i in items if isinstance(i.symbol, str) and not i.is_endless}
        self.looped.discard(self.start)
        self.single = {
            name: {
                items[0].symbol
                for items in found
                if len(items) == 1 and not items[0].mark and name in self.looped
            }
            for name, found in self.sequences.items()
        }
        """Positions that are an alternative by themselves, of rules that are so repeated."""
        self.runs = [
            number
            for number, position in enumerate(self.positions)
            if number in self.looped or number in self.single.get(position.rule, ())
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

    def _new(self, position: Position, characters: Ranges) -> int:
        """The number of a new position."""
        self.positions.append(position)
        self.characters.append(characters)
        return len(self.positions) - 1

    def _repeated(self, symbol: str | int, mark: str) -> Iterator[_Item]:
        """The items for one that is repeated: one for each time that it must come, if few."""
        found = _TIMES.match(mark)
        least = int(found[1]) if found else 0
        if isinstance(symbol, str) or found is None or not 1 < least <= WRITTEN_OUT:
            yield _Item(symbol, mark)
            return
        yield _Item(symbol)
        for _ in range(least - 1):
            yield _Item(self._new(self.positions[symbol], self.characters[symbol]))
        if found[2]:
            yield _Item(self._new(self.positions[symbol], self.characters[symbol]), "{0,}")


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
        self._overlapping = _overlapping(reader.characters)
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
                may_be_empty |= item.is_optional
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
            if item.is_repeated:
                own = 0
                if item.is_endless:
                    own = begins if isinstance(item.symbol, int) else self._single(item.symbol)
                self._note(ends, begins, own)
            last = ends | (last if may_be_empty or item.is_optional else 0)

    def _single(self, rule: str) -> int:
        return sum(
            1 << position for position in self._reader.single[rule] if isinstance(position, int)
        )

    def _note(self, last: int, first: int, own: int) -> None:
        """Note that these may come after those; `own` are runs that are repeated by that."""
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


def _overlapping(characters: Sequence[Ranges]) -> list[int]:
    """The positions that have a character of a position, for each."""
    found: dict[Ranges, int] = {}
    for ranges in set(characters):
        positions = (n for n, other in enumerate(characters) if not _are_disjoint(ranges, other))
        found[ranges] = sum(1 << number for number in positions)
    return [found[ranges] for ranges in characters]


def _bits(found: int) -> Iterator[int]:
    """The numbers in a set."""
    while found:
        yield (found & -found).bit_length() - 1
        found &= found - 1


def _are_disjoint(one: Ranges, two: Ranges) -> bool:
    """Whether two classes, each in the order of its ranges' beginnings, have no character both."""
    ones, twos = iter(one), iter(two)
    try:
        a, b = next(ones), next(twos)
        while True:
            if a[1] < b[0]:
                a = next(ones)
            elif b[1] < a[0]:
                b = next(twos)
            else:
                return False
    except StopIteration:
        return True
