"""The terminal that the dashboard is drawn on, which may go away at any time.

Textual 8.2 writes in a thread that dies with the terminal (EIO), and what is written afterwards
fills a queue that nobody empties: leaving then waits for ever. It reads in a thread that finds the
end of input again and again, which takes a whole processor. Here what cannot be written is dropped,
reading ends, and the loss is told by the signal that a terminal's programs get for it, where no
kernel sends it. A program that has not ended a while after that is ended.

A kernel that hangs a terminal up sends SIGHUP and SIGCONT. Textual takes SIGCONT for the end of a
suspension and starts reading again, also while the app is being left: that thread is then never
ended. Here only a suspension that there was is ended by it.

It also takes the terminal's size in a signal handler that the next signal interrupts: of two sizes
in quick succession the older one may be told last, and stays. Here the loop takes it, in order.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from textual import events
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size

if TYPE_CHECKING:
    from textual.app import App


def hang_up() -> None:
    """Tell this process that its terminal is gone."""
    os.kill(os.getpid(), signal.SIGHUP)


END_S = 20.0
"""For the program to end after its terminal is gone: it parts from machines and ends the demo."""


def watch(terminal: int, lost: Callable[[], object] = lambda: None) -> None:
    """Return when the terminal behind this file descriptor is gone; call `lost`, send SIGHUP."""
    poll = select.poll()
    poll.register(terminal, 0)  # asks for nothing: a hang-up is told all the same
    if any(event & select.POLLHUP for _, event in poll.poll()):
        hang_up()
        lost()


class _SafeOutput:
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
        self._file: Any = _SafeOutput(self._file)
        self._watching: threading.Thread | None = None
        self._is_lost = False

    def write(self, data: str) -> None:
        """Send to the terminal; nothing where it is lent to another program, or given back.

        Nobody empties the queue then: once it is full, the loop would stand still for ever.
        """
        if self._writer_thread is not None and self._writer_thread.is_alive():
            super().write(data)

    def start_application_mode(self) -> None:
        """Take the terminal, and watch that it stays."""
        super().start_application_mode()  # type: ignore[no-untyped-call]  # Textual leaves it untyped
        if self._watching is None:
            self._watching = threading.Thread(
                target=watch, args=(self.fileno, self.lost), daemon=True
            )
            self._watching.start()
        if self._is_lost:
            self.exit_event.set()  # `disable_input` may have cleared it
        asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, self._resized)

    def lost(self) -> None:
        """The terminal is gone: the thread that reads ends. Called in a thread."""
        self._is_lost = True
        self.exit_event.set()

    def disable_input(self) -> None:
        """Read no more. The thread has ended on return, also where the terminal is gone."""
        super().disable_input()
        if self._key_thread is not None:
            self._key_thread.join()

    def _sigcont_application(self, *_: object) -> None:
        """End a suspension by SIGTSTP. SIGCONT also comes with a hang-up, and from anybody."""
        if self._must_signal_resume:
            super()._sigcont_application()

    def _resized(self) -> None:
        if not self._in_band_window_resize:
            size = Size(*self._get_terminal_size())
            self._app.post_message(events.Resize(size, size))


class ProgramDriver(TerminalDriver):
    """The driver of a process that is nothing without its terminal, and ends with it."""

    def lost(self) -> None:
        """Give the program time to end, then end it.

        What hangs may be the event loop itself, or a thread that the end of Python waits for, so
        nothing is cleaned up then. Processes that were started here end with their standard input.
        """
        super().lost()
        time.sleep(END_S)
        os._exit(128 + signal.SIGHUP)
