"""Translates ranges of numbers into grammars, digit by digit. Pure."""

from __future__ import annotations

from modeldeck.core.errors import InvalidRequest

DIGITS = 16
"""Digits of the largest number without a bound: more than the precision of a double."""


def integer_between(low: float | None, high: float | None) -> str:
    """Return the grammar of integers from `low` to `high`; None is no bound.

    >>> integer_between(0, 255)
    '(([0-9] | [1-9] [0-9] | "1" [0-9] [0-9] | "2" [0-4] [0-9] | "25" [0-5]))'
    >>> integer_between(-5, None)
    '("-" ([1-5]) | ([0-9] | [1-9] [0-9]{1,15}))'
    """
    ways = [*_negative(low, high, ""), *_positive(low, high, "")]
    if not ways:
        raise InvalidRequest("The JSON schema admits no number: its minimum is above its maximum.")
    return f"({' | '.join(ways)})"


def number_between(low: float | None, high: float | None) -> str:
    """Return the grammar of decimal numbers from `low` to `high`; bounds must be integers.

    >>> number_between(5, 9)
    '(([5-8]) ("." [0-9]{1,16})? | "5" ("." "0"{1,16})? | "9" ("." "0"{1,16})?)'
    """
    ways: list[str] = []
    fraction = '("." [0-9]{1,16})?'
    # Numbers are whole parts with a fraction away from zero, and the bounds themselves.
    ways += _negative(None if low is None else low + 1, high, fraction)
    ways += _positive(low, None if high is None else high - 1, fraction)
    for bound in (low, high):
        if bound is None:
            continue
        if bound != int(bound):
            raise InvalidRequest(
                "No answer can be held to a JSON schema's bound of a number that is not whole.",
                "Take whole numbers for minimum and maximum.",
            )
        ways.append(f'"{int(bound)}" ("." "0"{{1,16}})?')
    if low is not None and high is not None and low > high:
        raise InvalidRequest("The JSON schema admits no number: its minimum is above its maximum.")
    if (low is None or low < 0) and (high is None or high >= 0):
        ways.append(f'"-0" {fraction}')
    return f"({' | '.join(dict.fromkeys(ways))})"


def _positive(low: float | None, high: float | None, after: str) -> list[str]:
    """Non-negative integers, each followed by `after`."""
    first = max(0, _up(low)) if low is not None else 0
    if high is not None and high < first:
        return []
    found = _from_to(first, None if high is None else _down(high))
    return [f"{found} {after}".rstrip()]


def _negative(low: float | None, high: float | None, after: str) -> list[str]:
    """Negative integers, each followed by `after`."""
    first = max(1, _up(-high)) if high is not None and high < 0 else 1
    last = None if low is None else _down(-low)
    if last is not None and last < first:
        return []
    return [f'"-" {_from_to(first, last)} {after}'.rstrip()]


def _up(value: float) -> int:
    return -int(-value // 1)


def _down(value: float) -> int:
    return int(value // 1)


def _from_to(first: int, last: int | None) -> str:
    """The grammar of the numbers from `first`, not negative, to `last`."""
    if max(first, last or 0) >= 10**DIGITS:
        raise InvalidRequest(f"A bound of a number in the JSON schema has over {DIGITS} digits.")
    ways: list[str] = []
    size = len(str(first))
    end = size if last is None else len(str(last))
    for length in range(size, end + 1):
        start = first if length == size else 10 ** (length - 1)
        stop = last if last is not None and length == end else 10**length - 1
        ways += _same_length(str(start), str(stop))
    if last is None and size < DIGITS:
        ways.append(f"[1-9] [0-9]{{{size},{DIGITS - 1}}}")
    return f"({' | '.join(ways)})"


def _same_length(low: str, high: str) -> list[str]:
    """Numbers from `low` to `high`, which have the same number of digits."""
    if low == high:
        return [f'"{low}"']
    same = next(i for i, (a, b) in enumerate(zip(low, high, strict=True)) if a != b)
    prefix, low, high = low[:same], low[same:], high[same:]
    head = f'"{prefix}" ' if prefix else ""
    rest = len(low) - 1
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        return [head + _digit(low[0], high[0]) + " [0-9]" * rest]
    ways = []
    first, last = int(low[0]), int(high[0])
    if low[1:] != "0" * rest:
        ways += [_prefixed(prefix + low[0], way) for way in _same_length(low[1:], "9" * rest)]
        first += 1
    upper = high[1:] != "9" * rest
    if first <= (last - 1 if upper else last):
        ways.append(head + _digit(str(first), str(last - upper)) + " [0-9]" * rest)
    if upper:
        ways += [_prefixed(prefix + high[0], way) for way in _same_length("0" * rest, high[1:])]
    return ways


def _digit(low: str, high: str) -> str:
    return f'"{low}"' if low == high else f"[{low}-{high}]"


def _prefixed(prefix: str, way: str) -> str:
    """An alternative with digits before it, joined with the literal that it begins with."""
    return f'"{prefix}{way[1:]}' if way.startswith('"') else f'"{prefix}" {way}'
