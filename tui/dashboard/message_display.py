"""`MessageDisplay`: shows messages above the footer, and counts unseen errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from modeldeck.tui.dashboard.messages import MessageList
from modeldeck.tui.dashboard.widgets.notice import Notice, NoticeMessage, Severity
from modeldeck.tui.dashboard.widgets.status_bar import StatusBar

if TYPE_CHECKING:
    from modeldeck.tui.dashboard.frame import DashboardFrame


class MessageDisplay:
    """Shows messages in the frame, which fade, and the number of unseen errors."""

    def __init__(
        self,
        frame: DashboardFrame,
        *,
        clock: Callable[[], float],
        is_hidden: Callable[[], bool],
        is_log_in_front: Callable[[], bool],
    ) -> None:
        """Create the display of no messages.

        Args:
            frame: Where they are shown.
            clock: Time in seconds by which they fade.
            is_hidden: Whether a question covers them.
            is_log_in_front: Whether the Log is in front, which lists each error.
        """
        self._frame = frame
        self._clock = clock
        self._is_hidden = is_hidden
        self._is_log_in_front = is_log_in_front
        self.list = MessageList()
        """The messages so far."""

    def say(
        self,
        text: str,
        severity: Severity = "note",
        *,
        about: str = "",
        details: str = "",
        stays: bool = False,
    ) -> None:
        """Show a message, and keep it for the Log screen.

        Args:
            text: What happened, and what to do.
            severity: `error` is shown longer, and counted until it is seen in the Log; `refused`,
                of a key that does not apply now, is not.
            about: Id of what it is about; `done` about the same thing mends its errors.
            details: What the Log shows instead.
            stays: Show it again after others, until a command changes something.
        """
        now = datetime.now()
        message = NoticeMessage(
            text=text,
            severity=severity,
            at=now.strftime("%H:%M:%S"),
            stamp=now.timestamp(),
            about=about,
            details=details,
            stays=stays,
        )
        self.list.add(
            message, self._clock(), seen=self._is_log_in_front(), hidden=self._is_hidden()
        )
        self.draw()

    def hint(self, text: str) -> None:
        """Show what can be written next in place of the message; empty shows the message again."""
        for notice in self._frame.parts(Notice):
            notice.hint = text

    def draw(self) -> None:
        """Show the message that is current, and the number of unseen errors."""
        if not self._frame.is_mounted:
            return
        for notice in self._frame.parts(Notice):  # gone while the frame is removed
            notice.message = self.list.shown
        for bar in self._frame.parts(StatusBar):
            bar.failures = self.list.unseen

    def fade(self) -> None:
        """Hide the message once its time is over."""
        self.list.fade(self._clock())
        self.draw()

    def hide(self) -> None:
        """Hide the message."""
        self.list.hide()
        self.draw()

    def end_welcome(self) -> None:
        """Hide the message that stays until a command changes something."""
        self.list.end_welcome()
        self.draw()

    def leave_view(self, *, for_log: bool) -> None:
        """Another view came to the front: hide an error; in the Log all of them are seen."""
        self.list.leave_view()
        if for_log:
            self.list.see()
        self.draw()

    def reveal(self) -> None:
        """Give the message its full time that a question hid."""
        self.list.reveal(self._clock())
