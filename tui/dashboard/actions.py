"""`ActionRunner`: runs actions on the core in workers; receipts and errors become messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from textual.app import App
from textual.worker import Worker

from modeldeck.core.errors import DeckError, NotFound
from modeldeck.tui.dashboard.messages import severity_of

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import Undoable
    from modeldeck.tui.dashboard.message_display import MessageDisplay

T = TypeVar("T")


class ActionRunner:
    """Runs actions on the core that is shown."""

    def __init__(
        self, app: App[None], client: Callable[[], Client], messages: MessageDisplay
    ) -> None:
        """`client` returns that of the core that is shown; it may raise DeckError."""
        self._app = app
        self._client = client
        self._messages = messages

    def perform(
        self,
        doing: Callable[[Client], Awaitable[T]],
        done: Callable[[T], str] | None = None,
        *,
        group: str = "",
    ) -> Worker[None]:
        """Run an action in a worker; its receipt or error becomes a message, but an empty one.

        Within a `group`, a new worker cancels the one before.
        """

        async def work() -> None:
            try:
                answer = await doing(self._client())
            except DeckError as error:
                self._messages.say(str(error), severity_of(error))
            else:
                if done is not None and (words := done(answer)):
                    self._messages.say(words, "done")

        return self._app.run_worker(work, group=group or "verbs", exclusive=bool(group))

    def undo(self, undone: Callable[[], None]) -> None:
        """Undo the last removal or cancel that deleted no files; calls `undone` after it."""

        def receipt(done: Undoable | None) -> str:
            if done is None:
                return ""
            undone()
            return f"Undone: {done.undone or done.what}"

        async def undo(client: Client) -> Undoable | None:
            try:
                return await client.undo()
            except NotFound:
                self._messages.say("Nothing to undo.")
                return None

        self.perform(undo, receipt)
