"""The last resort: an app that survives its own errors, tells of them, and logs the traceback.

Textual ends the app with a traceback on the terminal when a key, a timer or a worker fails. Here
the error becomes a message, and the app goes on. Where errors follow one another, the view in front
is created anew; where they go on even so, the app ends, with the name of the log.

Overrides and replaces private members of Textual: see `modeldeck.tui.dashboard.textual_private`.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events
from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump
from textual.worker import WorkerFailed

if TYPE_CHECKING:
    from textual.actions import ActionParseResult
    from textual.dom import DOMNode

logger = logging.getLogger(__name__)

WINDOW_S = 5.0
"""Errors within this time count together."""
MOST = 3
"""Number of errors within it after which the view in front is created anew."""

RAISE = "MODELDECK_DEBUG_RAISE"
"""Environment variable that makes a command fail, for tests: its full name, `catalog.copy`."""


class Step(Enum):
    """What follows an error."""

    TELL = auto()
    """Only a message."""
    RENEW = auto()
    """The view in front is created anew as well."""
    LEAVE = auto()
    """The app ends."""


class FailureCounter:
    """Decides what follows an error, by the errors before it. Pure; time is handed in.

    >>> counter = FailureCounter()
    >>> [counter.failed(at).name for at in (0.0, 1.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0)]
    ['TELL', 'TELL', 'TELL', 'TELL', 'RENEW', 'TELL', 'TELL', 'LEAVE']
    """

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MOST)
        self._renewed_at: float | None = None
        self.renewing = False
        """Whether the view is being created anew; an error meanwhile ends the app."""

    def failed(self, now: float) -> Step:
        """Count an error at this time, in seconds."""
        self._times.append(now)
        if self.renewing:
            return Step.LEAVE
        if len(self._times) < MOST or now - self._times[0] > WINDOW_S:
            return Step.TELL
        self._times.clear()
        if self._renewed_at is not None and now - self._renewed_at <= WINDOW_S:
            return Step.LEAVE
        self._renewed_at = now
        return Step.RENEW


class LastResortApp(App[None]):
    """An app that goes on after an error of its own."""

    log_file: Path | None = None
    """Where the traceback is logged, to name it when the app ends; None where it is not."""
    survives = False
    """Whether an error can be shown; until then one ends the app."""

    show_failure: Callable[[BaseException, str], None] | None = None
    """Shows an error that was not caught, and its traceback; None where the log is enough."""

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Run an action; fails where a test asks for it by `MODELDECK_DEBUG_RAISE`."""
        if (wanted := os.environ.get(RAISE)) and isinstance(action, str):
            scope = getattr(default_namespace, "NAME", "app")
            if f"{scope}.{action.partition('(')[0]}" == wanted:
                raise KeyError(f"{RAISE}={wanted}")
        return await super().run_action(action, default_namespace, namespaces)

    def _handle_exception(self, error: Exception) -> None:
        if not self.survives:
            super()._handle_exception(error)
            return
        if self._exception is None:  # `run_test` raises it at the end, so that a test fails
            self._exception = error
        cause = error.error if isinstance(error, WorkerFailed) else error
        logger.error("unexpected failure in the dashboard", exc_info=cause)
        try:
            if self.show_failure is not None:
                self.show_failure(cause, details_of(cause))
        except Exception as failed:
            logger.exception("the failure could not be shown")
            self.leave_failed(failed)

    def leave_failed(self, error: BaseException) -> None:
        """End the app with exit code 1, and say where the traceback is."""
        self.survives = False
        self.exit(return_code=1, message=self._last_words(error))

    def _last_words(self, error: BaseException) -> str:
        where = f" Details: {self.log_file}" if self.log_file is not None else ""
        return f"The dashboard failed ({described(error)}). The core is not affected.{where}"

    def _fatal_error(self) -> None:
        """End the app without a traceback, which may hold secrets."""
        error = self._exception
        assert error is not None
        logger.error("the dashboard ends by an unexpected failure", exc_info=error)
        self._exit_renderables.append(self._last_words(error))
        self._close_messages_no_wait()


def described(error: BaseException) -> str:
    """Kind and words of an error on one line.

    >>> described(KeyError("x"))
    "KeyError: 'x'"
    """
    return "; ".join(traceback.format_exception_only(error)).strip().replace("\n", " ")


def details_of(error: BaseException) -> str:
    """The error, then its traceback without the values of variables, as some are secret."""
    return f"{described(error)}\n{''.join(traceback.format_exception(error))}"


_dispatch = MessagePump._dispatch_message


async def _dispatch_guarded(pump: MessagePump, message: Message) -> None:
    """Dispatch a message; an error ends the message only, not the pump with all that follows.

    A part that fails while it is created stays an error, as it would be half made.
    """
    try:
        await _dispatch(pump, message)
    except Exception as error:
        app = pump.app
        making = isinstance(message, events.Compose | events.Mount)
        if making or not (isinstance(app, LastResortApp) and app.survives):
            raise
        app._handle_exception(error)


MessagePump._dispatch_message = _dispatch_guarded  # type: ignore[method-assign, assignment] # Textual has no hook
