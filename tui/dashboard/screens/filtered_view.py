"""`FilteredView`: a screen whose rows are filtered by words and tests, written in one field.

A subclass composes one `FilterInput`, gives the tests of its rows by `language`, and shows in
`rows_filtered` the rows that `passes` lets through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import on
from textual.widgets import Input, Static

from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.widgets.filter_input import KEYS, SCOPE, FilterInput
from modeldeck.tui.dashboard.widgets.footer import Entry
from modeldeck.tui.dashboard.widgets.scrolled_lines import ScrolledLines
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.text.filter_language import Language, RowFilter

NO_TESTS: Language[Any] = Language(text=str)


class FilteredView(View):
    """Base of the screens with a filter."""

    row_filter: RowFilter[Any] | None = None
    """The filter as it was written last; None where it is empty."""

    @property
    def language(self) -> Language[Any]:
        """The tests of its rows, with the names that there are now."""
        return NO_TESTS

    def rows_filtered(self) -> None:
        """Draw the rows again: the filter is another one, or is shown, or hidden."""

    @property
    def filter_field(self) -> FilterInput:
        """Where the filter is written."""
        return self.query_one(FilterInput)

    @property
    def filter_words(self) -> tuple[str, ...]:
        """The words of the filter, which are marked in the rows."""
        return () if self.row_filter is None else self.row_filter.words

    def passes(self, row: Any) -> bool:
        """Whether the filter lets a row through."""
        return self.row_filter is None or self.row_filter.matches(row)

    def show_count(self, listed: int, total: int) -> None:
        """Show how many rows pass the filter, of how many, where its line has a place for it."""
        words = "" if self.row_filter is None else f"  {listed} of {total}"
        for place in self.query("#filter-count").results(Static):
            place.update(words)

    # Keys

    @property
    def writing(self) -> bool:
        """Whether the filter has the focus."""
        return any(field.has_focus for field in self.query(FilterInput))

    def keys_shown(self) -> Sequence[Entry]:
        """The keys of the filter while it is written, else those of the view."""
        return [(SCOPE, command) for command in KEYS] if self.writing else super().keys_shown()

    def action_filter(self) -> None:
        """Give the focus to the filter."""
        self.add_class("filtered")
        self.rows_filtered()
        self.filter_field.focus()

    def action_keep_filter(self) -> None:
        """Give the focus back to the table; an empty filter is hidden."""
        self.query_one(Table).focus()
        self.set_class(self.row_filter is not None, "filtered")
        self.rows_filtered()

    def action_complete_filter(self) -> None:
        """Take the first test that is offered."""
        self.filter_field.action_complete()

    def clear_filter(self) -> bool:
        """Clear the filter and leave it; False where there is none."""
        field = self.filter_field
        if not field.has_focus and not field.value:
            return False
        field.value = ""
        self.row_filter = None
        self.action_keep_filter()
        return True

    def action_scroll_details(self, by: int) -> None:
        """Scroll what is shown in full below the table."""
        for details in self.query(ScrolledLines):
            details.scroll_by(by)

    def offer_tests(self) -> None:
        """Offer tests in the message line while the filter is written."""
        offers = self.filter_field.offers
        self.dashboard.hint("  ".join(("tab", *offers)) if offers else "")

    @on(Input.Changed, "#filter")
    def _filter_changed(self, event: Input.Changed) -> None:
        event.stop()
        text = event.value.strip()
        self.row_filter = self.language.parse(text) if text else None
        self.rows_filtered()
        self.offer_tests()

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_keep_filter()

    @on(FilterInput.Moved)
    def _cursor_moved(self, event: FilterInput.Moved) -> None:
        event.stop()
        self.query_one(Table).action_move(event.by)

    def on_descendant_focus(self) -> None:
        """Update the footer and the offers: other keys apply while writing."""
        if self.query(FilterInput):
            self.dashboard.keys_changed()
            self.offer_tests()

    on_descendant_blur = on_descendant_focus
