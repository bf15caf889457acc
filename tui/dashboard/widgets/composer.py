"""The composer of Chat: a text field that grows with its lines, sends, and stops answers.

`@` at the beginning of a word begins to name a file: the files that match stand above the field
until one is taken or `esc` is pressed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import events
from textual.message import Message
from textual.widgets import TextArea

from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.dashboard.widgets.footer import Entry
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

SCOPE = "composer"
DETACH_KEY = "ctrl+x"
FOLLOW_KEY = "ctrl+end"

COMMANDS = (
    Command(
        name="send",
        keys="enter",
        label="send",
        help="Send what is written.",
        priority=True,
        changes=False,
    ),
    Command(
        name="stop",
        keys="escape",
        label="stop",
        help="Stop the answer that comes; else leave the text, so that letters are keys.",
        action="app.back",
        changes=False,
    ),
    Command(
        name="line",
        keys="ctrl+j,shift+enter,alt+enter",
        label="new line",
        help="Begin a new line.",
        priority=True,
        changes=False,
    ),
    Command(
        name="attach",
        keys="at",
        label="attach",
        help="Name a file to attach; tab completes.",
        changes=False,
    ),
    Command(
        name="earlier",
        keys="up",
        label="earlier",
        help="In the first line: the question before, of all chats; down comes back.",
        action="cursor_up",
        changes=False,
    ),
    Command(
        name="editor",
        keys="ctrl+g",
        label="editor",
        help="Write in $EDITOR.",
        footer=False,
        priority=True,
        changes=False,
    ),
    Command(
        name="detach",
        keys=DETACH_KEY,
        label="remove file",
        help="Remove the last file that was attached; cut what is selected where there is none.",
        footer=False,
        priority=True,
        changes=False,
    ),
    Command(
        name="page_up",
        keys="pageup",
        label="page up",
        help="Scroll the conversation half a page up.",
        action="turn(-0.5)",
        footer=False,
        priority=True,
        changes=False,
    ),
    Command(
        name="page_down",
        keys="pagedown",
        label="page down",
        help="Scroll the conversation half a page down.",
        action="turn(0.5)",
        footer=False,
        priority=True,
        changes=False,
    ),
    Command(
        name="line_up",
        keys="ctrl+up",
        label="line up",
        help="Scroll the conversation up by a line.",
        action="scroll_turns(-1)",
        footer=False,
        changes=False,
    ),
    Command(
        name="line_down",
        keys="ctrl+down",
        label="line down",
        help="Scroll the conversation down by a line.",
        action="scroll_turns(1)",
        footer=False,
        changes=False,
    ),
    Command(
        name="follow",
        keys=FOLLOW_KEY,
        label="follow",
        help="Go to the end of the conversation, and follow the answer.",
        footer=False,
        changes=False,
    ),
)
"""Commands while the composer has the focus."""

_LEAVE = Command(
    name="stop", keys="escape", label="commands", help="", action="app.back", changes=False
)
"""Label of the key that stops an answer, while none is generated."""

_HELP = Command(
    name="help", keys="question_mark", label="help", help="", action="app.help", changes=False
)
"""While nothing is written, `?` is no text."""

_PICKING = (
    Command(name="send", keys="enter", label="attach", help="", changes=False),
    Command(
        name="complete", keys="tab", label="complete", help="", action="complete", changes=False
    ),
    Command(
        name="choose", keys="up", label="down choose", help="", action="cursor_up", changes=False
    ),
    Command(name="stop", keys="escape", label="as text", help="", action="app.back", changes=False),
)
"""Keys while a file is named."""

_MENTION = re.compile(r"(?:^|(?<=\s))@(?P<name>(?:\\ |\S)*)$")
"""What was written of a file's name, up to the cursor."""

HINT = "Ask something   @ attaches a file   up: earlier questions"
SHORT_HINT = "Ask something"
HINT_FROM = 70
"""Width in cells from which the hint names keys."""


def keys_shown(*, talking: bool, picking: bool = False, empty: bool = False) -> Sequence[Entry]:
    """Keys in the footer while the composer has the focus."""
    if picking:
        return [(SCOPE, command) for command in _PICKING]
    shown = [command for command in COMMANDS if command.footer]
    kept = [_LEAVE if command.name == "stop" and not talking else command for command in shown]
    return [(SCOPE, command) for command in [*kept, *([_HELP] if empty else [])]]


class Composer(TextArea):
    """Text field that grows with its lines."""

    DEFAULT_CSS = """
    Composer { height: auto; max-height: 6; border: none; padding: 0 1; background: $panel;
               scrollbar-size-vertical: 1; }
    Composer:focus { border: none; }
    Composer .text-area--cursor-line { background: transparent; }
    Composer .text-area--placeholder { color: $foreground; text-style: dim; }
    """

    BINDINGS = bindings(SCOPE, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    class Wanted(Message):
        """The user wants what only the screen can do."""

    class Sent(Wanted):
        """The user sent the text."""

    @dataclass
    class Turned(Wanted):
        """The user scrolls the conversation, by a number of pages."""

        pages: float

    @dataclass
    class Scrolled(Wanted):
        """The user scrolls the conversation, by a number of lines."""

        lines: int

    class Followed(Wanted):
        """The user goes to the end of the conversation."""

    @dataclass
    class Recalled(Wanted):
        """An earlier question is wanted, or a later one."""

        earlier: bool

    @dataclass
    class Mentioned(Wanted):
        """A file is being named: what was written of it; None when that has ended."""

        name: str | None

    @dataclass
    class FilePicked(Wanted):
        """The file that is being named: move in the list, complete the name, or attach it."""

        verb: str

    class EditorWanted(Wanted):
        """The text shall be written in $EDITOR."""

    class Detached(Wanted):
        """The last file shall be removed."""

    @dataclass
    class PathPasted(Wanted):
        """Text was pasted that looks like the path of a file."""

        text: str

    class KeysWanted(Wanted):
        """`?` was pressed in an empty field."""

    def __init__(self) -> None:
        super().__init__(compact=True, placeholder=HINT)
        self.mention: str | None = None
        """What was written of a file's name; None while none is named."""
        self.has_files = False
        """Whether files are attached."""

    def on_resize(self) -> None:
        """Shorten the hint where there is no room."""
        self.placeholder = HINT if self.size.width >= HINT_FROM else SHORT_HINT

    def action_send(self) -> None:
        """Send the text, or attach the file that is named."""
        self.post_message(self.Sent() if self.mention is None else self.FilePicked("attach"))

    def action_line(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    def action_turn(self, pages: float) -> None:
        """Scroll the conversation."""
        self.post_message(self.Turned(pages))

    def action_scroll_turns(self, lines: int) -> None:
        """Scroll the conversation by a number of lines."""
        self.post_message(self.Scrolled(lines))

    def action_follow(self) -> None:
        """Go to the end of the conversation."""
        self.post_message(self.Followed())

    def action_editor(self) -> None:
        """Write in $EDITOR."""
        self.post_message(self.EditorWanted())

    def action_attach(self) -> None:
        """Begin to name a file."""
        before = self.get_text_range((0, 0), self.cursor_location)
        self.insert("@" if not before or before[-1].isspace() else " @")

    def action_complete(self) -> None:
        """Complete the name of the file."""
        self.post_message(self.FilePicked("complete"))

    def action_detach(self) -> None:
        """Remove the last file, or cut."""
        if self.has_files and not self.selected_text:
            self.post_message(self.Detached())
        else:
            self.action_cut()

    def action_cursor_up(self, select: bool = False) -> None:
        """Go up; from the first line to the question before."""
        if self.mention is not None:
            self.post_message(self.FilePicked("up"))
        elif not select and self.cursor_at_first_line:
            self.post_message(self.Recalled(earlier=True))
        else:
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """Go down; from the last line to the question after."""
        if self.mention is not None:
            self.post_message(self.FilePicked("down"))
        elif not select and self.cursor_at_last_line:
            self.post_message(self.Recalled(earlier=False))
        else:
            super().action_cursor_down(select)

    def on_key(self, event: events.Key) -> None:
        """Complete by `tab` while a file is named; help by `?` while nothing is written."""
        if event.key == "tab" and self.mention is not None:
            event.stop()
            event.prevent_default()
            self.action_complete()
        elif event.character == "?" and not self.text:
            event.stop()
            event.prevent_default()
            self.post_message(self.KeysWanted())

    def on_paste(self, event: events.Paste) -> None:
        """Hand a path on, which may be a picture; insert anything else."""
        text = event.text.strip()
        if text and "\n" not in text and text.lstrip("'\"").startswith(("/", "~", "file://")):
            event.stop()
            event.prevent_default()
            self.post_message(self.PathPasted(event.text))

    # Naming a file

    def on_text_area_changed(self) -> None:
        """See whether a file is being named."""
        self._look_for_mention()

    def on_text_area_selection_changed(self) -> None:
        """See whether the cursor is behind the name of a file."""
        self._look_for_mention()

    def _look_for_mention(self) -> None:
        before = self.get_text_range((self.cursor_location[0], 0), self.cursor_location)
        found = _MENTION.search(before)
        name = found["name"].replace("\\ ", " ") if found else None
        if name != self.mention:
            self.mention = name
            self.post_message(self.Mentioned(name))

    def replace_mention(self, text: str) -> None:
        """Put a text in the place of `@` and the name behind it."""
        row, column = self.cursor_location
        before = self.get_text_range((row, 0), (row, column))
        if found := _MENTION.search(before):
            self.replace(text, (row, found.start()), (row, column))

    def end_mention(self) -> bool:
        """Take what was written as text; False where no file is named."""
        if self.mention is None:
            return False
        self.insert(" ")
        return True


class FileMatches(TextLines):
    """The files that match what is being written behind `@`."""

    DEFAULT_CSS = """
    FileMatches { display: none; padding: 0 1; background: $surface; max-height: 50%; }
    FileMatches.picking { display: block; }
    """

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__(id="files")
        self._glyphs = glyphs
        self._paths: Sequence[str] = ()
        self._at = 0
        self._empty = ""

    @property
    def current(self) -> str | None:
        """The file under the cursor."""
        return self._paths[self._at] if self._paths else None

    def offer(self, paths: Sequence[str] | None, empty: str = "no file matches") -> None:
        """Offer these files; None hides the list."""
        self.set_class(paths is not None, "picking")
        self._paths, self._at, self._empty = tuple(paths or ()), 0, empty
        self._draw()

    def move(self, by: int) -> None:
        """Go to another file."""
        if self._paths:
            self._at = (self._at + by) % len(self._paths)
            self._draw()

    def _draw(self) -> None:
        inks, width = ink(self.app.theme_variables), max(8, self.size.width)
        lines = []
        for place, path in enumerate(self._paths):
            here = place == self._at
            words = (
                f"{self._glyphs.cursor if here else ' '} {fmt.squeeze(fmt.clean(path), width - 3)}"
            )
            lines.append(Text(words, "bold" if here else "", no_wrap=True))
        self.show(lines or [Text(self._empty, inks.muted)])

    def on_resize(self) -> None:
        """Draw the lines for this width."""
        self._draw()
