"""Errors as they go over the wire and into State."""

from __future__ import annotations

from dataclasses import dataclass

from modeldeck.core.errors import BY_CODE, DeckError


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """What went wrong, and what a person can do about it."""

    code: str
    """A stable word for programs; one per class in `modeldeck.core.errors`."""
    message: str
    """What happened, in a sentence."""
    remedy: str = ""
    """What to do about it, in a sentence; empty where nothing can be done."""
    details: tuple[str, ...] = ()
    """Further lines, such as the last log lines of an engine process."""


def to_info(error: DeckError) -> ErrorInfo:
    """The record of an error, as it goes over the wire and into State."""
    return ErrorInfo(
        code=error.code, message=error.message, remedy=error.remedy, details=error.details
    )


def from_info(info: ErrorInfo) -> DeckError:
    """The error that `info` records; a plain `DeckError` for a code this version does not know."""
    return BY_CODE.get(info.code, DeckError)(info.message, info.remedy, details=info.details)
