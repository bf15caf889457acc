"""Disk screen: content of the cache, verification, and deleting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.reactive import var

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import CacheListing, CacheSelection
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.screens.catalog.checks import VerificationList, running
from modeldeck.tui.dashboard.screens.catalog.rows import standing
from modeldeck.tui.dashboard.screens.delete_flow import delete
from modeldeck.tui.dashboard.screens.disk import rows as drawn
from modeldeck.tui.dashboard.screens.disk.rows import DiskRow, DiskSort
from modeldeck.tui.dashboard.screens.table_view import TableParts, TableView
from modeldeck.tui.dashboard.widgets.bars import TextLines, wrapped
from modeldeck.tui.dashboard.widgets.table import Table, TableLine
from modeldeck.tui.text import format as fmt

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
        help="Delete partial files, orphaned blobs, detached revisions; asks first.",
    ),
    Command(name="sort", keys="o", label="sort", help="Sort by size, by last use, by name."),
    Command(name="leave", keys="d", label="memory", help="Go back to Memory."),
    Command(name="cancel", keys="c", label="call off", help="Call the check off.", footer=False),
    Command(name="copy", keys="y", label="copy", help="Copy the repository's name.", footer=False),
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

    sort: var[DiskSort] = var(DiskSort.SIZE)
    """The order of the rows."""

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
        yield Table[DiskRow](drawn.COLUMNS, self._line, glyphs, "Looking at the cache.")
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
                    self.table.empty = "The cache is empty.\nThe Catalog downloads models."
                self.redraw()
                await asyncio.sleep(REST_S)
        finally:
            self._looking = False

    def watch_sort(self) -> None:
        """Show the new order from the top."""
        if self.is_mounted:
            self.redraw()
            self.table.action_first()

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
            keys = (self.key_of("prune"), self.key_of("sort"))
            head.show([drawn.head(listing, self.state, self.sort, keys, width, self.inks)])
        rows = drawn.rows(listing, self.sort) if listing is not None else []
        self.table.show(rows, key=lambda row: row.id)
        self.query_one(VerificationList).show(self.state)
        self._draw_about()

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
        title = "Prune partial files and blobs that nothing needs, and detached revisions."
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

    def action_sort(self) -> None:
        """Sort by the next order."""
        orders = list(DiskSort)
        self.sort = orders[(orders.index(self.sort) + 1) % len(orders)]

    def action_leave(self) -> None:
        """Go back to Memory."""
        self.dashboard.current = "memory"

    def dismiss(self) -> bool:
        """Clear the marks, else go back to Memory."""
        if not self.table.unmark():
            self.action_leave()
        return True
