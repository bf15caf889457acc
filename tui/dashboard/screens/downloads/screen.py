"""Downloads screen: queue, rates and results of downloads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar, Literal

from rich.text import Text
from textual import work
from textual.app import ComposeResult

from modeldeck.core.schema import Download, DownloadState, Settings
from modeldeck.tui.dashboard.commands import Command, bindings, by_catalog
from modeldeck.tui.dashboard.go_to.entries import GoToEntry, valued
from modeldeck.tui.dashboard.screens.delete_flow import NOTHING_DELETED
from modeldeck.tui.dashboard.screens.downloads import rows as drawn
from modeldeck.tui.dashboard.screens.downloads.commands import COMMANDS
from modeldeck.tui.dashboard.screens.downloads.rows import ACTIVE, ENDED, DownloadRow
from modeldeck.tui.dashboard.screens.table_view import TableParts, TableView
from modeldeck.tui.dashboard.widgets.bars import (
    STRONG,
    History,
    Part,
    TextLines,
    fitted,
    spark,
    wrapped,
)
from modeldeck.tui.dashboard.widgets.filter_input import FilterLine
from modeldeck.tui.dashboard.widgets.row_order import KeptOrder
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import parse
from modeldeck.tui.text.filter_language import Language
from modeldeck.tui.text.records import stands

RATE_S = 60.0
"""Seconds of rate history in the head."""
RATE_SLOTS = 30
RATE_CELLS = 15

ABOUT_LINES = 5
"""Most lines of details below the table; the Log screen has the rest."""


class DownloadsView(TableView[DownloadRow, Download]):
    """Table of downloads, with details of the one under the cursor below."""

    DEFAULT_CSS = """
    DownloadsView #head { padding: 0 0 1 2; }
    DownloadsView #about { padding: 1 0 0 2; max-height: 6; }
    DownloadsView.low #head { padding: 0 0 0 2; }
    DownloadsView.low #about { padding: 0 0 0 2; max-height: 3; }
    """
    NAME = "downloads"
    TITLE = "Downloads"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    def __init__(self, *, id: str | None = None) -> None:
        parts: TableParts[DownloadRow, Download] = TableParts(
            noun="download",
            item_of=lambda row: row.job,
            draw=self.draw,
            draw_cursor_row=self._draw_about,
            open_row=self._toggle_files,
            order=KeptOrder(drawn.VALUES, lambda row: row.key),
        )
        super().__init__(parts, id=id)
        self._rate = History(RATE_S, RATE_SLOTS)
        self._opened: set[str] = set()

    def compose(self) -> ComposeResult:
        """The head, the table, and details of the row under the cursor."""
        yield TextLines(id="head")
        yield FilterLine("failed size>5G", lambda: self.language)
        yield Table[DownloadRow](
            drawn.COLUMNS,
            lambda row: drawn.line(row, self.dashboard.glyphs, self.inks),
            self.dashboard.glyphs,
            self._nothing(),
            sortable=drawn.SORTABLE,
        )
        yield TextLines(id="about")

    def _nothing(self) -> str:
        return f"No downloads.\n{by_catalog(self.dashboard.key_of, 'download')}"

    def on_mount(self) -> None:
        """Redraw the head regularly, as the rate may drop without a new State."""
        self.set_interval(RATE_S / RATE_SLOTS, self._tick)

    # Drawing

    @property
    def jobs(self) -> list[Download]:
        """All downloads of the core."""
        return list(self.state.downloads.values()) if self.state else []

    def watch_state(self) -> None:
        """Draw the new State."""
        if self.is_mounted:
            self._tick()
            self.redraw()

    def _tick(self) -> None:
        if self.state is not None:
            self._rate.add(time.monotonic(), drawn.rate_bytes_per_s(self.jobs))
        if self.display:
            self._draw_head()

    def draw(self) -> None:
        """Draw the head, the table, and the details."""
        self._draw_head()
        every = drawn.listed(self.state) if self.state else []
        rows = [row for row in every if self.passes(row)]
        self.show_count(len(rows), len(every))
        self.table.empty = "No match." if every else self._nothing()
        rows = drawn.with_files(self.in_order(rows), self._opened)
        self.table.show(rows, key=lambda row: row.key)
        self._draw_about()

    def _draw_head(self) -> None:
        if self.state is None:
            self.query_one("#head", TextLines).show(self.waiting)
            return
        glyphs, inks = self.dashboard.glyphs, self.inks
        rates = self._rate.values(time.monotonic(), RATE_CELLS)
        # A line that grows while nothing is downloaded would say nothing.
        shape = spark(rates, None, glyphs, inks) if any(rates) else Text(" " * len(rates))
        rate = fmt.rate(drawn.rate_bytes_per_s(self.jobs))
        settings = self.state.settings
        limited = settings.rate_in_force_bytes_per_s is not None
        parts: list[Part] = [
            (0, Text(drawn.counts(self.jobs, glyphs), STRONG)),
            (1, Text(f"{rate:>10}")),
            (5, shape),
            (2 if limited else 4, drawn.limit(settings, self.key_of("limit"), inks)),
            (3, drawn.disk(self.state, inks)),
        ]
        self.query_one("#head", TextLines).show([fitted(parts, self.size.width - 4)])

    def _draw_about(self) -> None:
        """Draw the details of the download under the cursor."""
        row = self.table.cursor_item
        lines = drawn.about(row.job, self.dashboard.glyphs, self.inks) if row else []
        width = max(10, self.size.width - 4)
        said = [part for line in lines for part in wrapped(line, width, 2)]
        self.query_one("#about", TextLines).show(said[:ABOUT_LINES])

    # Actions

    def _in(self, states: Sequence[DownloadState], verb: str) -> list[Download]:
        return self.selected(lambda job: job.state in states, verb)

    def action_cancel(self) -> None:
        """Cancel downloads; partial files stay."""
        jobs = self._in((*ACTIVE, "paused", "failed"), "cancel")
        self.each(jobs, lambda client, job: client.cancel_download(job.id), self._canceled)

    def _canceled(self, jobs: Sequence[Download]) -> str:
        kept = fmt.size(sum(job.received_bytes for job in jobs))
        return f"Cancelled {self.named(jobs)}. {kept} kept: {self.key_of('retry')} resumes."

    @work
    async def action_discard(self) -> None:
        """Cancel downloads and delete partial files, after showing the plan and asking."""
        states: tuple[DownloadState, ...] = (*ACTIVE, "paused", "failed", "canceled")
        jobs = self._in(states, "cancel")
        ids = {job.id for job in jobs}
        if jobs and await self.confirm(
            drawn.discarding(jobs),
            "delete it",
            "keep it" if len(jobs) == 1 else "keep them",
            cancelled=NOTHING_DELETED,
            subject=lambda state: any(id in state.downloads for id in ids),
        ):
            freed = sum(job.received_bytes for job in jobs)
            self.each(
                jobs,
                lambda client, job: client.cancel_download(job.id, discard=True),
                lambda done: f"Cancelled {self.named(done)}. {fmt.size(freed)} deleted.",
            )

    def action_pause(self) -> None:
        """Pause running downloads; if none runs, resume paused ones."""
        jobs = self._in((*ACTIVE, "paused"), "pause")
        running = [job for job in jobs if job.state in ACTIVE]
        if running:
            self.each(
                running,
                lambda client, job: client.pause_download(job.id),
                lambda done: f"{self.named(done)} paused; {self.key_of('pause')} resumes it",
            )
        else:
            self._resume(jobs, "resumed")

    def action_retry(self) -> None:
        """Resume failed, cancelled and paused downloads."""
        self._resume(self._in(("failed", "canceled", "paused"), "retry"), "resumed")

    def _resume(self, jobs: Sequence[Download], words: str) -> None:
        self.each(
            jobs,
            lambda client, job: client.resume_download(job.id),
            lambda done: f"{self.named(done)} {words}",
        )

    def action_earlier(self) -> None:
        """Move the download under the cursor, and the cursor, up the queue."""
        self._move("up")

    def action_later(self) -> None:
        """Move the download under the cursor, and the cursor, down the queue."""
        self._move("down")

    def _move(self, to: Literal["up", "down"]) -> None:
        row = self.table.cursor_item
        if row is None:
            return
        key, queue = row.job.id, [job.id for job in drawn.queue(self.jobs)]
        if key not in queue:
            words = f"{self.name_of(row.job)} {stands(row.job.state)}"
            self.dashboard.say(f"{words}; only waiting downloads can be moved.", "refused")
        elif key == queue[0 if to == "up" else -1]:
            place = "first" if to == "up" else "last"
            self.dashboard.say(f"{self.name_of(row.job)} is the {place} in the queue.")
        else:
            self.perform(lambda client: client.move_download(key, to))

    @work
    async def action_limit(self) -> None:
        """Ask for the rate limit of all downloads together."""
        if self.state is None:
            return
        now = self.state.settings.rate_limit_bytes_per_s
        await self.enter(
            "Limit of all downloads together",
            _rate(now),
            parse.RATE_FORMS,
            parse.rate,
            self._limit,
            word="Total limit",
        )

    def _limit(self, rate: int | None) -> None:
        """Limit the rate of all downloads together."""
        self.perform(lambda client: client.change_settings(rate_limit_bytes_per_s=rate), _limited)

    def go_to(self, written: str) -> Sequence[GoToEntry]:
        """`limit 5MB/s`."""
        return valued(written, f"{self.NAME}.limit", parse.rate, self._limit, _limiting)

    @work
    async def action_limit_one(self) -> None:
        """Ask for the rate limit of each selected download."""
        jobs = self._in((*ACTIVE, "paused", "failed", "canceled"), "limit")
        if not jobs:
            return

        def act(rate: int | None) -> None:
            words = "no limit" if rate is None else f"{fmt.rate(rate)} at most"
            self.each(
                jobs,
                lambda client, job: client.limit_download(job.id, rate),
                lambda done: f"{self.named(done)}: {words}",
            )

        now = _rate(jobs[0].rate_limit_bytes_per_s)
        label = f"Limit of {self.named(jobs)}{' each' if len(jobs) > 1 else ''}"
        await self.enter(label, now, parse.RATE_FORMS, parse.rate, act)

    @work
    async def action_clear(self) -> None:
        """Remove ended downloads from the list; asks if that deletes partial files."""
        jobs = [job for job in self.jobs if job.state in ENDED]
        if not jobs:
            self.dashboard.say("Nothing has ended yet.")
            return
        plan = drawn.clearing(jobs)
        if plan and not await self.confirm(
            plan, "clear them", "keep them", cancelled=NOTHING_DELETED
        ):
            return
        self.each(
            jobs,
            lambda client, job: client.remove_download(job.id),
            lambda done: f"{fmt.number(len(done), 'download')} cleared",
        )

    def _toggle_files(self) -> None:
        """Show or hide the files of the download under the cursor."""
        row = self.table.cursor_item
        if row is None:
            return
        self._opened ^= {row.job.id}
        self.draw()
        self.table.move_to(row.job.id)

    def dismiss(self) -> bool:
        """Clear the filter that is being written, else the marks, else hide the files."""
        if self.writing and self.clear_filter():
            return True
        if self.table.unmark():
            return True
        had = bool(self._opened)
        self._opened.clear()
        self.draw()
        return had or self.clear_filter()

    @property
    def language(self) -> Language[DownloadRow]:
        """The tests of downloads."""
        return drawn.LANGUAGE


def _rate(bytes_per_s: int | None) -> str:
    """A limit as text in the prompt; empty for none."""
    return "" if bytes_per_s is None else fmt.rate(bytes_per_s)


def _limiting(bytes_per_s: int | None) -> str:
    """What setting a limit does."""
    if bytes_per_s is None:
        return "total limit: no limit"
    return f"total limit: {fmt.rate(bytes_per_s)} at most"


def _limited(settings: Settings) -> str:
    rate, now = settings.rate_limit_bytes_per_s, settings.rate_in_force_bytes_per_s
    words = f"Total limit: {'no limit' if rate is None else f'{fmt.rate(rate)} at most'}"
    if not settings.rate_reason:
        return words
    holds = "no limit" if now is None else fmt.rate(now)
    return f"{words}; {holds} for now ({settings.rate_reason})"
