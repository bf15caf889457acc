"""The terminal that the dashboard is drawn on, which may go away at any time.

Textual 8.2 writes in a thread that dies with the terminal (EIO), and what is written afterwards
fills a queue that nobody empties: leaving then waits for ever. It reads in a thread that finds the
end of input again and again, which takes a whole processor. Here what cannot be written is dropped,
and the loss is told by the signal that a terminal's programs get for it, where no kernel sends it.

It also takes the terminal's size in a signal handler that the next signal interrupts: of two sizes
in quick succession the older one may be told last, and stays. Here the loop takes it, in order.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
from typing import IO, TYPE_CHECKING, Any

from textual import events
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size

if TYPE_CHECKING:
    from textual.app import App


def hang_up() -> None:
    """Tell this process that its terminal is gone."""
    os.kill(os.getpid(), signal.SIGHUP)


def watch(terminal: int) -> None:
    """Return when the terminal behind this file descriptor is gone, and tell it."""
    poll = select.poll()
    poll.register(terminal, 0)  # asks for nothing: a hang-up is told all the same
    if any(event & select.POLLHUP for _, event in poll.poll()):
        hang_up()


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
            hang_up()


class TerminalDriver(LinuxDriver):
    """Textual's driver on a terminal that may be lost."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        self._file: Any = _Output(self._file)

    def write(self, data: str) -> None:
        """Send to the terminal; nothing where it is lent to another program, or given back.

        Nobody empties the queue then: once it is full, the loop would stand still for ever.
        """
        if self._writer_thread is None or self._writer_thread.is_alive():
            super().write(data)

    def start_application_mode(self) -> None:
        """Take the terminal, and watch that it stays."""
        super().start_application_mode()  # type: ignore[no-untyped-call]  # Textual leaves it untyped
        threading.Thread(target=watch, args=(self.fileno,), daemon=True).start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, self._resized)

    def _resized(self) -> None:
        if not self._in_band_window_resize:
            size = Size(*self._get_terminal_size())
            self._app.post_message(events.Resize(size, size))
