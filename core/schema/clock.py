"""Time stamps."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """The time, as every record has it: ISO 8601 to the millisecond, UTC, ending in Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
