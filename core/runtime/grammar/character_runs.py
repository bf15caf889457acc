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

from collections.abc import Iterator, Sequence

from modeldeck.core.runtime.grammar.flat_grammar import START, FlatGrammar, Item
from modeldeck.core.runtime.grammar.gbnf_reader import Characters

ITEMS, POSITIONS = 2_000, 500
"""Items of a grammar, and positions; of one that has more, all characters stay apart."""
PASSES, STEPS = 100, 20_000
"""Times that the rules are gone through, and positions that are looked at, until nothing more is
found."""
WRITTEN_OUT = 16
"""Times that something must come, each of which is looked at by itself: after four hexadecimal
digits comes something else than after one."""

Place = tuple[str, int]
"""A rule, and the number of an alternative."""


def find_runs(grammar: FlatGrammar) -> dict[Place, list[int]]:
    """Find the items of alternatives whose characters may be read at once.

    >>> g = [[Item("c")], [Item("b"), Item("q")]]
    >>> rules = {START: [[Item("q"), Item("g", 0, None), Item("q")]], "g": g}
    >>> find_runs(FlatGrammar(rules, {"q": ((34, 34),), "b": ((92, 92),), "c": ((97, 122),)}))
    {('g', 0): [0]}
    """
    items = sum(len(found) for rule in grammar.rules.values() for found in rule)
    if items > ITEMS or len(grammar.rules) > ITEMS:
        return {}
    reader = _Reader(grammar)
    if len(reader.bytes) > POSITIONS or 0 in reader.bytes:
        return {}
    sets = _Sets(reader)
    if not sets.fill():
        return {}
    found: dict[Place, list[int]] = {}
    for number, (place, item) in reader.runs.items():
        if sets.is_apart(number):
            found.setdefault(place, []).append(item)
    return found


class _Reader:
    """Numbers the positions of rules, and finds those whose characters are repeated without end."""

    def __init__(self, grammar: FlatGrammar) -> None:
        self.bytes: list[int] = []
        """What a character of each position begins with, as bits."""
        self.sequences: dict[str, list[list[tuple[str | int, Item]]]] = {}
        """Alternatives, with the number of a position instead of the name of its class."""
        self.runs: dict[int, tuple[Place, int]] = {}
        self.single = dict.fromkeys(grammar.rules, 0)
        """Positions that are an alternative by themselves, of rules that are repeated without end
        wherever they are used."""
        self._classes = {name: _first_bytes(found) for name, found in grammar.classes.items()}
        items = [item for rule in grammar.rules.values() for found in rule for item in found]
        self._looped = {item.symbol for item in items if item.is_endless}
        self._looped -= {START, *(item.symbol for item in items if not item.is_endless)}
        for name, rule in grammar.rules.items():
            self.sequences[name] = [
                [found for i, item in enumerate(items) for found in self._read((name, n), i, items)]
                for n, items in enumerate(rule)
            ]

    def _read(
        self, place: Place, number: int, items: Sequence[Item]
    ) -> Iterator[tuple[str | int, Item]]:
        """An item, or one for each time that it must come, if few."""
        item = items[number]
        if item.symbol not in self._classes:
            yield item.symbol, item
            return
        if not 1 < item.least <= WRITTEN_OUT:
            position = self._new(item)
            if item.is_endless:
                self.runs[position] = place, number
            elif item == Item(item.symbol) and len(items) == 1 and place[0] in self._looped:
                self.runs[position] = place, number
                self.single[place[0]] |= 1 << position
            yield position, item
            return
        for _ in range(item.least):
            yield self._new(item), Item(item.symbol)
        if item.most != item.least:
            # No run itself: those before it have the same characters.
            yield self._new(item), Item(item.symbol, 0, 2)

    def _new(self, item: Item) -> int:
        self.bytes.append(self._classes[item.symbol])
        return len(self.bytes) - 1


class _Sets:
    """What each rule begins and ends with, and what may follow each position. Sets are bits."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._rules = reader.sequences
        self._empty = dict.fromkeys(self._rules, False)
        self._first = dict.fromkeys(self._rules, 0)
        self._last = dict.fromkeys(self._rules, 0)
        self._follow = [0] * len(reader.bytes)
        self._beside = [0] * len(reader.bytes)
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
            for symbol, item in items:
                begins, ends, may_be_empty = self._ends(symbol)
                may_be_empty |= item.least == 0
                first |= begins if is_empty else 0
                last = ends | (last if may_be_empty else 0)
                is_empty &= may_be_empty
            self._first[rule] |= first
            self._last[rule] |= last
            self._empty[rule] |= is_empty
        return before != (self._first[rule], self._last[rule], self._empty[rule])

    def _find_follow(self, items: Sequence[tuple[str | int, Item]]) -> None:
        """Note what follows what in one alternative."""
        last = 0
        for symbol, item in items:
            begins, ends, may_be_empty = self._ends(symbol)
            self._note(last, begins, own=0)
            if item.most != 1:
                own = 0
                if item.is_endless:
                    own = begins if isinstance(symbol, int) else self._reader.single[symbol]
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
        first = self._first[START]
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


def _first_bytes(ranges: Characters) -> int:
    """The bytes that the characters begin with in UTF-8, as bits."""
    found = 0
    for low, high in ranges:
        first, last = (_lead(code) for code in (low, high))
        found |= (2 << last) - (1 << first)
    return found


def _lead(code: int) -> int:
    """The first byte of a character in UTF-8 (RFC 3629, section 3); also of a surrogate."""
    return chr(code).encode("utf-8", "surrogatepass")[0]


def _bits(found: int) -> Iterator[int]:
    """The numbers in a set."""
    while found:
        yield (found & -found).bit_length() - 1
        found &= found - 1
