"""`DashboardInterface`: what screens and dialogs may use of the app.

Screens import this protocol, never the app: so imports run in one direction, and each use of the
app by a screen is listed here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from textual.signal import Signal
    from textual.theme import Theme
    from textual.worker import Worker

    from modeldeck.core.client.client import Client
    from modeldeck.core.schema.state import State
    from modeldeck.tui.chats.store import ChatStore
    from modeldeck.tui.dashboard.column_store import ColumnStore
    from modeldeck.tui.dashboard.fleet import FleetMachine
    from modeldeck.tui.dashboard.questions import Question
    from modeldeck.tui.dashboard.widgets.notice import NoticeMessage, Severity
    from modeldeck.tui.dashboard.widgets.prompt import QuestionBody
    from modeldeck.tui.remote.core_link import CoreLink
    from modeldeck.tui.text.format import Glyphs

T = TypeVar("T")
WidgetT = TypeVar("WidgetT")


class DashboardInterface(Protocol):
    """The app as its screens and dialogs see it."""

    glyphs: Glyphs
    """Characters that this terminal can show."""
    columns: ColumnStore
    """The columns that the person chose for each view."""
    messages: deque[NoticeMessage]
    """Notices so far, the newest last."""
    stations: tuple[FleetMachine, ...]
    """The machines of this dashboard."""
    is_demo: bool
    """Whether the core is that of the demo, whose hub has few models."""
    theme_changed_signal: Signal[Theme]
    """Published after another theme was chosen."""

    @property
    def current(self) -> str:
        """Name of the screen in front."""

    @current.setter
    def current(self, name: str) -> None: ...

    @property
    def state(self) -> State | None:
        """The newest State of the core that is shown; None before the first."""

    @property
    def chats(self) -> ChatStore:
        """Conversations of this person, on this machine."""

    @property
    def link(self) -> CoreLink:
        """Link to the core that is shown."""

    @property
    def station(self) -> FleetMachine:
        """The machine that is shown."""

    @property
    def theme_variables(self) -> dict[str, str]:
        """Colours of the theme, by variable name."""

    def refuses_to_load(self, *, loaded: bool) -> bool:
        """Whether a question to a model is refused, as it would load the model; says so."""

    def key_of(self, name: str) -> str:
        """The key of a command such as `catalog.download`, as the user has it."""

    def keys_changed(self) -> None:
        """Draw the footer again, with the keys that apply now."""

    def perform(
        self,
        doing: Callable[[Client], Awaitable[T]],
        done: Callable[[T], str] | None = None,
        *,
        group: str = "",
    ) -> Worker[None]:
        """Run `doing` in a worker; an error becomes a notice, and so does the receipt from `done`.

        Within a `group`, a new worker cancels the one before.
        """

    def say(
        self,
        text: str,
        severity: Severity = "note",
        *,
        about: str = ...,
        details: str = ...,
        stays: bool = ...,
    ) -> None:
        """Show a message.

        `about` is the id of what it is about: a later `done` about the same thing mends an error.
        `details` is shown by the Log instead of the text. With `stays` it is shown again
        after others, until a command changes something.
        """

    def hint(self, text: str) -> None:
        """Show what can be written next in place of the message; empty shows the message again."""

    async def confirm(
        self,
        lines: Sequence[str],
        verb: str,
        keep: str,
        *,
        cancelled: str = ...,
        subject: Callable[[State], bool] | None = ...,
    ) -> bool:
        """Ask yes or no; True when the user says `verb`. Call from a worker.

        `keep` is what `n` does. The first line is the title; those that begin with `! ` never
        scroll away. `cancelled` is said when something else than a key cancels the question, such
        as `subject` once it says that what it is about is gone.
        """

    async def ask(self, label: str, value: str = "", hint: str = "") -> str | None:
        """Ask for one line of text; None when cancelled. Call from a worker."""

    async def ask_question(
        self, question: Question, body: QuestionBody | None = None
    ) -> str | None:
        """Ask a question of any kind; None when cancelled, or when another one is shown.

        `body` takes the place of the list for kinds of their own. Call from a worker.
        """

    @property
    def question(self) -> Question | None:
        """The question that is shown; None without one."""

    def undo_in_core(self) -> None:
        """Undo the last removal or cancel in the core."""

    def suspend(self) -> AbstractContextManager[None]:
        """Give the terminal to another program."""

    def batch_update(self) -> AbstractContextManager[None]:
        """Draw nothing until the block ends."""

    def action_help(self) -> None:
        """Show every key."""

    def action_show(self, name: str) -> None:
        """Bring a screen to the front."""

    def query_one(self, selector: type[WidgetT]) -> WidgetT:
        """The widget of this type."""

    def go(self, at: int) -> None:
        """Show another machine, by its place in `stations`."""

    def reach_all(self) -> None:
        """Connect to all machines that have not been connected to yet."""

    def again(self, at: int) -> None:
        """Reconnect to the core of a machine, unless it answers."""
