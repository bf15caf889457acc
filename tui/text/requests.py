"""Requests to models as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import TextColumn

if TYPE_CHECKING:
    from modeldeck.core.schema import RequestInfo


FULL = "context_length_exceeded"
"""Code of the error of a request that is too long for the model's context."""


def state_words(info: RequestInfo, own: str = "", loaded: float | None = None) -> str:
    """How far a request is, in words.

    `own` is the id of the front end that shows it, `loaded` how much of its model is loaded.

    >>> from modeldeck.core.schema import RequestInfo
    >>> def words(state, **more):
    ...     return state_words(RequestInfo(id="1", model_id="m", unique="m", who="me",
    ...         dialect="openai", since="2026-01-01T00:00:00Z", state=state, **more))
    >>> words("waiting", place=3), words("prompt", prompt_read=37, prompt_tokens=100)
    ('waiting, 3rd', 'prompt 37 %')
    >>> words("cancelled", cancelled_by="laptop"), words("left"), words("failed", error_code="busy")
    ('cancelled by laptop', 'client left', 'failed (busy)')
    >>> words("cut", completion_tokens=256), words("failed", error_code="context_length_exceeded")
    ('done, cut at 256', 'context is full')
    """
    match info.state:
        case "waiting":
            if info.why:
                return f"waiting: {info.why}"
            return "waiting" if info.place is None else f"waiting, {_ordinal(info.place)}"
        case "loading" if loaded is not None:
            return f"loading {fmt.percent(loaded)}"
        case "prompt" if (share := read_share(info)) is not None:
            read = fmt.percent(share)
            return f"prompt {read}, {info.why}" if info.why else f"prompt {read}"
        case "cancelled":
            return f"cancelled by {'you' if is_own(info.canceller, own) else info.cancelled_by}"
        case "cut" if info.error_code:
            return "cut off by unloading"
        case "cut":
            return f"done, cut at {count(info.completion_tokens or 0)}"
        case "failed" if info.error_code == FULL:
            return "context is full"
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


def read_share(info: RequestInfo) -> float | None:
    """The share of its prompt that is read, while it is being read."""
    if info.state != "prompt" or not info.prompt_tokens or info.prompt_read is None:
        return None
    return min(1.0, info.prompt_read / info.prompt_tokens)


def context_share(info: RequestInfo) -> float | None:
    """The share of its context that prompt and answer take; None where that is not known."""
    if not info.context_length or info.prompt_tokens is None or info.state == "waiting":
        return None
    return min(1.0, (info.prompt_tokens + (info.completion_tokens or 0)) / info.context_length)


def is_own(client: str, own: str) -> bool:
    """Whether the id of a client is that of this front end."""
    return bool(own) and client == own


THIS_CHAT = "chat (this one)"


def who(info: RequestInfo, own: str = "", cells: int = 1 << 10) -> str:
    """Who asks: the name of the token, this dashboard's chat, or the program.

    >>> from modeldeck.core.schema import RequestInfo
    >>> asked = RequestInfo(id="1", model_id="m", unique="m", who="local", dialect="openai",
    ...     since="2026-01-01T00:00:00Z", state="writing", client="00c0ffee", program="curl/8.5.0")
    >>> who(asked), who(asked, "00c0ffee"), who(asked, "00c0ffee", 8)
    ('curl 8.5.0', 'chat (this one)', 'chat')
    """
    if is_own(info.client, own):
        return THIS_CHAT if cells >= len(THIS_CHAT) else "chat"
    if info.who == "local" and info.program:
        return info.program.replace("/", " ")
    return info.who


def api(info: RequestInfo, own: str = "") -> str:
    """The API that a request came through; `chat` for this dashboard's own."""
    return "chat" if is_own(info.client, own) else info.dialect


def counts(requests: Sequence[RequestInfo], between: str) -> str:
    """How many are answered, and how many wait: `2 answering · 1 waiting`; empty for none."""
    live = [info for info in requests if info.live]
    waiting = sum(info.state in ("waiting", "loading") for info in live)
    found = ((len(live) - waiting, "answering"), (waiting, "waiting"))
    return between.join(f"{number} {word}" for number, word in found if number)


def when(info: RequestInfo, now: datetime) -> str:
    """How long it has been here; for one that ended the time of day of its end."""
    if info.ended_at is not None:
        return fmt.clock(info.ended_at)
    return fmt.span(max(0.0, (now - datetime.fromisoformat(info.since)).total_seconds()))


def first(info: RequestInfo) -> str:
    """The time to its first token; empty where not known."""
    seconds = info.time_to_first_token_s
    if seconds is None:
        return ""
    if seconds < 0.05:
        return fmt.duration(seconds)
    return f"{seconds:.1f} s" if seconds < 9.95 else fmt.span(seconds)


def count(number: int) -> str:
    """Tokens in few cells, by thousands: `212`, `12.4k`, `1.2M`.

    >>> count(212), count(9999), count(12_432), count(1_240_000)
    ('212', '10k', '12.4k', '1.2M')
    """
    return fmt.count(number).replace(".0", "") if number >= 1000 else str(number)


def moved(before: Mapping[str, RequestInfo], now: Mapping[str, RequestInfo]) -> list[RequestInfo]:
    """Requests that are new or came to another state."""
    return [
        info
        for key, info in now.items()
        if (known := before.get(key)) is None or known.state != info.state
    ]


def news(info: RequestInfo) -> str:
    """A request that came to another state, as one line."""
    parts = [fmt.clock(info.ended_at or info.since), who(info), info.unique, state_words(info)]
    if not info.live and info.completion_tokens:
        parts.append(f"{count(info.completion_tokens)} tokens")
    return "  ".join(parts)


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
        TextColumn(title="prompt", right=True): lambda info: _figure_of(info.prompt_tokens),
        TextColumn(title="cached", right=True): lambda info: _figure_of(info.cached_tokens),
        TextColumn(title="out", right=True): lambda info: _figure_of(info.completion_tokens),
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
    return who(info) + (" (batch)" if info.priority == "batch" else "")


def _figure_of(number: int | None) -> str:
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
