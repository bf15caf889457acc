"""Requests to models as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import TextColumn

if TYPE_CHECKING:
    from modeldeck.core.schema import RequestInfo


def state_words(info: RequestInfo) -> str:
    """How far a request is, in words.

    >>> from modeldeck.core.schema import RequestInfo
    >>> def words(state, **more):
    ...     return state_words(RequestInfo(id="1", model_id="m", unique="m", who="me",
    ...         dialect="openai", since="2026-01-01T00:00:00Z", state=state, **more))
    >>> words("waiting", place=3), words("prompt", prompt_read=37, prompt_tokens=100)
    ('waiting, 3rd', 'prompt 37 %')
    >>> words("cancelled", cancelled_by="laptop"), words("left"), words("failed", error_code="busy")
    ('cancelled by laptop', 'client left', 'failed (busy)')
    """
    match info.state:
        case "waiting":
            if info.why:
                return f"waiting: {info.why}"
            return "waiting" if info.place is None else f"waiting, {_ordinal(info.place)}"
        case "prompt" if info.prompt_tokens and info.prompt_read is not None:
            return f"prompt {fmt.percent(info.prompt_read / info.prompt_tokens)}"
        case "cancelled":
            return f"cancelled by {info.cancelled_by}"
        case "left":
            return "client left"
        case "failed":
            return f"failed ({info.error_code})" if info.error_code else "failed"
    return info.state


def _ordinal(number: int) -> str:
    if number == 1:
        return "next"
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if 10 < number % 100 < 14 else endings.get(number % 10, "th")
    return f"{number}{ending}"


def table(requests: Sequence[RequestInfo], now: datetime, width: int) -> list[str]:
    """A heading and a line for each request, those that have not ended first."""
    heads = (
        TextColumn(title="id"),
        TextColumn(title="who", shrink=True),
        TextColumn(title="model", shrink=True),
        TextColumn(title="api"),
        TextColumn(title="state", shrink=True),
        TextColumn(title="prompt", right=True),
        TextColumn(title="cached", right=True),
        TextColumn(title="out", right=True),
        TextColumn(title="tok/s", right=True),
        TextColumn(title="first", right=True),
        TextColumn(title="for", right=True),
    )
    ordered = sorted(requests, key=lambda info: not info.live)
    return fmt.table(heads, [_cells(info, now) for info in ordered], width)


def _cells(info: RequestInfo, now: datetime) -> tuple[str, ...]:
    end = now if info.ended_at is None else datetime.fromisoformat(info.ended_at)
    spent_s = max(0.0, (end - datetime.fromisoformat(info.since)).total_seconds())
    first_s = info.time_to_first_token_s
    return (
        info.id,
        info.who + (" (batch)" if info.priority == "batch" else ""),
        info.unique,
        info.dialect,
        state_words(info),
        _count(info.prompt_tokens),
        _count(info.cached_tokens),
        _count(info.completion_tokens),
        "" if info.tokens_per_s is None else f"{info.tokens_per_s:.1f}",
        "" if first_s is None else f"{first_s:.1f} s",
        fmt.duration(spent_s),
    )


def _count(number: int | None) -> str:
    return "" if number is None else str(number)
