"""Disk screen: content of the cache, verification, and deleting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import CacheListing, CacheSelection
from modeldeck.tui.dashboard.commands import Command, bindings, by_catalog
from modeldeck.tui.dashboard.screens.catalog.checks import VerificationList, running
from modeldeck.tui.dashboard.screens.catalog.rows import standing
from modeldeck.tui.dashboard.screens.delete_flow import delete
from modeldeck.tui.dashboard.screens.disk import rows as drawn
from modeldeck.tui.dashboard.screens.disk.rows import DiskRow
from modeldeck.tui.dashboard.screens.table_view import TableParts, TableView
from modeldeck.tui.dashboard.widgets.bars import TextLines, wrapped
from modeldeck.tui.dashboard.widgets.filter_input import FilterLine
from modeldeck.tui.dashboard.widgets.row_order import order_words
from modeldeck.tui.dashboard.widgets.table import Table, TableLine
from modeldeck.tui.dashboard.widgets.table_commands import COLUMNS_KEY
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.filter_language import Language

REST_S = 1.0
"""Seconds between two listings while the cache changes; a listing reads all its folders."""

UNNEEDED = CacheSelection(partials=True, orphans=True, detached=True)

COMMANDS = (
    Command(
        name="delete",
        keys="x",
        label="delete",
        help="Delete the repository or the revision; a plan is shown first.",
        marks=True,
    ),
    Command(
        name="verify",
        keys="v",
        label="verify",
        help="Check its files against their hashes.",
        marks=True,
    ),
    Command(
        name="prune",
        keys="P",
        label="prune",
        help="Delete leftover partial files and old revisions; asks first.",
        anywhere=True,
    ),
    Command(
        name="filter",
        keys="slash",
        label="filter",
        help="Filter by words and tests, such as size>1G, used>30, detached.",
        changes=False,
    ),
    Command(name="leave", keys="d", label="memory", help="Go back to Memory.", changes=False),
    Command(name="cancel", keys="c", label="cancel", help="Cancel the check.", footer=False),
    Command(
        name="copy",
        keys="y",
        label="copy",
        help="Copy the repository's name.",
        footer=False,
        changes=False,
    ),
)
"""In order of importance for the footer."""


class DiskView(TableView[DiskRow, DiskRow]):
    """Table of the repositories in the cache."""

    DEFAULT_CSS = """
    DiskView #head { padding: 0 0 1 2; }
    DiskView.low #head { padding: 0 0 0 2; }
    DiskView #about { padding: 1 0 0 2; max-height: 4; }
    DiskView.low #about { display: none; }
    """
    NAME = "disk"
    TITLE = "Disk"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    def __init__(self, *, id: str | None = None) -> None:
        parts: TableParts[DiskRow, DiskRow] = TableParts(
            noun="entry",
            item_of=lambda row: row,
            draw=self.draw,
            draw_cursor_row=self._draw_about,
        )
        super().__init__(parts, id=id)
        self._listing: CacheListing | None = None
        self._looked_at = 0.0
        self._basis: tuple[object, ...] = ()
        """Parts of State that the last listing belongs to."""
        self._stale = True
        self._looking = False

    def compose(self) -> ComposeResult:
        """The head, the table, details of the row under the cursor, and verifications."""
        glyphs = self.dashboard.glyphs
        yield TextLines(id="head")
        yield FilterLine("size>1G used>30 detached", lambda: self.language)
        yield Table[DiskRow](
            drawn.COLUMNS, self._line, glyphs, "Looking at the cache.", sortable=drawn.SORTABLE
        )
        yield TextLines(id="about")
        yield VerificationList(glyphs, self.key_of("cancel"))

    def _line(self, row: DiskRow) -> TableLine:
        assert self.state is not None
        return drawn.line(
            row, self.state, self._now, self._looked_at, self.dashboard.glyphs, self.inks
        )

    # Listing the cache

    def watch_state(self) -> None:
        """Draw the new State; list the cache again if it may have changed."""
        if not self.is_mounted or self.state is None:
            return
        basis = (self.state.models, self.state.disk)
        if len(basis) != len(self._basis) or any(
            a is not b for a, b in zip(basis, self._basis, strict=True)
        ):
            self._basis = basis
            self._stale = True
        self.redraw()
        self._look()

    def activated(self) -> None:
        """List the cache, which other programs may have changed."""
        super().activated()
        self.undone()

    def undone(self) -> None:
        """List the cache again: its links are not part of State."""
        self._stale = True
        self._look()

    def _look(self) -> None:
        if self._stale and self.display and not self._looking:
            self._looking = True
            self._looks()

    @work(group="look")
    async def _looks(self) -> None:
        """List the cache, again if it changed meanwhile."""
        try:
            while self._stale and self.display:
                self._stale = False
                try:
                    self._listing = await self.dashboard.link.client.cache()
                except DeckError as error:
                    self.table.empty = str(error)
                else:
                    self._looked_at = time.time()
                    self.table.empty = self._nothing()
                self.redraw()
                await asyncio.sleep(REST_S)
        finally:
            self._looking = False

    @property
    def language(self) -> Language[DiskRow]:
        """The tests of repositories."""
        return drawn.language(self._looked_at or time.time())

    # Drawing

    def draw(self) -> None:
        """Draw the head, the table, and running verifications."""
        head = self.query_one("#head", TextLines)
        if self.state is None:
            head.show(self.waiting)
            return
        self._now = standing(self.state, {})
        listing, width = self._listing, self.size.width - 4
        if listing is not None:
            keys = (self.key_of("prune"), COLUMNS_KEY)
            glyphs = self.dashboard.glyphs
            order = order_words(drawn.COLUMNS, self.table.choice, glyphs, f"size {glyphs.falling}")
            head.show([drawn.head(listing, self.state, order, keys, width, self.inks)])
            rows = drawn.rows(listing, self.table.choice, self.passes)
            listed = sum(row.revision is None for row in rows)
            self.show_count(listed, len(listing.repositories))
            self.table.empty = "No match." if listing.repositories else self._nothing()
            self.table.show(rows, key=lambda row: row.id)
        self.query_one(VerificationList).show(self.state)
        self._draw_about()

    def _nothing(self) -> str:
        return f"The cache is empty.\n{by_catalog(self.dashboard.key_of, 'download')}"

    def _draw_about(self) -> None:
        """Draw the models of the row under the cursor."""
        row = self.table.cursor_item
        lines = drawn.about(row, self.inks) if row is not None else []
        width = max(10, self.size.width - 4)
        about = [part for text in lines for part in wrapped(text, width, drawn.LABEL)]
        self.query_one("#about", TextLines).show(about)

    # Actions

    @property
    def _chosen(self) -> Sequence[DiskRow]:
        return self.selected(lambda _: True, "do")

    @work(exclusive=True, group="delete")
    async def action_delete(self) -> None:
        """Delete the selected rows, after showing the plan and asking."""
        if not (rows := self._chosen):
            return
        names = ", ".join(row.unique for row in rows)
        title = f"Delete {names} from the cache."
        if await delete(
            self.dashboard, drawn.selection(rows), title, f"Nothing is left of {names}."
        ):
            self.table.unmark()
            self.undone()

    @work(exclusive=True, group="delete")
    async def action_prune(self) -> None:
        """Delete unneeded files, after showing the plan and asking."""
        title = "Prune leftover partial files and old revisions."
        if await delete(self.dashboard, UNNEEDED, title, "Nothing to prune."):
            self.undone()

    def action_verify(self) -> None:
        """Verify the files of the selected rows."""
        if rows := self._chosen:
            self.table.unmark()
            self.perform(
                lambda client: client.verify(drawn.selection(rows)),
                lambda check: (
                    f"{fmt.number(check.files, 'file')} of {check.what} will be read"
                    f" again: {fmt.size(check.total_bytes)}"
                ),
            )

    def action_cancel(self) -> None:
        """Cancel the running verification."""
        checks = running(self.state) if self.state is not None else []
        if checks:
            self.perform(lambda client: client.cancel_verification(checks[0].id))
        else:
            self.dashboard.say("Nothing is being checked.")

    def action_leave(self) -> None:
        """Go back to Memory."""
        self.dashboard.current = "memory"

    def dismiss(self) -> bool:
        """Clear the filter, else the marks; else go back to Memory."""
        if not self.clear_filter() and not self.table.unmark():
            self.action_leave()
        return True
