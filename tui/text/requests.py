"""Requests to models as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


WIDE = 110
"""Columns of a terminal from which all figures are shown."""


def table(requests: Sequence[RequestInfo], now: datetime, width: int) -> list[str]:
    """A heading and a line for each request, those that have not ended first."""
    columns: dict[TextColumn, Callable[[RequestInfo], str]] = {
        TextColumn(title="id"): lambda info: info.id,
        TextColumn(title="who", shrink=True): _who,
        TextColumn(title="model", shrink=True): lambda info: info.unique,
        TextColumn(title="api"): lambda info: info.dialect,
        TextColumn(title="state", shrink=True): state_words,
        TextColumn(title="prompt", right=True): lambda info: _count(info.prompt_tokens),
        TextColumn(title="cached", right=True): lambda info: _count(info.cached_tokens),
        TextColumn(title="out", right=True): lambda info: _count(info.completion_tokens),
        TextColumn(title="tok/s", right=True): lambda info: _figure(info.tokens_per_s),
        TextColumn(title="first", right=True): _first,
        TextColumn(title="for", right=True): lambda info: _spent(info, now),
    }
    shown = [head for head in columns if width >= WIDE or head.title not in _ONLY_WIDE]
    ordered = sorted(requests, key=lambda info: not info.live)
    cells = [[columns[head](info) for head in shown] for info in ordered]
    return fmt.table(shown, cells, width)


_ONLY_WIDE = ("api", "cached", "first")


def _who(info: RequestInfo) -> str:
    return info.who + (" (batch)" if info.priority == "batch" else "")


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def _figure(number: float | None) -> str:
    return "" if number is None else f"{number:.1f}"


def _first(info: RequestInfo) -> str:
    first_s = info.time_to_first_token_s
    return "" if first_s is None else fmt.duration(first_s)


def _spent(info: RequestInfo, now: datetime) -> str:
    """The time from its arrival to its end, or to now."""
    end = now if info.ended_at is None else datetime.fromisoformat(info.ended_at)
    return fmt.duration(max(0.0, (end - datetime.fromisoformat(info.since)).total_seconds()))
