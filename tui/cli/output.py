"""Output of the command line: for a terminal, a pipe, or a program that reads JSON.

Results go to standard output, notes and errors to standard error. On a terminal a `ProgressLine` is
one line that is redrawn in place; elsewhere a plain line is printed when its text changes.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import click
import msgspec

from modeldeck.core.errors import DeckError, InvalidRequest
from modeldeck.core.schema.errors import to_info
from modeldeck.tui.text import format as fmt

WIDTH = 80
"""Columns where there is no terminal to ask."""
WIDEST = 120
"""Columns that a page uses at most: longer lines are hard to read across."""

_PLAIN = str.maketrans({"—": "-", "…": "~"})
"""Replacements in our own lines for terminals without Unicode."""


_STYLE = re.compile(r"(\x1b\[[0-9;]*m)")
"""Sequences that style text (ECMA-48, SGR)."""


def shown(text: str) -> str:
    """The text without any sequence or control character but line breaks, tabs and styles.

    Names, errors and answers come from other machines, and each command builds its lines of them.
    """
    if text.isprintable() and text.isascii():
        return text
    parts = enumerate(_STYLE.split(text))
    return "".join(part if at % 2 else fmt.clean(part, lines=True) for at, part in parts)


def json_line(value: Any) -> str:
    """Encode a JSON document on one line, without control characters.

    JSON escapes the control characters of ASCII (RFC 8259, section 7); DEL and those of Latin-1,
    which some terminals take for the start of a sequence, are escaped here.
    """
    text = msgspec.json.encode(value).decode()
    return re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


class Output:
    """Output of one command. `json`: one document per result on standard output, nothing else."""

    def __init__(self, *, json: bool = False, environ: Mapping[str, str] = os.environ) -> None:
        self.json = json
        self.terminal = sys.stdout.isatty() and environ.get("TERM", "") != "dumb"
        self.signs = fmt.glyphs(sys.stdout.encoding, environ)
        self.width = (
            min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDEST) if self.terminal else WIDTH
        )
        self.indent = ""
        """Stands before every line for a person."""
        self._about = ""
        """The machine that results are of, where there are several."""
        self._fresh = True
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        self._colour = self.terminal and not environ.get("NO_COLOR")

    @property
    def room(self) -> int:
        """Columns that a line may take."""
        return self.width - len(self.indent)

    def line(self, text: str = "") -> None:
        """One line for a person; nothing when a program reads."""
        if not self.json:
            before = self.indent if self._fresh and text else ""
            self._write(f"{before}{shown(text)}\n")
            self._fresh = True

    def _write(self, text: str) -> None:
        """Send text to standard output at once, in signs that it can show."""
        click.echo(text.translate(_PLAIN) if self.signs is fmt.ASCII else text, nl=False)
        sys.stdout.flush()

    def lines(self, lines: Sequence[str]) -> None:
        """Lines for a person, the first of them a heading."""
        for number, text in enumerate(lines):
            self.line(self.dim(text) if number == 0 else text)

    def piece(self, text: str) -> None:
        """A piece of an answer, at once and without a line break."""
        if text and not self.json:
            before = self.indent if self._fresh else ""
            self._fresh = text.endswith("\n")
            inner = shown(text).removesuffix("\n").replace("\n", "\n" + self.indent)
            self._write(before + inner + ("\n" if self._fresh else ""))

    def redraw(self, text: str) -> None:
        """Put the text on the current line of a terminal, instead of what stands there."""
        words = self.indent + fmt.cut(fmt.clean(text), self.room - 1) if text else ""
        self._write(f"\r{words}\x1b[K")

    def record(self, value: Any) -> None:
        """A result for a program: one JSON document on one line."""
        if self.json:
            whole = {"machine": self._about, "answer": value} if self._about else value
            click.echo(json_line(whole))

    @contextmanager
    def about(self, machine: str) -> Iterator[None]:
        """What is said in the block is of this machine."""
        before, self._about = self._about, machine
        self.line(self.bold(machine))
        inside, self.indent = self.indent, f"{self.indent}  "
        try:
            yield
        finally:
            self._about, self.indent = before, inside

    def failed(self, error: DeckError) -> None:
        """Print the error of one machine among several."""
        if self.json:
            whole = {"machine": self._about, "error": to_info(error)}
            click.echo(json_line(whole), err=True)
        else:
            sign = self._style(self.signs.failed, fg="red")
            self.note(f"{self.indent}{sign} {error}")

    def note(self, text: str) -> None:
        """A line beside the result, on standard error."""
        click.echo(shown(text), err=True)

    def done(self, text: str) -> None:
        """Print the result of a finished command, with a check mark."""
        self.line(f"{self._style(self.signs.done, fg='green')} {text}")

    def copy(self, text: bytes) -> None:
        """Put a text on the clipboard, where the terminal takes it (OSC 52)."""
        self._write(f"\x1b]52;c;{base64.b64encode(text).decode()}\a")

    def notify(self, words: str, seconds: float) -> None:
        """Send a desktop notification for work that took this long.

        As the settings have it, and only on a terminal.
        """
        if not self.terminal:
            return
        from modeldeck.core.config import config_file
        from modeldeck.core.config.paths import locate
        from modeldeck.tui.text.terminal_notification import sequence

        settings, _ = config_file.load(locate().config_file)
        if seconds >= settings.tui.notify_after_s:
            self._write(sequence(words, settings.tui.notify, os.environ))

    def confirm(self, question: str) -> bool:
        """Ask at the terminal for a yes. Raises InvalidRequest without a terminal."""
        if self.json or not sys.stdin.isatty():
            raise InvalidRequest(
                "Not a terminal: the question cannot be answered.",
                "Say --yes to go on without a question.",
            )
        return click.confirm(question, err=True)

    def bold(self, text: str) -> str:
        """The text, heavier where the terminal can."""
        return self._style(text, bold=True)

    def dim(self, text: str) -> str:
        """The text, fainter where the terminal can."""
        return self._style(text, dim=True)

    def _style(self, text: str, **style: Any) -> str:
        return click.style(text, **style) if self._colour else text

    def progress(self) -> ProgressLine:
        """A line that changes. Use as a context manager."""
        return ProgressLine(self)


class ProgressLine:
    """One line that changes; gone from a terminal when the block ends."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._shown = ""
        self._key: object = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown and self._out.terminal:
            self._out.redraw("")

    def show(self, text: str, words: str, key: object) -> None:
        """Show how it stands: `text` in place on a terminal, else `words` when `key` is new."""
        if self._out.json:
            return
        if self._out.terminal:
            if text != self._shown:
                self._out.redraw(text)
                self._shown = text
        elif key != self._key:
            self._out.line(words)
            self._key = key
