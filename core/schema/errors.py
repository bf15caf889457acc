"""What went wrong, as it crosses a border."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """What went wrong, and what a person can do about it."""

    code: str
    """A stable word for programs; one per class in `core.errors`."""
    message: str
    """What happened, in a sentence."""
    remedy: str = ""
    """What to do about it, in a sentence; empty where nothing can be done."""
    details: tuple[str, ...] = ()
    """Further lines, such as the last log lines of an engine process."""
