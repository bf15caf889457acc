"""The line for a running verification of files."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text
from textual.widget import Widget

from modeldeck.core.schema import Verification
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

BAR = 12
LEAST = 12
"""Least width in cells of the name."""


def running(state: State) -> list[Verification]:
    """Verifications that run or wait; the running one is first."""
    checks = [v for v in state.verifications.values() if v.state in ("queued", "verifying")]
    return sorted(checks, key=lambda check: check.state == "queued")


def line(checks: list[Verification], glyphs: Glyphs, width: int, key: str) -> tuple[str, str]:
    """Name and progress of the first verification; empty texts for none."""
    if not checks:
        return "", ""
    check, *others = checks
    part = check.done_bytes / check.total_bytes if check.total_bytes else None
    facts = [
        f"{fmt.percent(part):>5} {fmt.bar(part, BAR, glyphs)}",
        f"{key} cancels",
        fmt.size_of(check.done_bytes, check.total_bytes),
        f"{fmt.pad(fmt.rate(check.rate_bytes_per_s), 9, right=True)} {fmt.span(check.eta_s)} left",
        f"and {len(others)} more {'waits' if len(others) == 1 else 'wait'}" if others else "",
    ]
    told = ""
    for fact in facts:
        if fact and fmt.columns(told) + len(fact) + 3 + LEAST <= width:
            told += f"   {fact}"
    return fmt.squeeze(f"checking {fmt.clean(check.what)}", width - fmt.columns(told)), told


class VerificationList(Widget):
    """Line of the running verification; hidden without one."""

    DEFAULT_CSS = """
    VerificationList { height: 1; padding: 0 1; display: none;
             &.running { display: block; } }
    """

    def __init__(self, glyphs: Glyphs, key: str) -> None:
        """`key` cancels a verification."""
        super().__init__(id="checks")
        self._glyphs = glyphs
        self._key = key
        self._checks: list[Verification] = []

    def show(self, state: State) -> None:
        """Show the progress; draws only a change."""
        checks = running(state)
        if checks != self._checks:
            self._checks = checks
            self.set_class(bool(checks), "running")
            self.refresh()

    def render(self) -> Text:
        """Draw the line."""
        inks = ink(self.app.theme_variables)
        width = self.size.width - 2
        name, told = line(self._checks, self._glyphs, width, self._key)
        return Text.assemble((f"{self._glyphs.busy} ", inks.accent), name, (told, Style()))
