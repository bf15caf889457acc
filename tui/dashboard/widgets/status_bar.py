"""The status bar: machine and connection, engines, memory, downloads, loaded models."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text
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

RUNNING = frozenset({"downloading", "verifying"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSegment:
    """One part of the status bar."""

    text: Text
    rank: int
    """Parts with the highest rank are dropped first on a narrow terminal; 0 is always shown."""
    right: bool = False
    """Whether it is aligned right, so that it does not move when parts on the left change."""


def fit(parts: Sequence[StatusSegment], width: int) -> Text:
    """The parts that fit on one line."""
    kept = list(parts)

    def needed() -> int:
        return sum(part.text.cell_len for part in kept) + GAP * (len(kept) - 1)

    while len(kept) > 1 and needed() > width:
        kept.remove(max(kept, key=lambda part: part.rank))
    gap = " " * GAP
    left = Text(gap).join([part.text for part in kept if not part.right])
    right = Text(gap).join([part.text for part in kept if part.right])
    between = max(GAP if left and right else 0, width - left.cell_len - right.cell_len)
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

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs
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

    def draw(self) -> None:
        """Draw the current parts; outdated ones are dimmed."""
        if not self.is_mounted:
            return
        inks = ink(self.app.theme_variables)
        parts = [StatusSegment(text=Text("modeldeck", inks.primary + _BOLD), rank=5)]
        link = self._link(inks)
        if link is not None:
            parts.append(StatusSegment(text=link, rank=0))
        if self.state is not None:
            parts += self._known(self.state, inks, stale=link is not None)
        self.show([Text(" ").append_text(fit(parts, self.size.width - 2))])

    def _known(self, state: State, inks: ThemeStyles, *, stale: bool) -> list[StatusSegment]:
        host = fmt.clean(state.host.name) + (" (ssh)" if self._over_ssh else "")
        if self.station is not None and self.station.name:
            host = fmt.clean(self.station.name)
        if self.station is not None and self.station.way:
            host += f" ({f'{self.station.way} {trip(self.link_status)}'.rstrip()})"
        parts = [
            StatusSegment(text=Text(host), rank=4),
            StatusSegment(text=self._engines(state, inks), rank=6),
            StatusSegment(text=self._rate(state, inks), rank=2, right=True),
            StatusSegment(text=self._memory(state, inks), rank=3, right=True),
            StatusSegment(text=self._loaded(state, inks), rank=1, right=True),
        ]
        if stale:
            for part in parts:
                part.text.stylize(inks.muted)
        return [part for part in parts if part.text]

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

    def _memory(self, state: State, inks: ThemeStyles) -> Text:
        total, free = state.memory.total_bytes, state.memory.available_bytes
        if total is None or free is None:
            return Text(f"RAM {self._glyphs.unknown}")
        share = (total - free) / total if total else 0.0
        figure, unit = fmt.memory(total - free).split()
        whole, whole_unit = fmt.memory(total).split()
        used = figure if unit == whole_unit else f"{figure} {unit}"
        return Text.assemble(
            "RAM ",
            (fmt.bar(share, BAR, self._glyphs), _pressure(share, inks)),
            f" {used:>{len(whole)}}/{whole} {whole_unit}",
        )

    def _loaded(self, state: State, inks: ThemeStyles) -> Text:
        from modeldeck.core.schema import (
            InstanceState,  # imported late: State exists only after it is imported
        )

        ready = (InstanceState.READY, InstanceState.BUSY)
        states = [instance.state for instance in state.instances.values()]
        count = sum(state in ready for state in states)
        if InstanceState.STARTING in states:
            return Text.assemble((self._glyphs.busy, inks.warning), f" {count} loaded, 1 loading")
        if not count:
            return Text("0 loaded", inks.muted)
        return Text.assemble((self._glyphs.loaded, inks.success), f" {count} loaded")

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


def _pressure(share: float, inks: ThemeStyles) -> Style:
    """Colour of the memory bar by its fill; the figures beside it say the same."""
    if share >= 0.92:
        return inks.error
    return inks.warning if share >= 0.8 else inks.success
