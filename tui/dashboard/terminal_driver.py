"""Textual's driver for a terminal that may be lost at any time.

Textual 8.2 writes in a thread that dies with the terminal (EIO); later output fills a queue that no
thread empties, and leaving the app blocks forever. Its reading thread finds the end of input again
and again, and takes a whole processor. This driver drops output that cannot be written, ends
reading, and sends SIGHUP to the process where the kernel does not. `ProgramDriver` ends a process
that is still running a while after that.

A kernel that hangs up a terminal sends SIGHUP and SIGCONT. Textual takes SIGCONT for the end of a
suspension and starts reading again, even while the app ends; that thread then never ends. Here
SIGCONT only ends a real suspension.

Textual takes `esc` and a key that it reads together, as on a busy machine, for a key with alt, and
drops the alt of most keys: the `esc` would be lost. Here both are told.

Textual also reads the terminal's size in a signal handler, which the next signal interrupts: of two
sizes in quick succession the older one may win. Here the event loop reads it, in order.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any

from textual import events
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size

if TYPE_CHECKING:
    from textual.app import App


def hang_up() -> None:
    """Send SIGHUP to this process: its terminal is gone."""
    os.kill(os.getpid(), signal.SIGHUP)


END_S = 20.0
"""Seconds for the program to end after its terminal is gone: it leaves cores, or ends the demo."""


def watch(terminal: int, lost: Callable[[], object] = lambda: None) -> None:
    """Wait until the terminal of this file descriptor is gone; then send SIGHUP and call `lost`."""
    poll = select.poll()
    poll.register(terminal, 0)  # no events: a hang-up is always reported
    if any(event & select.POLLHUP for _, event in poll.poll()):
        hang_up()
        lost()


class _SafeOutput:
    """Output stream of a terminal that drops output after an error instead of raising it."""

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
        """Send to the terminal; drops the data while another program has the terminal.

        No thread empties the queue then, and a full queue would block the event loop forever.
        """
        if self._writer_thread is not None and self._writer_thread.is_alive():
            super().write(data)

    def start_application_mode(self) -> None:
        """Take over the terminal, and watch for its loss."""
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
        """End the reading thread: the terminal is gone. Called in a thread."""
        self._is_lost = True
        self.exit_event.set()

    def disable_input(self) -> None:
        """Stop reading, and wait for the reading thread, also where the terminal is gone."""
        super().disable_input()
        if self._key_thread is not None:
            self._key_thread.join()

    def _sigcont_application(self, *_: object) -> None:
        """End a suspension by SIGTSTP; other SIGCONT signals, as of a hang-up, are ignored."""
        if self._must_signal_resume:
            super()._sigcont_application()

    def _resized(self) -> None:
        if not self._in_band_window_resize:
            size = Size(*self._get_terminal_size())
            self._app.post_message(events.Resize(size, size))


class ProgramDriver(TerminalDriver):
    """Driver of a process that ends when its terminal is lost."""

    def lost(self) -> None:
        """Give the program END_S seconds to end, then end the process without cleaning up.

        The event loop may hang, or a thread that Python waits for at its end. Child processes end
        with their standard input.
        """
        super().lost()
        time.sleep(END_S)
        os._exit(128 + signal.SIGHUP)


_keys_of = XTermParser._sequence_to_key_events

INTRODUCERS = "[O"
"""Characters behind `esc` with which the sequence of one key may begin."""


def _keys_after_escape(
    parser: XTermParser, sequence: str, alt: bool = False
) -> Iterable[events.Key]:
    """Keys of a sequence; `alt` is set where `esc` stands before it.

    No command has a letter with alt, so that is `esc` and the letter; alt+enter is a key, and the
    sequences of alt+b and alt+f are those of words that some terminals send for arrows. A letter is
    told at once, as Textual makes `^` of an `esc` that another one follows.
    """
    if (alt and sequence in ("\r", "\n")) or sequence in ("\x1b\r", "\x1b\n"):
        yield events.Key("alt+enter", None)
        return
    found = list(_keys_of(parser, sequence))
    is_pair = len(sequence) == 2 and sequence[1] not in INTRODUCERS
    if is_pair and (not found or any(key.is_printable for key in found)):  # £ for esc and 3
        alt, found = True, list(_keys_of(parser, sequence[1]))
    if alt:
        yield events.Key("escape", "\x1b")
    yield from found


XTermParser._sequence_to_key_events = _keys_after_escape  # type: ignore[method-assign, assignment] # Textual has no hook
