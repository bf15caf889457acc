"""What the program at the other end of an SSH connection says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeHello:
    """First message of `modeldeck bridge`: where its core answers, and its version."""

    socket: str
    """The Unix socket of its core."""
    version: str
    """Of its core: the program may be newer, where it was updated and not started again."""
    protocol: int = 0
    oldest_protocol: int = 0
