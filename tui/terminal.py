"""The terminal that the dashboard is drawn on, which may go away at any time.

Textual 8.2 writes in a thread that dies with the terminal (EIO), and what is written afterwards
fills a queue that nobody empties: leaving then waits for ever. Here what cannot be written is
dropped, and the loss is told once, by the signal that every other terminal program gets for it.
"""

from __future__ import annotations

import os
import signal
from typing import IO, TYPE_CHECKING, Any

from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App


class _Output:
    """A terminal's output, which never fails."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._is_lost = False

    def write(self, text: str) -> None:
        """Write a text, unless the terminal is gone."""
        self._try(self._file.write, text)

    def flush(self) -> None:
        """Send what was written."""
        self._try(self._file.flush)

    def fileno(self) -> int:
        """The terminal's file descriptor."""
        return self._file.fileno()

    def _try(self, act: Any, *words: str) -> None:
        if self._is_lost:
            return
        try:
            act(*words)
        except OSError:
            self._is_lost = True
            os.kill(os.getpid(), signal.SIGHUP)


class TerminalDriver(LinuxDriver):
    """Textual's driver on a terminal that may be lost."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        self._file: Any = _Output(self._file)
