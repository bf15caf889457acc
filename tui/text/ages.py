"""How long ago a moment was, in its largest unit only, so that it rarely changes. Pure."""

from __future__ import annotations

from modeldeck.tui.text import format as fmt

UNITS = ((365 * 86_400, "y"), (30 * 86_400, "mo"), (86_400, "d"), (3600, "h"), (60, "min"))


def span(seconds: float) -> str:
    """A time of seconds: `3 d`; `now` for less than a minute.

    >>> span(3 * 86_400 + 5), span(59), span(-5)
    ('3 d', 'now', 'now')
    """
    for size, unit in UNITS:
        if (count := int(seconds // size)) > 0:
            return f"{count} {unit}"
    return "now"


def age(moment: float, now: float) -> str:
    """How long ago a moment was, both in seconds since the epoch: `3 d ago`; 0 is not known."""
    if not moment:
        return fmt.UNKNOWN
    words = span(now - moment)
    return words if words == "now" else f"{words} ago"
