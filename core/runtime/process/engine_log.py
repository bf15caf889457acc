"""The log of an engine process, its stderr: levels of lines, and what they tell of its end."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from typing import Literal

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.platforms import llama_remedy
from modeldeck.core.storage.installation import this_installation

LogLevel = Literal["debug", "info", "warning", "error"]
TakeLine = Callable[[LogLevel, str], None]
"""Called with the level and the text of each line of the engine's log."""

LAST_LINES = 8
"""Log lines that go into an error."""

_LEVELS: dict[str, LogLevel] = {"7": "debug", "6": "info", "4": "warning", "3": "error"}
"""Marks at the beginning of a log line: the prefixes of sd-daemon(3)."""


def log_line(text: str) -> tuple[LogLevel, str]:
    """Level and text of a line on stderr. A line without a mark comes from a failing library.

    >>> log_line("<4>no chat template")
    ('warning', 'no chat template')
    >>> log_line("GGML_ASSERT(n > 0) failed")
    ('error', 'GGML_ASSERT(n > 0) failed')
    """
    match = re.match(r"<([3467])>", text)
    return (_LEVELS[match[1]], text[3:]) if match else ("error", text)


def last_lines(lines: Sequence[tuple[LogLevel, str]]) -> tuple[str, ...]:
    """The lines to show for a failure: the last warnings and errors, else the last lines."""
    bad = [text for level, text in lines if level in ("warning", "error") and text.strip()]
    return tuple((bad or [text for _, text in lines if text.strip()])[-LAST_LINES:])


_DEATHS = {
    signal.SIGKILL: (
        "was killed, most likely because the system ran out of memory",
        "Take a smaller context length or a smaller quantization, or unload another model.",
    ),
    signal.SIGABRT: (
        "gave up: the file or the options are not what its engine takes",
        "See the last lines of its log; download the model again if its file may be damaged.",
    ),
    signal.SIGSEGV: ("crashed", "See the last lines of its log; update the engine."),
    signal.SIGBUS: (
        "crashed: the model's file changed or ended while it was in use, or the disk failed",
        "Download the model again.",
    ),
}
_NO_MEMORY = re.compile(r"alloc|MemoryError|out of memory|Resource temporarily", re.IGNORECASE)


def death(code: int | None, lines: Sequence[tuple[LogLevel, str]]) -> EngineFailed:
    """The error for a process that ended by itself, from its exit code as asyncio gives it."""
    what, remedy = f"ended with code {code}", "See the last lines of its log."
    if any(_NO_MEMORY.search(text) for text in last_lines(lines)):
        what, remedy = f"got no memory and {what}", _DEATHS[signal.SIGKILL][1]
    if code is not None and code < 0:
        try:
            number = signal.Signals(-code)
            known = _DEATHS.get(number, (f"was ended by {number.name}", remedy))
            if number is signal.SIGILL:
                again = llama_remedy(this_installation(), rebuild=True)
                known = ("was built for another processor", again)
            what, remedy = f"{known[0]} ({number.name})", known[1]
        except ValueError:
            what = f"was ended by signal {-code}"
    return EngineFailed(f"The engine process {what}.", remedy, details=last_lines(lines))
