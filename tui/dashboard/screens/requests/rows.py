"""Rows of the Requests screen: which are shown, in which order, and what they say. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from rich.text import Text

from modeldeck.core.schema import Model, RequestInfo
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.requests import cells
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.row_order import Values
from modeldeck.tui.dashboard.widgets.table import Cell, Column, TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import requests as request_text
from modeldeck.tui.text.filter_language import Language, Measure
from modeldeck.tui.text.format import Glyphs
from modeldeck.tui.text.model_names import short_title

STATE = 18
"""Cells of the state."""

COLUMNS = (
    Column("sign", "", 1),
    Column("who", "who", 13, grow=True, most=16),
    Column("model", "model", 12, grow=True, most=30, rank=5),
    Column("api", "api", 9, rank=7),
    Column("state", "state", STATE, grow=True, most=28),
    Column("prompt", "prompt", 7, right=True, rank=8),
    Column("out", "out", 5, right=True, rank=4),
    Column("speed", "tok/s", 5, right=True, rank=3),
    Column("first", "first", 6, right=True, rank=8),
    Column("context", "context", 7, right=True, rank=6),
    Column("cached", "cached", 6, right=True, rank=2),
    Column("time", "for", 5, right=True),
)


VALUES: Values[RequestInfo] = {
    "who": request_text.who,
    "model": lambda info: info.unique,
    "api": lambda info: info.dialect,
    "state": lambda info: info.state,
    "prompt": lambda info: info.prompt_tokens,
    "out": lambda info: info.completion_tokens,
    "speed": lambda info: info.tokens_per_s,
    "first": lambda info: info.time_to_first_token_s,
    "context": request_text.context_share,
    "cached": lambda info: info.cached_tokens,
    # The newest first: what began last has gone on for the shortest time.
    "time": lambda info: -datetime.fromisoformat(info.ended_at or info.since).timestamp(),
}
"""What a column sorts by."""
SORTABLE = tuple(VALUES)


class RequestsShown(StrEnum):
    """Which requests are shown."""

    ALL = "all"
    LIVE = "live"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EndedRule:
    """The rule above the requests that have ended."""

    words: str


RequestRow = RequestInfo | EndedRule


def key(row: RequestRow) -> str:
    """The key of a row in the table."""
    return row.id if isinstance(row, RequestInfo) else "rule"


def of_kind(
    requests: Iterable[RequestInfo], shown: RequestsShown, kept: Collection[str]
) -> list[RequestInfo]:
    """The requests of the kind that is shown; those of `kept` count as live."""
    match shown:
        case RequestsShown.ALL:
            return list(requests)
        case RequestsShown.LIVE:
            return [info for info in requests if info.live or info.id in kept]
        case RequestsShown.FAILED:
            return [info for info in requests if cells.is_failed(info)]


def rows(
    state: State, found: Sequence[RequestInfo], kept: Collection[str], *, is_sorted: bool = False
) -> list[RequestRow]:
    """The live requests in the order of their arrival, then under a rule the last that ended.

    Args:
        state: What the core tells.
        found: The requests to show.
        kept: Ids of requests that ended a moment ago: they keep their places among the live ones.
        is_sorted: Whether they are in a chosen order, which holds above the rule and below it.
    """
    live = [info for info in found if info.live or info.id in kept]
    ended = [info for info in found if not info.live and info.id not in kept]
    if not is_sorted:
        ended.sort(key=lambda info: info.ended_at or "", reverse=True)
    rule = [EndedRule(_rule(len(ended), state))] if ended else []
    return [*live, *rule, *ended]


def _rule(count: int, state: State) -> str:
    today = state.requests_today.requests
    return f"last {count} of {today}" if today > count else f"last {count}"


def heading(state: State, width: int, glyphs: Glyphs, today: str) -> tuple[str, str]:
    """How many are answered and wait; and what was asked `today`, where there is room."""
    live = request_text.counts(tuple(state.requests.values()), f" {glyphs.dot} ")
    totals = state.requests_today
    if totals.day != today or width < 70:
        return live or "none running", ""
    said = f"today {fmt.number(totals.requests, 'request')}"
    if width >= 100:
        read, written = totals.prompt_tokens, totals.completion_tokens
        said += f", {request_text.count(read)} tokens in, {request_text.count(written)} out"
    return live or "none running", said


def line(
    row: RequestRow,
    state: State,
    own: str,
    now: datetime,
    glyphs: Glyphs,
    inks: ThemeStyles,
) -> TableLine:
    """One line of the table."""
    if isinstance(row, EndedRule):
        return TableLine(key(row), {"words": row.words}, rule=True)
    sign, style = cells.sign(row, glyphs, inks)
    rate = row.tokens_per_s
    drawn: dict[str, Cell] = {
        "sign": Text(sign, style),
        "who": _who(row, own),
        "model": short_title(row.model_id, row.unique, state.models),
        "api": request_text.api(row, own),
        "state": cells.state_text(row, state, own, glyphs, inks, STATE),
        "prompt": _count(row.prompt_tokens),
        "out": _count(_written(row)),
        "speed": fmt.UNKNOWN if rate is None else f"{rate:.1f}" if rate < 999.5 else f"{rate:.0f}",
        "first": request_text.first(row) or fmt.UNKNOWN,
        "context": fmt.percent(request_text.context_share(row)),
        "cached": _count(row.cached_tokens),
        "time": request_text.when(row, now),
    }
    return TableLine(row.id, drawn, dim=row.state in ("cancelled", "left"))


def _who(info: RequestInfo, own: str) -> Cell:
    name = fmt.clean(request_text.who(info, own))
    if name == request_text.THIS_CHAT:
        return Text(name), Text("chat")  # where there is little room
    return name


def _written(info: RequestInfo) -> int | None:
    """Tokens of the answer; 0 only for one that ended without any."""
    return info.completion_tokens or (None if info.live else 0)


def _count(number: int | None) -> str:
    return fmt.UNKNOWN if number is None else request_text.count(number)


def language(models: Mapping[str, Model], own: str) -> Language[RequestInfo]:
    """The filter: `who:laptop failed tok/s<5`, and words."""

    def name(info: RequestInfo) -> str:
        return f"{info.unique} {short_title(info.model_id, info.unique, models)}"

    def words(info: RequestInfo) -> str:
        said = (
            request_text.who(info, own),
            name(info),
            request_text.api(info, own),
            request_text.state_words(info, own),
        )
        return " ".join(said).casefold()

    return Language(
        text=words,
        measures={
            "tok/s": Measure(lambda info: info.tokens_per_s),
            "first": Measure(lambda info: info.time_to_first_token_s),
            "prompt": Measure(lambda info: info.prompt_tokens, TOKENS),
            "out": Measure(lambda info: info.completion_tokens, TOKENS),
            "cached": Measure(lambda info: info.cached_tokens, TOKENS),
        },
        flags={
            "live": lambda info: info.live,
            "waiting": lambda info: info.state == "waiting",
            "answering": lambda info: info.state in ("prompt", "thinking", "writing"),
            "failed": cells.is_failed,
            "cancelled": lambda info: info.state == "cancelled",
            "done": lambda info: info.state in ("done", "cut") and not cells.is_failed(info),
            "batch": lambda info: info.priority == "batch",
            "own": lambda info: request_text.is_own(info.client, own),
        },
        fields={
            "who": lambda info: request_text.who(info, own),
            "model": name,
            "api": lambda info: request_text.api(info, own),
        },
        offers=(
            "who:",
            "model:",
            "api:",
            "live",
            "failed",
            "cancelled",
            "tok/s<",
            "first>",
            "out>",
        ),
    )


TOKENS: Mapping[str, float] = {"": 1, "k": 1e3, "m": 1e6}
"""Units of counted tokens."""


def without_rules(found: Sequence[RequestRow]) -> list[RequestInfo]:
    """The requests among rows."""
    return [row for row in found if isinstance(row, RequestInfo)]
