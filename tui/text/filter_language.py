"""The filter language of all lists: words and tests in any order, `-` before one negates it. Pure.

    params<8 size<5G tools -mlx quant:q4 llama

A `Language` names the tests of one kind of row; a `RowFilter` is a parsed text. What is no test of
the language is a word, and every word has to be in the text of the row. A test that is still being
written, such as `params<`, holds for every row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

_COMPARISON = re.compile(
    r"(?P<name>[^<>=:]+)(?P<sign><=|>=|<|>|=)(?P<number>\d+\.?\d*|\.\d+|)(?P<unit>[a-z]*)"
)

DECIMAL: Mapping[str, float] = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
"""Units of bytes on a disk: `5G` and `5GB`; see `sized`."""
BINARY: Mapping[str, float] = {"": 1, "k": 1 << 10, "m": 1 << 20}
"""Units of tokens: `32k` is 32768."""
PLAIN: Mapping[str, float] = {"": 1}


def sized(units: Mapping[str, float], plain: str) -> Mapping[str, float]:
    """Units with and without a `b` after them; a number without a unit counts in `plain`.

    >>> sized(DECIMAL, "g")["mb"], sized(DECIMAL, "g")[""]
    (1000000.0, 1000000000.0)
    """
    return {**units, **{f"{unit}b": factor for unit, factor in units.items()}, "": units[plain]}


@dataclass(frozen=True, slots=True)
class Measure(Generic[T]):
    """A figure that rows can be compared by."""

    value: Callable[[T], float | None]
    """Its value; None where it is not known, and then no comparison holds."""
    units: Mapping[str, float] = field(default_factory=lambda: PLAIN)
    """Factors by the unit's name in small letters; `""` is for a number alone."""


@dataclass(frozen=True, slots=True)
class RowFilter(Generic[T]):
    """A parsed filter."""

    text: Callable[[T], str]
    """All words of a row, in small letters."""
    tests: tuple[Callable[[T], bool], ...] = ()
    """Conditions besides the words, negated words among them."""
    words: tuple[str, ...] = ()
    """Words that must be there, in small letters: what is marked in the rows, and searched for."""

    def matches(self, row: T) -> bool:
        """Whether the row has all words and passes all tests."""
        if not self.passes(row):
            return False
        text = self.text(row) if self.words else ""
        return all(word in text for word in self.words)

    def passes(self, row: T) -> bool:
        """Whether the row passes the tests, whatever its words."""
        return all(holds(row) for holds in self.tests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Language(Generic[T]):
    """The tests of one kind of row, by name in small letters."""

    text: Callable[[T], str]
    """All words of a row, in small letters."""
    measures: Mapping[str, Measure[T]] = field(default_factory=dict)
    """Tests such as `params<8`."""
    flags: Mapping[str, Callable[[T], bool]] = field(default_factory=dict)
    """Tests such as `loaded`."""
    fields: Mapping[str, Callable[[T], str]] = field(default_factory=dict)
    """Tests such as `quant:q4`: the value contains the text, whatever the case."""
    offers: Sequence[str] = ()
    """Tests to offer while a filter is written, the most useful first."""

    def parse(self, text: str) -> RowFilter[T]:
        """Parse a filter; every text is one."""
        tests: list[Callable[[T], bool]] = []
        words: list[str] = []
        for token in text.casefold().split():
            negated = token.startswith("-") and len(token) > 1
            told = token.removeprefix("-") if negated else token
            holds = self._test(told)
            if holds is _always:
                continue
            if negated:
                tests.append(_negation(holds or self._contains(told)))
            elif holds is not None:
                tests.append(holds)
            else:
                words.append(told)
        return RowFilter(self.text, tuple(tests), tuple(words))

    def _contains(self, word: str) -> Callable[[T], bool]:
        return lambda row: word in self.text(row)

    def _test(self, token: str) -> Callable[[T], bool] | None:
        """The test that a token is; None where it is a word."""
        if (flag := self.flags.get(token)) is not None:
            return flag
        name, colon, value = token.partition(":")
        if colon and (read := self.fields.get(name)) is not None:
            return _holding(read, value) if value else _always
        if (found := _COMPARISON.fullmatch(token)) is None:
            return None
        measure = self.measures.get(found["name"])
        if measure is None:
            return None
        if not found["number"]:
            return None if found["unit"] else _always
        factor = measure.units.get(found["unit"])
        if factor is None:
            return None
        return _comparing(measure.value, found["sign"], found["number"], factor)

    def offered(self, text: str) -> tuple[str, ...]:
        """Tests that could stand where the last token is being written, the best first."""
        before, token = _last_token(text)
        used = set(before.casefold().replace(" -", " ").split())
        start = token.casefold().removeprefix("-")
        fresh = [offer for offer in self.offers if offer not in used and offer != start]
        return tuple(offer for offer in fresh if offer.startswith(start))

    def completed(self, text: str) -> str:
        """The text with its last token completed to the first test offered."""
        offers = self.offered(text)
        if not offers:
            return text
        before, token = _last_token(text)
        sign = "-" if token.startswith("-") else ""
        return f"{before}{sign}{offers[0]}{' ' if offers[0][-1].isalnum() else ''}"


def _last_token(text: str) -> tuple[str, str]:
    """The text before the last token, and that token; it is empty after a space."""
    start = max((i + 1 for i, char in enumerate(text) if char.isspace()), default=0)
    return text[:start], text[start:]


def _always(_: object) -> bool:
    return True


def _negation(holds: Callable[[T], bool]) -> Callable[[T], bool]:
    return lambda row: not holds(row)


def _holding(read: Callable[[T], str], value: str) -> Callable[[T], bool]:
    return lambda row: value in read(row).casefold()


def _comparing(
    value: Callable[[T], float | None], sign: str, number: str, factor: float
) -> Callable[[T], bool]:
    """A comparison; `=` holds for what rounds to the number as it was written."""
    bound, digits = float(number) * factor, len(number.partition(".")[2])

    def holds(row: T) -> bool:
        found = value(row)
        if found is None:
            return False
        match sign:
            case "<":
                return found < bound
            case ">":
                return found > bound
            case "<=":
                return found <= bound
            case ">=":
                return found >= bound
            case _:
                return round(found / factor, digits) == float(number)

    return holds


def spans(text: str, words: Iterable[str]) -> list[tuple[int, int]]:
    """Where the words stand in a text, as start and end of each place; case does not count.

    >>> spans("Qwen3 Coder", ["cod", "q"])
    [(6, 9), (0, 1)]
    """
    folded = text.casefold()
    if len(folded) != len(text):  # a letter such as `ß` that folds to two: places would not agree
        folded = text.lower() if len(text.lower()) == len(text) else text
    found = []
    for word in words:
        at = folded.find(word)
        while at >= 0 and word:
            found.append((at, at + len(word)))
            at = folded.find(word, at + len(word))
    return found
