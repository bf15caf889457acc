"""Messages of the dashboard: how long each is shown, and which errors are unseen. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from modeldeck.core.errors import Conflict, DeckError
from modeldeck.tui.dashboard.widgets.notice import LONG, NoticeMessage, Severity

KEPT = 500
"""Number of messages kept for the Log screen."""
SHOWN_S = {"done": 8.0, "note": 8.0, "refused": 8.0, "error": 30.0}
"""Seconds that a message is shown, by severity."""


def severity_of(error: DeckError) -> Severity:
    """How an error of an action is shown: where the action does not apply now, nothing failed.

    >>> severity_of(Conflict("tiny is not loaded.")), severity_of(DeckError("It broke."))
    ('refused', 'error')
    """
    return "refused" if isinstance(error, Conflict) else "error"


class MessageList:
    """The messages so far, the one that is shown, and the errors that were not seen in the Log."""

    def __init__(self) -> None:
        self.all: deque[NoticeMessage] = deque(maxlen=KEPT)
        """Messages so far, the newest last."""
        self.shown: NoticeMessage | None = None
        """The message above the footer."""
        self._welcome: NoticeMessage | None = None
        """Comes back once another message is over, until `end_welcome`."""
        self._until = 0.0
        self._unseen: deque[NoticeMessage] = deque(maxlen=KEPT)

    @property
    def unseen(self) -> int:
        """Number of errors that were neither seen in the Log nor mended."""
        return len(self._unseen)

    def add(
        self, message: NoticeMessage, now: float, *, seen: bool = False, hidden: bool = False
    ) -> None:
        """Show a message from `now` (seconds) on.

        Args:
            message: The message.
            now: Time in seconds.
            seen: The Log, which lists it, is in front.
            hidden: A question covers it: its time begins with `reveal`.
        """
        self.all.append(message)
        self.shown = message
        if message.stays:
            self._welcome = message
        self._until = math.inf
        if not hidden:
            self.reveal(now)
        left = _not_mended(self._unseen, message)
        if message.severity == "error" and not seen:
            left.append(message)
        self._unseen = deque(left, maxlen=KEPT)

    def reveal(self, now: float) -> None:
        """Begin the time of a message that was hidden."""
        if self.shown is not None and self._until == math.inf:
            self._until = now + SHOWN_S[self.shown.severity]

    def fade(self, now: float) -> None:
        """Hide the message once its time is over."""
        if self.shown is not None and not self.shown.stays and now >= self._until:
            self.shown = self._welcome

    def hide(self) -> None:
        """Hide the message."""
        if self.shown is self._welcome:
            self._welcome = None
        self.shown = self._welcome

    def end_welcome(self) -> None:
        """Hide the message that stays until now, for good."""
        if self.shown is self._welcome:
            self.shown = None
        self._welcome = None

    def leave_view(self) -> None:
        """Hide an error or a refusal, which was about the view before."""
        if self.shown is not None and self.shown.severity in LONG:
            self.shown = self._welcome

    def see(self) -> None:
        """Count all errors as seen."""
        self._unseen.clear()


def _not_mended(errors: Iterable[NoticeMessage], newer: NoticeMessage) -> list[NoticeMessage]:
    """Errors that a newer message does not mend: good news of a thing ends its errors."""
    mended = newer.about if newer.severity == "done" else ""
    return [error for error in errors if not mended or error.about != mended]
