"""What a person writes on a line, as a number: a rate, an amount of memory, a time. Pure."""

from __future__ import annotations

import re

from modeldeck.core.config.schedule import parse_rate
from modeldeck.core.errors import InvalidRequest

_SLOWEST = 1000
"""Bytes per second; a smaller number without a unit is refused, as its unit was forgotten."""

_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)
_TIME = re.compile(r"(?:(\d+) ?d)? ?(?:(\d+) ?h)? ?(?:(\d+) ?m(?:in)?)? ?(?:(\d+) ?s?)?")

_TOKENS = re.compile(r"(\d{1,9}) ?([km]?)", re.IGNORECASE)
_TOKEN_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}

RATE_FORMS = "such as 2.5 MB/s or 800k; empty for none"
MEMORY_FORMS = "such as 48 GiB or 1.5G; empty for all that the machine has"
TIME_FORMS = "such as 10m, 1h30m or 90s; empty for never"


def _sentence(forms: str) -> str:
    return f"{forms[0].upper()}{forms[1:]}."


def rate(text: str) -> int | None:
    """Bytes per second; None for no limit. Raises InvalidRequest.

    >>> rate("2.5 MB/s"), rate(" ")
    (2500000, None)
    """
    if not text.strip():
        return None
    found = parse_rate(text)
    if found is not None and found < _SLOWEST and text.strip()[-1].isdigit():
        raise InvalidRequest(f"{text.strip()} bytes per second? Add a unit.", _sentence(RATE_FORMS))
    return found


def memory(text: str) -> int | None:
    """Bytes, where every unit is a power of 1024 and none means GiB; None for no limit.

    Raises InvalidRequest.

    >>> memory("48 GiB") == memory("48") == 48 << 30, memory("512M") == 512 << 20, memory("none")
    (True, True, None)
    """
    word = text.strip().casefold()
    if word in ("", "none"):
        return None
    match = _MEMORY.fullmatch(word)
    count = 0
    if match is not None:
        count = int(float(match[1]) * 1024 ** " kmgt".index(match[2] or "g"))
    if count < 1:
        raise InvalidRequest(f"Not an amount of memory: {text!r}.", _sentence(MEMORY_FORMS))
    return count


def tokens(text: str) -> int | None:
    """A number of tokens, where `k` and `M` are powers of 1024; None for anything else.

    >>> tokens("16k"), tokens("1 M"), tokens("4096"), tokens("16 kB")
    (16384, 1048576, 4096, None)
    """
    match = _TOKENS.fullmatch(text.strip())
    return None if match is None else int(match[1]) * _TOKEN_UNITS[match[2].casefold()]


def span(text: str) -> float:
    """Seconds; 0 for never. Raises InvalidRequest.

    >>> span("1h30m"), span("10 m"), span("90"), span("")
    (5400.0, 600.0, 90.0, 0.0)
    """
    word = text.strip().casefold()
    if word in ("", "never", "none"):
        return 0.0
    match = _TIME.fullmatch(word)
    if match is None:
        raise InvalidRequest(f"Not a time: {text!r}.", _sentence(TIME_FORMS))
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(86400 * days + 3600 * hours + 60 * minutes + seconds)
