"""The requests of Memory: those that run or wait, and the last that ended. Pure."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text

from modeldeck.core.schema import RequestInfo
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.memory.gauge import by_number
from modeldeck.tui.dashboard.screens.requests import cells
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import STRONG
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import requests as request_text
from modeldeck.tui.text.format import Glyphs

FAST = 100
"""Tokens per second from which decimals are left out."""
LIVE_SHOWN = 5


def lines(
    state: State,
    own: str,
    key: str,
    now: datetime,
    width: int,
    most: int,
    glyphs: Glyphs,
    inks: ThemeStyles,
) -> list[Text]:
    """A heading and the requests in at most `most` lines; none where no model was asked.

    Args:
        state: What the core tells.
        own: The id of this front end, to know its own requests.
        key: The key that shows all.
        now: The time.
        width: Cells of a line.
        most: Lines at most.
        glyphs: Signs to draw with.
        inks: Colours to draw with.
    """
    requests = list(state.requests.values())
    if not requests or most < 2:
        return []
    live = [info for info in requests if info.live]
    shown = live[: min(LIVE_SHOWN, most - 1)]
    ended = sorted((i for i in requests if not i.live), key=lambda i: i.ended_at or "")
    if len(live) <= LIVE_SHOWN and len(shown) + 1 < most:
        shown += ended[-1:]
    hint = f" [{key} all]" if width >= 70 else f" [{key}]"
    words = request_text.counts(live, f" {glyphs.dot} ") or "none running"
    more = f", {len(live) - LIVE_SHOWN} more" if len(live) > LIVE_SHOWN else ""
    head = Text.assemble("  ", ("Requests", STRONG), f"  {words}{more}", (hint, inks.muted))
    rows = [_row(info, state, own, now, width, glyphs, inks) for info in shown]
    return [head, *rows]


def _row(
    info: RequestInfo,
    whole: State,
    own: str,
    now: datetime,
    width: int,
    glyphs: Glyphs,
    inks: ThemeStyles,
) -> Text:
    wide, short = width >= 100, width < 70
    mark, style = cells.sign(info, glyphs, inks)
    who_cells = 16 if wide else max(8, min(13, width - 48))
    who = fmt.clean(request_text.who(info, own, who_cells))
    number = by_number(whole).get(info.instance_id or "", "")
    line = Text.assemble("  ", (mark, style), " ", fmt.pad(who, who_cells), "  ")
    line.append(f"{number!s:>1}  ", inks.muted)
    count = _tokens(info, short=short)
    speed = info.tokens_per_s
    rate = "" if speed is None else f"{speed:.{1 if speed < FAST else 0}f} tok/s"
    time = request_text.when(info, now)
    if wide:
        first = request_text.first(info)
        said = f"first {first}" if first else ""
        line.append_text(_state(info, whole, own, "", 22, glyphs, inks))
        line.append(f"{count:>12}  {rate or fmt.UNKNOWN:>11}   {said:<13}")
        return line.append(f"{_cached(info):>13}  {time:>7}")
    line.append_text(_state(info, whole, own, count, 17 if short else 20, glyphs, inks))
    if short:
        return line.append(f"{rate:>12}{time:>9}")
    return line.append(f"{rate or fmt.UNKNOWN:>13}{_cached(info):>15}{time:>9}")


def _state(
    info: RequestInfo,
    whole: State,
    own: str,
    count: str,
    width: int,
    glyphs: Glyphs,
    inks: ThemeStyles,
) -> Text:
    """The state in exactly `width` cells, with a count at their right where there is room."""
    state = cells.state_text(info, whole, own, glyphs, inks, width)
    room = width - state.cell_len
    return state.append(f"{count:>{room}}" if len(count) + 2 <= room else " " * room)


def _tokens(info: RequestInfo, *, short: bool) -> str:
    """The tokens that tell most: those written, or before that those of the prompt."""
    written = info.completion_tokens
    number = written if written or not info.live else info.prompt_tokens
    unit = "tok" if short else "tokens"
    return "" if number is None else f"{request_text.count(number)} {unit}"


def _cached(info: RequestInfo) -> str:
    cached = info.cached_tokens
    return "" if cached is None else f"{request_text.count(cached)} cached"
