"""Faults between a client and the hub, injected on purpose.

A fault is armed once and hits the next matching requests. All methods may be called from any
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["status", "answer", "reset", "truncate", "stall", "trickle", "flip"]

_INSTEAD: frozenset[Kind] = frozenset({"status", "answer"})
"""Kinds that take the place of the whole answer."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault, which hits `times` requests."""

    kind: Kind
    times: int = 1
    path: str = ""
    """Part of the request's path or of the file's name; empty for every request."""
    at: int = 0
    """Bytes of the body that go out first; for a flip, the offset in the file."""
    status: int = 503
    retry_after_s: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def fits(self, text: str, start: int, stop: int) -> bool:
        """Whether it matches the request that `text` describes, with this range as its body."""
        if self.times <= 0 or self.path not in text:
            return False
        if self.kind in _INSTEAD:
            return True
        return start <= self.at < stop if self.kind == "flip" else self.at < stop - start


class Faults:
    """The faults that are armed."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._armed: list[Fault] = []
        self._on_change = on_change
        self.round = 0
        """Counts `clear`; a stalled body goes on when this changes."""
        self.cuts = 0
        """Counts `cut`; the connection of a stalled body is reset when this changes."""

    def status(
        self, status: int, *, times: int = 1, path: str = "", retry_after_s: int | None = None
    ) -> None:
        """Answer the next requests with an error such as 429 or 503."""
        self._arm(
            Fault(kind="status", status=status, times=times, path=path, retry_after_s=retry_after_s)
        )

    def answer(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        times: int = 1,
        path: str = "",
    ) -> None:
        """Answer the next requests with this response, for any path."""
        given = tuple((headers or {}).items())
        self._arm(
            Fault(kind="answer", status=status, body=body, headers=given, times=times, path=path)
        )

    def reset(self, after_bytes: int = 0, *, times: int = 1, path: str = "") -> None:
        """Reset the connection of the next files after `after_bytes` of the body."""
        self._arm(Fault(kind="reset", at=after_bytes, times=times, path=path))

    def truncate(self, after_bytes: int = 0, *, times: int = 1, path: str = "") -> None:
        """Close the connection of the next files properly, but too early."""
        self._arm(Fault(kind="truncate", at=after_bytes, times=times, path=path))

    def stall(self, after_bytes: int = 0, *, times: int = 1, path: str = "") -> None:
        """Stop sending the next files after `after_bytes`, until the client leaves or `clear`."""
        self._arm(Fault(kind="stall", at=after_bytes, times=times, path=path))

    def trickle(self, after_bytes: int = 0, *, times: int = 1, path: str = "") -> None:
        """Send single bytes slowly in the next files after `after_bytes`, until `clear`."""
        self._arm(Fault(kind="trickle", at=after_bytes, times=times, path=path))

    def flip(self, offset: int, *, times: int = 1, path: str = "") -> None:
        """Invert the byte at an offset of the next files that are sent with it."""
        self._arm(Fault(kind="flip", at=offset, times=times, path=path))

    def cut(self) -> None:
        """Reset the connections of bodies that stall, or are on their way to it."""
        with self._lock:
            self.cuts += 1
        self._on_change()

    def clear(self) -> None:
        """Disarm everything, and let stalled bodies go on."""
        with self._lock:
            self._armed.clear()
            self.round += 1
        self._on_change()

    def _arm(self, fault: Fault) -> None:
        with self._lock:
            self._armed.append(fault)

    def take(self, text: str, start: int = 0, stop: int = 0) -> Fault | None:
        """Return the first armed fault that matches, and count one hit.

        Args:
            text: The request's path and the name of the file it asks for.
            start: First offset of the file's bytes that will be sent.
            stop: The offset after the last one; equal to `start` for what is not a file's content.
        """
        with self._lock:
            for fault in self._armed:
                if (fault.kind in _INSTEAD) == (stop == start) and fault.fits(text, start, stop):
                    fault.times -= 1
                    return fault
        return None
