"""When which limit holds, and how a rate is written: pure functions, without a clock.

A schedule maps windows of the day to limits, such as `"01:00-07:00" = "none"`: local time, a window
may go past midnight, and where several fit the first one counts. Outside all of them the limit that
a person set holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from modeldeck.core.errors import InvalidRequest

_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_RATE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(i?)(b?)(?:/s|ps)?", re.IGNORECASE)

Window = Annotated[str, msgspec.Meta(pattern=rf"^{_CLOCK}-(?:{_CLOCK}|24:00)$")]
"""A part of the day, such as `01:00-07:00`; the end is not in it."""

Rate = Annotated[int, msgspec.Meta(ge=1)] | Literal["none"]
"""A limit in bytes per second, or none."""

Schedule = Mapping[Window, Rate]

FORMS = "Write it as 5MB/s, 800k, 1.5 MiB/s, a number of bytes per second, or none."


def window_at(schedule: Schedule, minute: int) -> Window | None:
    """The window that counts at this minute of the day; None outside all of them.

    >>> window_at({"22:00-06:00": "none"}, 5 * 60), window_at({"22:00-06:00": "none"}, 6 * 60)
    ('22:00-06:00', None)
    """
    for window in schedule:
        start, end = (_minute(clock) for clock in window.split("-"))
        inside = start <= minute < end if start < end else minute >= start or minute < end
        if inside:
            return window
    return None


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def limit_at(schedule: Schedule, base: int | None, minute: int) -> int | None:
    """Bytes per second that hold at this minute of the day, `base` outside all windows."""
    window = window_at(schedule, minute)
    if window is None:
        return base
    rate = schedule[window]
    return None if rate == "none" else int(rate)


def parse_rate(text: str) -> int | None:
    """Bytes per second as a person writes them; None for no limit. Raises InvalidRequest.

    Units are powers of 1000, with an `i` of 1024, as everywhere where bytes flow.

    >>> parse_rate("5MB/s"), parse_rate("1.5 MiB/s"), parse_rate("800k"), parse_rate("none")
    (5000000, 1572864, 800000, None)
    """
    word = text.strip().casefold()
    if word in ("none", "off", "unlimited"):
        return None
    match = _RATE.fullmatch(word)
    rate = 0
    if match is not None:
        base = 1024 if match[3] else 1000
        rate = int(float(match[1]) * base ** " kmgt".index(match[2] or " "))
    if rate < 1:
        raise InvalidRequest(f"{text!r} is not a rate.", FORMS)
    return rate


def parse_entry(text: str) -> tuple[Window, Rate]:
    """One window and its limit, as a person writes them: `01:00-07:00=none`. Raises InvalidRequest.

    >>> parse_entry("01:00-07:00=2MB/s")
    ('01:00-07:00', 2000000)
    """
    window, _, rate = text.partition("=")
    try:
        taken = msgspec.convert(window.strip(), Window)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"{text!r} is no entry of a schedule.", "Write it as 01:00-07:00=none."
        ) from error
    return taken, parse_rate(rate) or "none"
