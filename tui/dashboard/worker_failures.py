"""An app that reports the errors of its workers and keeps running."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import App
from textual.worker import WorkerFailed

from modeldeck.core.concurrency import unexpected
from modeldeck.core.errors import DeckError


class WorkerFailureApp(App[None]):
    """Reports an unexpected error of a worker instead of ending, as Textual does.

    Overrides private members of Textual: see `modeldeck.tui.dashboard.textual_private`.
    """

    report_failure: Callable[[DeckError], None] | None = None
    """Shows the error; None while the app cannot show one yet, and an error ends it."""

    def _handle_exception(self, error: Exception) -> None:
        if not isinstance(error, WorkerFailed) or self.report_failure is None:
            super()._handle_exception(error)
            return
        if self._exception is None:  # `run_test` raises it at the end, so that a test fails
            self._exception = error
        self.report_failure(unexpected(error.error))

    def _fatal_error(self) -> None:
        """End the app with a traceback without the values of variables, as some are secret."""
        from rich.segment import Segments
        from rich.traceback import Traceback

        traceback = Traceback(show_locals=False, width=None)
        self._exit_renderables.append(
            Segments(self.console.render(traceback, self.console.options))
        )
        self._close_messages_no_wait()
