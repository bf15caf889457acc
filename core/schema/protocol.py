"""Whether a front end and a core understand each other: decided by numbers, not by versions.

`PROTOCOL` counts up with every change of the native API that one side must know of: a route or a
field that is new does not count, since older sides ignore it. Each side states the number it speaks
and the oldest one that it still understands. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modeldeck.core import __version__
from modeldeck.core.errors import Incompatible

PROTOCOL = 1
"""Protocol number of this version."""
OLDEST = 1
"""The oldest protocol number that this version still understands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolRange:
    """The protocol numbers that one side of a connection states."""

    version: str
    """Version of modeldeck, for people."""
    protocol: int = 0
    """Its protocol number; 0 for versions before there was one."""
    oldest_protocol: int = 0
    """The oldest that it still understands."""


def ours() -> ProtocolRange:
    """The protocol numbers of this version."""
    return ProtocolRange(version=__version__, protocol=PROTOCOL, oldest_protocol=OLDEST)


def check(here: ProtocolRange, there: ProtocolRange, where: str, update: Callable[[], str]) -> None:
    """Raise Incompatible, naming both sides, unless each understands the other.

    Args:
        here: This side.
        there: The other side.
        where: The machine of `there`, such as `gpu1`.
        update: Returns the command that updates modeldeck on this side.
    """
    if there.protocol < here.oldest_protocol:
        raise Incompatible(
            f"modeldeck {there.version} on {where} is too old for this one, {here.version}: it"
            f" speaks protocol {there.protocol}, and {here.oldest_protocol} is the oldest"
            " that is understood here.",
            f"Update modeldeck on {where}, then end its core there with `modeldeck stop`.",
        )
    if here.protocol < there.oldest_protocol:
        raise Incompatible(
            f"modeldeck {there.version} on {where} is too new for this one, {here.version}: it"
            f" understands protocol {there.oldest_protocol} and newer, and this one speaks"
            f" {here.protocol}.",
            f"Update modeldeck here (`{update()}`), or use {where}'s own over `ssh {where}`.",
        )
