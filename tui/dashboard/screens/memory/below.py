"""What stands below the table of Memory: requests, the history, the disk. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.text import Text

from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.memory import request_strip
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import STRONG, bar, fitted
from modeldeck.tui.dashboard.widgets.history_chart import HistoryData, chart
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

TALL = 31
"""Height of the view from which on the history has six lines, a caption and a clock."""
MIDDLE = 18
"""Height from which on it has three lines."""
DISK_BAR = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BelowKeys:
    """The keys that are named below the table."""

    requests: str
    disk: str
    prune: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BelowTable:
    """What is drawn below the table."""

    state: State
    own: str
    """The id of this front end, to know its own requests."""
    now: datetime
    keys: BelowKeys
    width: int
    view_height: int
    """Lines of the whole view: they decide how much of the history is shown."""
    glyphs: Glyphs
    inks: ThemeStyles

    @property
    def gap(self) -> int:
        """Blank lines between two parts, where there is room."""
        return 1 if self.view_height >= MIDDLE else 0

    def least(self) -> int:
        """Lines that are needed for requests and disk, and for the history of an empty table."""
        live = sum(info.live for info in self.state.requests.values())
        strip = min(live, request_strip.LIVE_SHOWN) + 2 if self.state.requests else 0
        lines = strip + 2 + (self.gap if strip else 0)
        return lines if self.state.instances or self.view_height < MIDDLE else lines + 4

    def lines(self, room: int, history: HistoryData | None) -> list[Text]:
        """All of it in `room` lines: first the disk, then requests, then the history."""
        if room < 2:
            return []
        disk = _disk(self)
        strip = request_strip.lines(
            self.state,
            self.own,
            self.keys.requests,
            self.now,
            self.width,
            room - 2 - self.gap,
            self.glyphs,
            self.inks,
        )
        parts = [[Text()] * self.gap + strip] if strip else []
        left = room - sum(map(len, parts)) - 2
        past = self._history(history, left) if history is not None else []
        spare = left - len(past)
        above = spare * 2 // 3 if past and self.view_height >= TALL else 0
        lines = [line for part in parts for line in part]
        return [*lines, *[Text()] * above, *past, Text(), disk]

    def _history(self, data: HistoryData, room: int) -> list[Text]:
        """The chart with the line above it; empty where there is no room."""
        if self.view_height >= TALL and room >= 9:
            words = past_words(data.values, self.inks, data.step_s * len(data.values))
            return [Text(), words, *self._chart(data, 6, clock=True)]
        if self.view_height >= MIDDLE and room >= 4:
            return [Text(), *self._chart(data, 3, clock=False)]
        return []

    def _chart(self, data: HistoryData, height: int, *, clock: bool) -> list[Text]:
        drawn = chart(data, height, self.glyphs, self.inks, clock=clock)
        return [Text("  ").append_text(line) for line in drawn]


def past_words(values: Sequence[float | None], inks: ThemeStyles, span_s: float) -> Text:
    """Range of past memory use, which an honest axis cannot show for small models."""
    known = [value for value in values if value is not None]
    least, most = fmt.memory(min(known, default=None)), fmt.memory(max(known, default=None))
    if least.split(" ")[-1] == most.split(" ")[-1] and least != most:
        least = least.split(" ")[0]
    words = least if least == most else f"{least} to {most}"
    minutes = fmt.number(round(span_s / 60), "minute")
    return Text.assemble("  ", (f"Last {minutes}", STRONG), "  memory in use ", (words, inks.muted))


def _disk(below: BelowTable) -> Text:
    """Disk use of the cache, and the keys for it."""
    state, glyphs, inks, width = below.state, below.glyphs, below.inks, below.width
    disk, wide = state.disk, width >= 100
    models = sum(model.downloaded and not model.local for model in state.models.values())
    in_them = f" in {models}" if width >= 70 else ""
    hint = f"{below.keys.disk} list" if wide else below.keys.disk
    whole = None if disk.cache_bytes is None else disk.cache_bytes - (disk.partial_bytes or 0)
    listed = Text.assemble(f"models {fmt.size(whole)}{in_them} ", (f"[{hint}]", inks.muted))
    parts: list[tuple[int, Text]] = [(0, listed)]
    if disk.partial_bytes:
        hint = f"{below.keys.prune} prune" if wide else below.keys.prune
        words = Text.assemble(f"partial {fmt.size(disk.partial_bytes)} ", (f"[{hint}]", inks.muted))
        parts.append((2, words))
    parts.append((1, Text(f"free {fmt.size(disk.free_bytes)}")))
    if not wide:
        parts = [
            (rank, words if not at else Text(f"{glyphs.dot} ").append_text(words))
            for at, (rank, words) in enumerate(parts)
        ]
    head = Text.assemble("  ", ("Disk", STRONG), "  ")
    if wide and disk.cache_bytes is not None and disk.free_bytes:
        share = disk.cache_bytes / (disk.cache_bytes + disk.free_bytes)
        head.append_text(bar(share, DISK_BAR, glyphs, inks)).append("  ")
    return head.append_text(fitted(parts, width - len(head) - 1, gap=3 if wide else 1))
