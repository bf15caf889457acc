"""An app that goes on when work beside its screen fails."""

from __future__ import annotations

from textual.app import App
from textual.worker import WorkerFailed

from modeldeck.core.concurrency import unexpected
from modeldeck.core.errors import DeckError


class FailuresTold(App[None]):
    """An app whose workers may fail: that is told, and the app goes on.

    Textual ends the app. What is overridden is private to it, so tests hold it in place.
    """

    goes_on = False
    """Whether a worker may fail: not before the app stands, when nothing could be told."""

    def tell_failure(self, error: DeckError) -> None:
        """Show what went wrong."""
        raise NotImplementedError

    def _handle_exception(self, error: Exception) -> None:
        if not isinstance(error, WorkerFailed) or not self.goes_on:
            super()._handle_exception(error)
            return
        if self._exception is None:  # `run_test` raises it in the end: to a test it is a failure
            self._exception = error
        self.tell_failure(unexpected(error.error))

    def _fatal_error(self) -> None:
        """End the app with a traceback, without the values of variables: some are secret."""
        from rich.segment import Segments
        from rich.traceback import Traceback

        traceback = Traceback(show_locals=False, width=None)
        self._exit_renderables.append(
            Segments(self.console.render(traceback, self.console.options))
        )
        self._close_messages_no_wait()
