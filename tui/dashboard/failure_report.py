"""`FailureReport`: says that the dashboard failed, and creates a view anew where it goes on so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from textual.app import App

from modeldeck.tui.dashboard.last_resort import FailureCounter, Step
from modeldeck.tui.dashboard.message_display import MessageDisplay


class FailureReport:
    """Shows failures as messages, and decides by their number what follows."""

    def __init__(
        self,
        app: App[None],
        messages: MessageDisplay,
        *,
        clock: Callable[[], float],
        log_key: Callable[[], str],
        dismiss_question: Callable[[], object],
        renew_view: Callable[[], Awaitable[None]],
        leave: Callable[[BaseException], None],
    ) -> None:
        """Create a report of no failures.

        Args:
            app: Runs the worker that creates a view anew.
            messages: Where failures are shown.
            clock: Time in seconds by which failures count together.
            log_key: The key of the Log, which shows the details.
            dismiss_question: Cancels the question that is shown.
            renew_view: Creates the view in front anew.
            leave: Ends the app where failures go on.
        """
        self._app = app
        self._messages = messages
        self._clock = clock
        self._log_key = log_key
        self._dismiss_question = dismiss_question
        self._renew_view = renew_view
        self._leave = leave
        self._counter = FailureCounter()

    def tell(self, error: BaseException, details: str) -> None:
        """Say that an error was not caught; after several the view in front is created anew.

        `details` is the traceback, for the Log.
        """
        self._dismiss_question()
        step = self._counter.failed(self._clock())
        if step is Step.LEAVE:
            self._leave(error)
            return
        self._messages.say(
            f"That key failed inside modeldeck ({type(error).__name__}). Nothing was lost;"
            f" {self._log_key()} shows the details.",
            "error",
            details=details,
        )
        if step is Step.RENEW:
            self._counter.renewing = True
            self._app.run_worker(self._renew(), group="renew", exclusive=True)

    async def _renew(self) -> None:
        try:
            await self._renew_view()
        finally:
            self._counter.renewing = False
