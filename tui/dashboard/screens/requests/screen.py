"""Requests screen: who asks which model, how far each is, and the last that ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import RecordedText, RequestInfo
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.questions import ChoiceQuestion, QuestionItem, YesNoQuestion
from modeldeck.tui.dashboard.screens.requests import details
from modeldeck.tui.dashboard.screens.requests import rows as drawn
from modeldeck.tui.dashboard.screens.requests.commands import COMMANDS
from modeldeck.tui.dashboard.screens.requests.rows import RequestRow, RequestsShown
from modeldeck.tui.dashboard.screens.table_view import TableParts, TableView
from modeldeck.tui.dashboard.widgets.bars import wrapped
from modeldeck.tui.dashboard.widgets.filter_input import FilterInput
from modeldeck.tui.dashboard.widgets.row_order import KeptOrder
from modeldeck.tui.dashboard.widgets.scrolled_lines import ScrolledLines
from modeldeck.tui.dashboard.widgets.table import Table, TableLine
from modeldeck.tui.remote.core_link import LinkState
from modeldeck.tui.text import curl
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import requests as request_text
from modeldeck.tui.text.filter_language import Language
from modeldeck.tui.text.model_names import row_name

AGES_S = 1.0
"""Seconds between two drawings of the ages of live requests."""
KEPT_S = 2.0
"""Seconds that a request keeps its place after its end, so that nothing jumps under the cursor."""
SPANS = ((300.0, "5 minutes"), (900.0, "15 minutes"), (3600.0, "1 hour"))
"""How long can be recorded."""
MOST_CELLS = 147
"""Cells of the columns at most."""
FIRST_MODEL = "MODEL"
"""Stands in a first line of curl for a model, where none is downloaded."""


class RequestsView(TableView[RequestRow, RequestInfo]):
    """A line with counts and the filter, the table, and one request in full."""

    DEFAULT_CSS = """
    RequestsView { padding: 0; }
    RequestsView #req-bar { height: 2; padding: 0 1 0 3; }
    RequestsView.low #req-bar { height: 1; padding: 0 1 0 2; }
    RequestsView #req-bar Static { width: auto; }
    RequestsView #req-bar FilterInput { display: none; }
    RequestsView #req-bar #req-gap { width: 1fr; }
    RequestsView.filtered #req-bar FilterInput { display: block; }
    RequestsView.filtered #req-bar #req-gap, RequestsView.filtered #req-bar #req-note {
        display: none; }
    RequestsView #details { display: none; height: auto; max-height: 60%; padding: 1 2 0 2; }
    RequestsView.open #details { display: block; }
    RequestsView.low #details { padding: 0 2; }
    """
    NAME = "requests"
    TITLE = "Requests"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    def __init__(self, *, id: str | None = None) -> None:
        parts: TableParts[RequestRow, RequestInfo] = TableParts(
            noun="request",
            item_of=_request,
            draw=self.draw,
            draw_cursor_row=self._other_request,
            open_row=self._toggle_details,
            order=KeptOrder(drawn.VALUES, lambda info: info.id),
        )
        super().__init__(parts, id=id)
        self._shown = RequestsShown.ALL
        self._live: frozenset[str] = frozenset()
        """Ids of the requests that were live in the last State."""
        self._ended: dict[str, float] = {}
        """When requests ended that keep their places for a moment, by `time.monotonic`."""
        self._detailed = ""
        """Id of the request whose details were drawn last."""
        self._text: tuple[str, RecordedText | None] = ("", None)
        """The id of the request whose text was asked for last, and its text."""
        self._now = datetime.now(UTC)
        """The time that ages are told by; it stands still while the core is away."""
        self._today = ""
        """The day whose requests are counted, as it was drawn last."""

    def compose(self) -> ComposeResult:
        """The bar, the table and the details."""
        with Horizontal(id="req-bar"):
            yield Static(id="req-counts")
            yield FilterInput("who:laptop failed tok/s<5", lambda: self.language)
            yield Static(id="filter-count")
            yield Static(id="req-gap")
            yield Static(id="req-note")
        yield Table[RequestRow](
            drawn.COLUMNS, self._line, self.dashboard.glyphs, sortable=drawn.SORTABLE
        )
        yield ScrolledLines(self.key_of, id="details")

    def on_mount(self) -> None:
        """Keep figures near their names on a wide terminal, and draw ages regularly."""
        self.table.arrangement.most_cells = MOST_CELLS
        self.set_interval(AGES_S, self._grow_older)

    @property
    def _own(self) -> str:
        """The id of this dashboard's own requests."""
        return self.dashboard.link.client_id

    def _line(self, row: RequestRow) -> TableLine:
        assert self.state is not None, "there are no rows without a State"
        return drawn.line(row, self.state, self._own, self._now, self.dashboard.glyphs, self.inks)

    # Drawing

    def watch_state(self) -> None:
        """Note which requests ended, and draw."""
        if not self.is_mounted or self.state is None:
            return
        requests = self.state.requests
        ended = [key for key in self._live if key in requests and not requests[key].live]
        self._ended |= dict.fromkeys(ended, time.monotonic())
        if ended:
            self.set_timer(KEPT_S, self.redraw)
        self._live = frozenset(key for key, info in requests.items() if info.live)
        self.redraw()

    def _grow_older(self) -> None:
        if self.display and (self._live or self._today != _today()):
            self.redraw()
        self._ask_for_text()

    def draw(self) -> None:
        """Draw the bar, the table and the details."""
        if self.state is None or not self.size.width:
            return
        if self.dashboard.link.status.state is not LinkState.LOST:
            self._now = datetime.now(UTC)
        before = time.monotonic() - KEPT_S
        self._ended = {key: at for key, at in self._ended.items() if at > before}
        self._draw_bar(self.state)
        self.table.empty = self.nothing(self.state)
        requests = self.in_order(list(self.state.requests.values()))
        kept = () if self._shown is RequestsShown.FAILED else tuple(self._ended)
        shown = drawn.of_kind(requests, self._shown, kept)
        passing = [info for info in shown if self.passes(info)]
        found = drawn.rows(self.state, passing, kept, is_sorted=self.is_sorted)
        self.show_count(len(passing), len(shown))
        self.table.show(found, key=drawn.key)
        self._draw_details()

    def _draw_bar(self, state: State) -> None:
        width, inks, glyphs = self.size.width, self.inks, self.dashboard.glyphs
        self._today = _today()
        counts, totals = drawn.heading(state, width, glyphs, self._today)
        text = Text(counts)
        if self._shown is not RequestsShown.ALL:
            text.append(f"   [{self._shown}]", "bold")
        if totals and not self.has_class("filtered"):
            text.append(f"   {totals}", inks.muted)
        if self.has_class("filtered"):
            text.append("   filter: ", inks.muted)
        self.query_one("#req-counts", Static).update(text)
        self.query_one("#req-note", Static).update(self._note(state, width))

    def _note(self, state: State, width: int) -> Text:
        """Whether what is said is recorded, and the key that changes that."""
        key = self.key_of("record")
        if state.recording is not None:
            what = "prompts and answers are recorded" if width >= 110 else "recorded"
            return Text.assemble((what, self.inks.error), (f" [{key} stops]", self.inks.muted))
        what = "prompts and answers are not recorded" if width >= 110 else "not recorded"
        return Text(f"{what} [{key}]" if width >= 70 else f"{key} records", self.inks.muted)

    def nothing(self, state: State) -> str:
        """The words of an empty table."""
        if state.requests:
            return "No match." if self.row_filter is not None else f"No {self._shown} requests."
        where = f"{state.host.urls[0].rstrip('/')}/v1" if state.host.urls else state.host.socket
        key = self.key_of("copy")
        return f"No requests yet. {key} copies a first curl.\nThe API answers at {where}."

    def _draw_details(self) -> None:
        if not self.has_class("open") or self.state is None:
            return
        pane, row = self.query_one(ScrolledLines), self.table.cursor_item
        if not isinstance(row, RequestInfo):
            pane.put([])
            return
        width = max(10, self.size.width - 4)
        text = self._text[1] if self._text[0] == row.id else None
        key, glyphs = self.key_of("record"), self.dashboard.glyphs
        facts = details.facts(row, text, key, self._own, width, glyphs, self.inks)
        lines = [part for line in facts for part in wrapped(line, width, details.LABEL)]
        pane.put(lines, anew=row.id != self._detailed)
        self._detailed = row.id

    def _toggle_details(self) -> None:
        """Show or hide the request under the cursor in full."""
        if self.table.cursor_item is None and not self.has_class("open"):
            return
        self.toggle_class("open")
        self.call_after_refresh(self._draw_details)
        self._ask_for_text()

    def _other_request(self) -> None:
        """Show another request in full, if details are open."""
        self._draw_details()
        self._ask_for_text()

    def _ask_for_text(self) -> None:
        """Ask for the text of the request under the cursor, where it may be recorded."""
        row = self.table.cursor_item
        if not self.has_class("open") or not self.display or not isinstance(row, RequestInfo):
            return
        if self.state is None or self.state.recording is None:
            self._text = ("", None)
        elif row.live or self._text[0] != row.id:
            self.run_worker(self._fetch_text(row.id), group="text", exclusive=True)

    async def _fetch_text(self, request_id: str) -> None:
        try:
            text = await self.dashboard.link.client.request_text(request_id)
        except DeckError:
            text = None  # it has left the list, or the core is away
        self._text = (request_id, text)
        self._draw_details()

    # Recording

    @work(exclusive=True, group="record")
    async def action_record(self) -> None:
        """Ask for how long to record, and begin; or stop what is recorded."""
        if self.state is None:
            return
        if self.state.recording is not None:
            self._text = ("", None)
            self.perform(
                lambda client: client.stop_recording(),
                lambda _: "Recording stopped; what was recorded is gone.",
            )
            return
        row = self.table.cursor_item
        choices: list[tuple[float, str, tuple[str, ...]]] = [
            (seconds, words, ()) for seconds, words in SPANS
        ]
        if isinstance(row, RequestInfo):
            seconds, words = SPANS[0]
            listed = self.state.models if self.state is not None else {}
            name = fmt.clean(row_name(row.model_id, row.unique, listed))
            choices.append((seconds, f"{words}, only {name}", (row.model_id,)))
        question = ChoiceQuestion(
            title="Record prompts and answers, in the core's memory only, for:",
            word="Record",
            items=tuple(QuestionItem(text=words) for _, words, _ in choices),
            cancelled="Cancelled: nothing is recorded.",
        )
        answer = await self.dashboard.ask_question(question)
        if answer is None:
            return
        seconds, words, models = choices[int(answer) - 1]
        self.perform(
            lambda client: client.record_requests(seconds, models),
            lambda _: f"Recording for {words}. {self.key_of('record')} stops and deletes it.",
        )

    # Actions

    @work
    async def action_cancel(self) -> None:
        """Cancel the selected requests; asks for those of others."""
        wanted = self._selected_live()
        others = [info for info in wanted if not request_text.is_own(info.client, self._own)]
        if others and await self.dashboard.ask_question(_question(others, self._own)) is None:
            return
        ids = {info.id for info in wanted}
        still = (
            [i for i in self.state.requests.values() if i.id in ids and i.live]
            if self.state
            else []
        )
        if wanted and not still:
            self.dashboard.say("Too late: it ended by itself.")
        self.each(
            still,
            lambda client, info: client.cancel_request(info.id),
            lambda done: _cancelled(done, self._own),
        )

    def _selected_live(self) -> list[RequestInfo]:
        """The marked requests, or the one under the cursor, that have not ended."""
        found = drawn.without_rules(self.table.marked)
        live = [info for info in found if info.live]
        if found and not live:
            words = request_text.state_words(found[0], self._own)
            self.dashboard.say(f"That request has ended: {words}.")
        return live

    def action_copy(self) -> None:
        """Copy the request under the cursor as curl, or a first one where there is none."""
        self._copy()

    @work
    async def _copy(self) -> None:
        if self.state is None:
            return
        row, host = self.table.cursor_item, self.state.host
        if isinstance(row, RequestInfo):
            if self.state.recording is not None:
                await self._fetch_text(row.id)
            text = self._text[1] if self._text[0] == row.id else None
            line = curl.request_line(row, host, token=" token=" in row.origin, text=text)
            words = "Copied as curl, without its text." if text is None else "Copied as curl."
        else:
            here = (m.unique for m in self.state.models.values() if m.downloaded)
            loaded = (i.unique for i in self.state.instances.values() if i.state.live)
            line = curl.first_line(next(loaded, None) or next(here, FIRST_MODEL), host)
            words = "Copied a first curl."
        self.app.copy_to_clipboard(line)
        self.dashboard.say(words, "done")

    def action_show(self) -> None:
        """Show all requests, then only live ones, then only failed ones."""
        order = list(RequestsShown)
        self._shown = order[(order.index(self._shown) + 1) % len(order)]
        self.redraw()

    # The filter

    @property
    def language(self) -> Language[RequestInfo]:
        """The filter's language, with the names that models have now."""
        return drawn.language(self.state.models if self.state else {}, self._own)

    def dismiss(self) -> bool:
        """Clear and leave the filter, else hide the details, clear marks, go back to Memory."""
        if self.clear_filter():
            return True
        if self.has_class("open"):
            self.remove_class("open")
        elif not self.table.unmark():
            self.dashboard.action_show("memory")
        return True


def _request(row: RequestRow) -> RequestInfo:
    assert isinstance(row, RequestInfo), "the cursor skips the rule"
    return row


def _question(others: list[RequestInfo], own: str) -> YesNoQuestion:
    """Asks before requests of others are cancelled."""
    title = f"Cancel {fmt.number(len(others), 'request')} of others?"
    if len(others) == 1:
        (info,) = others
        so_far = info.completion_tokens
        written = f" {fmt.number(so_far, 'token')} so far." if so_far else ""
        title = f"Cancel the request of {fmt.clean(request_text.who(info, own))}?{written}"
    keep = "keep it" if len(others) == 1 else "keep them"
    return YesNoQuestion(title=title, verb="cancel", keep=keep)


def _cancelled(done: Sequence[RequestInfo], own: str) -> str:
    """That requests were cancelled, by the name that their row shows."""
    if len(done) > 1:
        return f"Cancelled {fmt.number(len(done), 'request')}"
    return f"Cancelled the request of {fmt.clean(request_text.who(done[0], own))}"


def _today() -> str:
    return f"{datetime.now().astimezone():%Y-%m-%d}"
