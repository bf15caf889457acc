"""The status bar: machine, engines, memory, what moves, what is loaded, and what failed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text
from textual import events
from textual.reactive import var

from modeldeck.tui.dashboard.fleet import FleetMachine, trip
from modeldeck.tui.dashboard.theme import ThemeStyles, ink
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.remote.core_link import LinkState, LinkStatus
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

if TYPE_CHECKING:
    from modeldeck.core.schema.state import State

BAR = 8
"""Width of the memory bar in cells."""
GAP = 3
"""Gap between two parts in cells."""
COMPACT = 80
"""Width in cells below which parts are shorter and closer together, without rate and bar."""
COMPACT_GAP = 2
LEAST_GAP = 1
"""Gap between the parts on the left and those on the right."""

ENGINES, NAME, HOST, TAGS, RATE, BAR_RANK, REQUESTS, RAM, LOADED = range(9, 0, -1)
"""Ranks of the parts, in the order in which they fall away."""

RUNNING = frozenset({"downloading", "verifying"})
ANSWERING = frozenset({"prompt", "thinking", "writing"})
WAITING = frozenset({"waiting", "loading"})
"""States of requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSegment:
    """One part of the status bar."""

    text: Text
    rank: int
    """Parts with the highest rank are dropped first on a narrow terminal; 0 is always shown."""
    right: bool = False
    """Whether it is aligned right, so that it does not move when parts on the left change."""
    shorter: StatusSegment | None = None
    """Takes its place instead of nothing."""


def fit(parts: Sequence[StatusSegment], width: int, gap: int = GAP) -> Text:
    """The parts that fit on one line, those on the left and those on the right."""
    kept = list(parts)

    def joined(*, right: bool) -> Text:
        return Text(" " * gap).join([part.text for part in kept if part.right is right])

    def needed() -> int:
        left, right = joined(right=False).cell_len, joined(right=True).cell_len
        return left + right + (LEAST_GAP if left and right else 0)

    while len(kept) > 1 and needed() > width:
        place = max(range(len(kept)), key=lambda i: kept[i].rank)
        shorter = kept[place].shorter
        kept[place : place + 1] = [] if shorter is None else [shorter]
    left, right = joined(right=False), joined(right=True)
    between = max(LEAST_GAP if left and right else 0, width - left.cell_len - right.cell_len)
    line = left.append(" " * between).append_text(right)
    line.truncate(max(0, width))
    return line


class StatusBar(TextLines):
    """Status bar; parts with a high rank are dropped on a narrow terminal."""

    DEFAULT_CSS = """
    StatusBar { height: 1; background: $panel; color: $foreground; }
    """

    state: var[State | None] = var(None)
    link_status: var[LinkStatus] = var(LinkStatus(state=LinkState.CONNECTING))
    station: var[FleetMachine | None] = var(None)
    failures: var[int] = var(0)
    """Number of errors that were not seen in the Log."""

    def __init__(self, glyphs: Glyphs, tags: Sequence[str] = ()) -> None:
        """`tags` are words after the name of the machine, such as `demo`."""
        super().__init__()
        self._glyphs = glyphs
        self._tags = tuple(tags)
        self._over_ssh = bool(os.environ.get("SSH_CONNECTION"))

    def on_mount(self) -> None:
        """Redraw when the theme changes."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.draw())

    def on_resize(self) -> None:
        """Redraw for the new width."""
        self.draw()

    def watch_state(self) -> None:
        """Redraw for the new State."""
        self.draw()

    def watch_link_status(self) -> None:
        """Redraw for the new status of the link."""
        self.draw()

    def watch_station(self) -> None:
        """Redraw for another machine."""
        self.draw()

    def watch_failures(self) -> None:
        """Redraw for another number of errors."""
        self.draw()

    async def on_click(self, event: events.Click) -> None:
        """A click on the requests lists them."""
        sign = re.escape(self._glyphs.busy)
        found = re.search(rf"{sign} [0-9]+(\+[0-9]+)?", self.plain)
        if found is not None and found.start() <= event.x < found.end():
            await self.app.run_action("show('requests')")

    def draw(self) -> None:
        """Draw the current parts; outdated ones are dimmed."""
        if not self.is_mounted:
            return
        inks = ink(self.app.theme_variables)
        compact = self.size.width < COMPACT
        parts = [StatusSegment(text=Text("modeldeck", inks.primary + _BOLD), rank=NAME)]
        link = self._link(inks)
        if link is not None:
            parts.append(StatusSegment(text=link, rank=0))
        if self.state is not None:
            if compact:
                parts = parts[1:]
            parts += self._known(self.state, inks, stale=link is not None, compact=compact)
        if self.state is not None and self.state.recording is not None:
            words = Text(f"recording {_left(self.state.recording.until)}", inks.error + _BOLD)
            parts.append(StatusSegment(text=words, rank=0, right=True))
        if self.failures:
            words = Text(f"{self._glyphs.failed} {self.failures}", inks.error + _BOLD)
            parts.append(StatusSegment(text=words, rank=0, right=True))
        gap = COMPACT_GAP if compact else GAP
        self.show([Text(" ").append_text(fit(parts, self.size.width - 2, gap))])

    def _known(
        self, state: State, inks: ThemeStyles, *, stale: bool, compact: bool
    ) -> list[StatusSegment]:
        wide = not compact
        parts = [
            StatusSegment(text=self._host(state), rank=HOST),
            StatusSegment(text=self._tagged(inks), rank=TAGS),
        ]
        if wide:
            parts.append(StatusSegment(text=self._engines(state, inks), rank=ENGINES))
            parts.append(StatusSegment(text=self._rate(state, inks), rank=RATE, right=True))
        memory = StatusSegment(text=self._memory(state, inks, bar=False), rank=RAM, right=True)
        if wide:
            with_bar = self._memory(state, inks, bar=True)
            memory = StatusSegment(text=with_bar, rank=BAR_RANK, right=True, shorter=memory)
        parts += [
            StatusSegment(text=self._requests(state, inks), rank=REQUESTS, right=True),
            memory,
            StatusSegment(text=self._loaded(state, inks, wide=wide), rank=LOADED, right=True),
        ]
        if stale:
            parts = [_outdated(part, inks) for part in parts]
        return [part for part in parts if part.text]

    def _host(self, state: State) -> Text:
        host = fmt.clean(state.host.name) + (" (ssh)" if self._over_ssh else "")
        if self.station is not None and self.station.name:
            host = fmt.clean(self.station.name)
        if self.station is not None and self.station.way:
            host += f" ({f'{self.station.way} {trip(self.link_status)}'.rstrip()})"
        return Text(host)

    def _tagged(self, inks: ThemeStyles) -> Text:
        return Text("  ".join(self._tags), inks.warning)

    def _engines(self, state: State, inks: ThemeStyles) -> Text:
        names = (
            f"{r.name} {fmt.clean(r.version or '')}".strip()
            if r.available
            else f"{r.name} {self._glyphs.unknown}"
            for r in state.runtimes
        )
        return Text(f" {self._glyphs.dot} ".join(names), inks.muted)

    def _rate(self, state: State, inks: ThemeStyles) -> Text:
        running = [job for job in state.downloads.values() if job.state in RUNNING]
        if not running:
            return Text()
        rate = fmt.rate(sum(job.rate_bytes_per_s or 0 for job in running))
        return Text.assemble((self._glyphs.down, inks.success), f" {rate:>9} ({len(running)})")

    def _requests(self, state: State, inks: ThemeStyles) -> Text:
        """Requests that are answered, and those that wait: `2+1`."""
        states = [request.state for request in state.requests.values()]
        answering = sum(state in ANSWERING for state in states)
        waiting = sum(state in WAITING for state in states)
        if not answering and not waiting:
            return Text()
        return Text.assemble(
            (self._glyphs.busy, inks.primary), f" {answering}", f"+{waiting}" if waiting else ""
        )

    def _memory(self, state: State, inks: ThemeStyles, *, bar: bool) -> Text:
        total, free = state.memory.total_bytes, state.memory.available_bytes
        if total is None or free is None:
            return Text(f"RAM {self._glyphs.unknown}")
        share = (total - free) / total if total else 0.0
        text = Text("RAM ")
        if bar:
            text.append(fmt.bar(share, BAR, self._glyphs), _pressure(share, inks)).append(" ")
        return text.append(fmt.memory_part(total - free, total))

    def _loaded(self, state: State, inks: ThemeStyles, *, wide: bool) -> Text:
        from modeldeck.core.schema import (
            InstanceState,  # imported late: State exists only after it is imported
        )

        ready = (InstanceState.READY, InstanceState.BUSY)
        states = [instance.state for instance in state.instances.values()]
        count = sum(state in ready for state in states)
        loading = states.count(InstanceState.STARTING)
        if not count and not loading:
            return Text("0 loaded", inks.muted)
        words = f" {count} loaded" if wide else f" {count}"
        words += f", {loading} loading" if loading else ""
        return Text.assemble((self._glyphs.loaded, inks.success), words)

    def _link(self, inks: ThemeStyles) -> Text | None:
        match self.link_status.state:
            case LinkState.LIVE:
                return None
            case LinkState.CONNECTING:
                return Text("connecting", inks.muted)
            case LinkState.FAILED:
                return Text(f"{self._glyphs.failed} no core", inks.error + _BOLD)
            case LinkState.LOST:
                left = max(0.0, (self.link_status.retry_at or 0) - time.monotonic())
                words = f"{self._glyphs.failed} reconnecting, {left:.0f} s"
                return Text(words, inks.error + _BOLD)


_BOLD = Style(bold=True)


def _outdated(part: StatusSegment, inks: ThemeStyles) -> StatusSegment:
    """A part as muted text without colours: of sixteen, none is readable when it is dim."""
    shorter = part.shorter and _outdated(part.shorter, inks)
    return replace(part, text=Text(part.text.plain, inks.muted), shorter=shorter)


def _left(until: str) -> str:
    """The time until a moment, as `4:12`."""
    seconds = (datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds()
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02}"


def _pressure(share: float, inks: ThemeStyles) -> Style:
    """Colour of the memory bar by its fill; the figures beside it say the same."""
    if share >= 0.92:
        return inks.error
    return inks.warning if share >= 0.8 else inks.success
