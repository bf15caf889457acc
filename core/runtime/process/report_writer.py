"""Writes the reports of an engine process to the core.

Each write wakes the core, which costs more than the report itself. So text of turns that follow
each other within milliseconds is written together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from typing import BinaryIO

from modeldeck.core.runtime.process.messages import EngineReport, TextPiece, frame

HOLD_S = 0.03
"""Seconds that text may wait for more of it: 33 additions a second read as a steady flow."""
MOST_HELD = 32
"""Reports that may wait: half of what the core reads at once."""


def may_wait(reports: Collection[EngineReport], shown: Collection[int]) -> bool:
    """Whether the reports of a turn may wait for those of the next. Pure.

    Only text may, and not the first of an answer.

    >>> may_wait([TextPiece(id=7, text="a")], {7}), may_wait([TextPiece(id=7, text="a")], set())
    (True, False)
    """
    return all(isinstance(report, TextPiece) and report.id in shown for report in reports)


class ReportWriter:
    """The output of an engine process. Several threads use it."""

    def __init__(self, output: BinaryIO) -> None:
        """Write to `output`."""
        self._output = output
        self._lock = threading.Lock()
        self._held: list[EngineReport] = []
        """Reports that wait, in order."""
        self._written_at = 0.0
        """When was last written, in seconds of the monotonic clock."""
        self._shown: set[int] = set()
        """Requests of which text was written, among those of the last turns."""

    def send_turn(self, reports: Sequence[EngineReport]) -> None:
        """Write the reports of a turn that others may follow at once; some may wait.

        The caller must not wait for anything then before it has called `flush`.
        """
        with self._lock:
            waits = may_wait(reports, self._shown)
            self._held += reports
            late = time.monotonic() - self._written_at >= HOLD_S
            if late or not waits or len(self._held) >= MOST_HELD:
                self._write()

    def send(self, *reports: EngineReport) -> None:
        """Write reports at once, after those that wait."""
        with self._lock:
            self._held += reports
            self._write()

    def flush(self) -> None:
        """Write what waits."""
        if self._held:
            with self._lock:
                self._write()

    def _write(self) -> None:
        held, self._held = self._held, []
        if not held:
            return
        for report in held:
            if isinstance(report, TextPiece):
                self._shown.add(report.id)
            else:
                self._shown.discard(report.id)
        self._output.write(b"".join(map(frame, held)))
        self._output.flush()
        self._written_at = time.monotonic()
