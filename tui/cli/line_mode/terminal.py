"""The terminal of the line mode: prompts by prompt_toolkit, and ctrl-C while work goes on.

While an answer comes the terminal is in raw mode without echo: ctrl-C is read as a key, so that
ssh and the loop of asyncio get no signal, and what is typed is kept for the next prompt.
No alternate screen and no mouse: all output stays in the scrollback, to be selected and copied.
"""

from __future__ import annotations

import asyncio
import os
import sys
import termios
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.data_structures import Size
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_input
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.utils import is_dumb_terminal

from modeldeck.tui.cli.line_mode.commands import is_open
from modeldeck.tui.cli.line_mode.completion import LineCompleter

T = TypeVar("T")

PROMPT, MORE = ">>> ", "... "
MENU_LINES = 5
"""For completions below the prompt."""


class LineTerminal:
    """Reads lines, and runs work that ctrl-C stops."""

    def __init__(self, prompts: Sequence[str] = ()) -> None:
        """`prompts` are earlier questions, the newest first; what is written here is not stored."""
        self.completer = LineCompleter()
        self._input = create_input()
        self._output = None if is_dumb_terminal() else _output()
        """None lets prompt_toolkit read plain lines."""
        self._session: PromptSession[str] = PromptSession(
            input=self._input,
            output=self._output,
            history=InMemoryHistory(list(reversed(prompts))),
            completer=self.completer,
            complete_while_typing=False,
            complete_in_thread=True,
            reserve_space_for_menu=MENU_LINES,
            enable_suspend=True,
            multiline=Condition(self._is_open),
            prompt_continuation=MORE,
        )

    def _is_open(self) -> bool:
        """Whether enter begins another line; a dumb terminal edits one at a time, see `read`."""
        return self._output is not None and is_open(get_app().current_buffer.text)

    async def read(self, default: str = "", prompt: str = PROMPT) -> str:
        """Read a line, or several between triple quotes.

        Raises EOFError for ctrl-D, and KeyboardInterrupt for ctrl-C on an empty line; on another
        line ctrl-C begins anew.
        """
        text = await self._line(prompt, default)
        while is_open(text):
            text += "\n" + await self._line(MORE)
        return text

    async def _line(self, prompt: str, default: str = "") -> str:
        while True:
            try:
                return await self._session.prompt_async(
                    prompt, default=default, handle_sigint=False
                )
            except KeyboardInterrupt:
                if not self._session.default_buffer.text:
                    raise
                default = ""

    async def confirm(self, question: str) -> bool:
        """Ask for a yes; ctrl-C means no. Raises EOFError for ctrl-D."""
        asking: PromptSession[str] = PromptSession(input=self._input, output=self._output)
        try:
            answer = await asking.prompt_async(f"{question} [y/N] ", handle_sigint=False)
        except KeyboardInterrupt:
            return False
        return answer.strip().lower() in ("y", "yes")

    async def stoppable(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do work; ctrl-C cancels it, and None is returned."""
        task = asyncio.ensure_future(work)
        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        with self._listening(stop):
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                if not stopped:  # the program ends: by a signal, or with its terminal
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    raise
                return None

    @contextmanager
    def _listening(self, stop: Callable[[], None]) -> Iterator[None]:
        """Call `stop` for ctrl-C, and at the end of the terminal; other keys are kept."""
        keys: list[KeyPress] = []

        def ready() -> None:
            for key in self._input.read_keys():
                if key.key == Keys.ControlC:
                    keys.clear()
                    stop()
                else:
                    keys.append(key)
            if self._input.closed:
                asyncio.get_running_loop().remove_reader(self._input.fileno())
                stop()

        with self._input.raw_mode(), self._input.attach(ready):
            try:
                yield
            finally:
                store_typeahead(self._input, keys)


def _output() -> Vt100_Output:
    """Standard output, without requests for the place of the cursor.

    Their answers come too late over a slow line, and then stand in the next prompt.
    """

    def size() -> Size:
        try:
            columns, rows = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            columns, rows = 0, 0
        return Size(rows=rows or 24, columns=columns or 80)

    return Vt100_Output(sys.stdout, size, term=os.environ.get("TERM"), enable_cpr=False)


@contextmanager
def quiet_terminal() -> Iterator[None]:
    """Standard input without echo and line editing, so that no key is lost before the first prompt.

    ctrl-C interrupts as usual.
    """
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    quiet = termios.tcgetattr(fd)
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(fd, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)
