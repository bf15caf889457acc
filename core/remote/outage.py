"""A connection to another machine that is down."""

from __future__ import annotations

from dataclasses import dataclass

from modeldeck.core.errors import DeckError


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLost:
    """The line to the machine of a core is down."""

    error: DeckError
    """Why."""
    retry_at: float
    """When it is made again, by `time.monotonic`."""
