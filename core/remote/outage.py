"""A connection to another machine that is down."""

from __future__ import annotations

from dataclasses import dataclass

from modeldeck.core.errors import DeckError


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLost:
    """The connection to the machine of a core is down."""

    error: DeckError
    """Why it is down."""
    retry_at: float
    """When the next attempt begins, by `time.monotonic`."""
