"""`NewsDisplay`: says what happened in the core, and to the connection to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from modeldeck.core.config.config import Tui
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.message_display import MessageDisplay
from modeldeck.tui.remote.core_link import LinkState, LinkStatus

if TYPE_CHECKING:
    from modeldeck.core.schema.state import State


class NewsDisplay:
    """Says by messages, and by notifications of the terminal, what changed between two States."""

    def __init__(self, messages: MessageDisplay, settings: Tui, key_of: KeyOf) -> None:
        self._messages = messages
        self._settings = settings
        self._key_of = key_of

    def tell(self, before: State | None, now: State, write: Callable[[str], None]) -> None:
        """Say what happened between two States; `write` sends a sequence to the terminal."""
        # Imported late: the first frame is drawn without them.
        from modeldeck.tui.dashboard.notifications import news
        from modeldeck.tui.text.terminal_notification import ended, sequence

        for each in news(before, now, self._key_of):
            self._messages.say(each.text, each.severity, about=each.about)
        for text in ended(before, now, self._settings.notify_after_s):
            if sent := sequence(text, self._settings.notify, os.environ):
                write(sent)

    def tell_link(self, before: LinkStatus, now: LinkStatus) -> None:
        """Say that the connection to the core is lost, or there again."""
        if before.state is now.state:
            return
        if now.error is not None:
            self._messages.say(str(now.error), "error")
        elif before.state is LinkState.LOST and now.state is LinkState.LIVE:
            self._messages.say("The core answers again.", "done")
