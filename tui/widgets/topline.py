"""The line on top: which machine, how it is reached, memory, downloads, what is loaded, engines."""

from __future__ import annotations

import time

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from core.schema import InstanceState
from core.state import State
from tui import format as fmt
from tui.format import Glyphs
from tui.link import LinkState, LinkStatus

BAR = 8
"""Cells of the memory bar."""


class TopLine(Widget):
    """One line; parts of little rank fall away where it is narrow."""

    DEFAULT_CSS = """
    TopLine { height: 1; background: $panel; color: $foreground; padding: 0 1; }
    """

    state: reactive[State | None] = reactive(None)
    link_status: reactive[LinkStatus] = reactive(LinkStatus(state=LinkState.CONNECTING))

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs

    def render(self) -> Text:
        """The parts, the name first; then as many as there is room for."""
        room = self.size.width
        parts = [Text("modeldeck", "bold"), *self._parts()]
        line = Text()
        for part in parts:
            gap = 3 if line else 0
            if line and line.cell_len + gap + part.cell_len > room:
                continue
            line.append(" " * gap).append_text(part)
        return line

    def _parts(self) -> list[Text]:
        link = self._link()
        state = self.state
        if state is None:
            return [link] if link else []
        dim = "dim" if link else ""
        loaded = sum(
            i.state in (InstanceState.READY, InstanceState.BUSY) for i in state.instances.values()
        )
        parts = [Text(fmt.clean(state.host.name), dim)]
        if link:
            parts.append(link)
        parts.append(self._memory(state, dim))
        running = [d for d in state.downloads.values() if d.state in ("downloading", "verifying")]
        rate = sum(d.rate_bytes_per_s or 0 for d in running)
        if running:
            parts.append(Text(f"{self._glyphs.down} {fmt.rate(rate)} ({len(running)})", dim))
        parts.append(Text(f"{loaded} loaded", dim))
        engines = [
            f"{r.name} {r.version or ''}".strip() if r.available else f"{r.name} {fmt.UNKNOWN}"
            for r in state.runtimes
        ]
        if engines:
            parts.append(Text(f" {self._glyphs.dot} ".join(engines), "dim"))
        return parts

    def _memory(self, state: State, style: str) -> Text:
        total, free = state.memory.total_bytes, state.memory.available_bytes
        if total is None or free is None:
            return Text(f"RAM {fmt.UNKNOWN}", style)
        bar = fmt.bar((total - free) / total, BAR, self._glyphs)
        used = fmt.memory(total - free).split()[0]
        return Text(f"RAM {bar} {used}/{fmt.memory(total)}", style)

    def _link(self) -> Text | None:
        match self.link_status.state:
            case LinkState.LIVE:
                return None
            case LinkState.CONNECTING:
                return Text("connecting", "dim")
            case LinkState.FAILED:
                return Text("no core", "bold red")
            case LinkState.LOST:
                left = max(0.0, (self.link_status.retry_at or 0) - time.monotonic())
                return Text(f"reconnecting, {left:.0f} s", "bold red")
