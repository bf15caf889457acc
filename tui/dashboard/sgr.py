"""SGR sequences: from one style of the terminal to the next, in few bytes. Pure.

A style is written as the parameters of its sequence: `1;38;5;2` is bold and green. The empty one is
the style of the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

STYLES = 4096
"""Styles, and changes between two, that are kept; a screen has some dozens."""

OFF = {"1": "22", "2": "22", "3": "23", "4": "24", "5": "25", "7": "27", "8": "28", "9": "29"}
"""What ends an attribute: bold and dim end together."""
REVERSE = "7"
LINES = frozenset({"4", "9", "21", "53"})
"""Attributes that show on a blank cell too: lines under, through and over it."""


class _Parts(NamedTuple):
    attributes: frozenset[str]
    front: str
    back: str


def _parameters(style: str) -> Iterator[str]:
    """The parameters one by one; an indexed or a true colour is one."""
    words = iter(style.split(";")) if style else iter(())
    for word in words:
        if word in ("38", "48"):
            kind = next(words)
            count = 3 if kind == "2" else 1
            yield ";".join((word, kind, *(next(words) for _ in range(count))))
        else:
            yield word


@lru_cache(STYLES)
def _parts(style: str) -> _Parts:
    attributes, front, back = set(), "", ""
    for word in _parameters(style):
        code = int(word.partition(";")[0])
        if 30 <= code <= 39 or 90 <= code <= 97:
            front = word
        elif 40 <= code <= 49 or 100 <= code <= 107:
            back = word
        else:
            attributes.add(word)
    return _Parts(frozenset(attributes), front, back)


@lru_cache(STYLES)
def of_blank(style: str) -> str:
    """What of a style shows on a blank cell: its background, and lines.

    >>> of_blank("1;38;5;2;48;5;7")
    '48;5;7'
    """
    attributes, _, back = _parts(style)
    if REVERSE in attributes:
        return style
    return ";".join((*sorted(attributes & LINES), *((back,) if back else ())))


@lru_cache(STYLES)
def change(before: str, now: str) -> str:
    r"""The shortest sequence that leads from one style to another; empty between equal ones.

    >>> change("1;38;5;2;48;5;7", "38;5;3;48;5;7")
    '\x1b[22;38;5;3m'
    """
    if before == now:
        return ""
    whole = f"\x1b[0;{now}m" if now else "\x1b[0m"
    if not before:
        return whole  # also right where another program left its own style
    old, new = _parts(before), _parts(now)
    gone = old.attributes - new.attributes
    if not gone <= OFF.keys() or (gone & {"1", "2"} and new.attributes & {"1", "2"}):
        return whole
    words = [*sorted({OFF[word] for word in gone}), *sorted(new.attributes - old.attributes)]
    if new.front != old.front:
        words.append(new.front or "39")
    if new.back != old.back:
        words.append(new.back or "49")
    if not words:  # they differ in order only; a sequence without parameters would end the style
        return ""
    return min(whole, f"\x1b[{';'.join(words)}m", key=len)
