"""The help screen: keys of the view in front, global keys, and legends; `/` searches them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.style import Style
from rich.table import Table
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Input, Static

from modeldeck.tui.dashboard.commands import Command, keys_of
from modeldeck.tui.dashboard.dialogs.legends import Legend
from modeldeck.tui.dashboard.dialogs.overlay import Overlay
from modeldeck.tui.dashboard.theme import ThemeStyles, ink
from modeldeck.tui.text import filter_language

Part = tuple[str, str, Sequence[Command]]
"""A heading, the scope of its commands, and the commands."""

Row = tuple[str, str, bool]
"""Keys or a sign, a sentence, and whether the command is refused."""


def matching(rows: Sequence[Row], heading: str, words: Sequence[str]) -> list[Row]:
    """The rows in which, or in whose heading, all words are found.

    >>> matching([("d", "Download it.", False), ("x", "Delete it.", False)], "Catalog", ["down"])
    [('d', 'Download it.', False)]
    """
    return [
        row
        for row in rows
        if all(word in f"{row[0]} {row[1]} {heading}".casefold() for word in words)
    ]


class HelpScreen(Overlay):
    """List of keys, made from the declarations of the commands, and of what signs stand for."""

    DEFAULT_CSS = """
    HelpScreen > VerticalScroll > Input { border: none; height: 1; padding: 0 1; display: none;
                                         background: $panel; dock: bottom; }
    HelpScreen.searching > VerticalScroll > Input { display: block; }
    """

    BINDINGS = [  # noqa: RUF012 (as in `Overlay`)
        Binding("question_mark", "dismiss", "close"),
        Binding("slash", "search", "search", show=False),
        Binding("escape", "leave", "close"),
    ]

    def __init__(
        self,
        parts: Sequence[Part],
        keymap: Mapping[str, str],
        *,
        legends: Sequence[Legend] = (),
        words: str = "",
        is_refused: Callable[[Command], bool] = lambda command: False,
    ) -> None:
        """Make the help.

        Args:
            parts: The commands, under headings.
            keymap: Keys by full command name, from the configuration.
            legends: What signs stand for.
            words: Words to search for.
            is_refused: Tells which commands are drawn dim.
        """
        super().__init__()
        self._keymap = keymap
        self._sections: list[tuple[str, list[Row]]] = [
            (
                heading,
                [
                    (" ".join(keys_of(c, scope, keymap)) or f":{c.label}", c.help, is_refused(c))
                    for c in commands
                ],
            )
            for heading, scope, commands in parts
            if commands
        ]
        self._sections += [
            (heading, [(sign, words, False) for sign, words in rows]) for heading, rows in legends
        ]
        self._written = words

    def compose(self) -> ComposeResult:
        """One row per command, under headings."""
        with self.paper("Keys") as paper:
            paper.border_subtitle = "/ searches, j k scroll, esc closes"
            yield Static(id="help-rows")
            yield Input(self._written, compact=True, placeholder="words of a sentence")

    def on_mount(self) -> None:
        """Show all rows, or those with the words that are asked for."""
        self.set_class(bool(self._written), "searching")
        self._show()

    def _show(self) -> None:
        words = self._written.casefold().split()
        text: list[Text | Table] = []
        width = 1 + max((len(row[0]) for _, rows in self._sections for row in rows), default=0)
        for heading, rows in self._sections:
            if found := matching(rows, heading, words):
                text.append(self._heading(heading, first=not text))
                text.append(self._rows(found, width, words))
        from rich.console import Group

        nothing = Text("No match.", self._inks.muted)
        self.query_one("#help-rows", Static).update(Group(*text) if text else nothing)

    def _heading(self, text: str, *, first: bool) -> Text:
        return Text(("" if first else "\n") + text, self._inks.primary + Style(bold=True))

    def _rows(self, rows: Sequence[Row], width: int, words: Sequence[str]) -> Table:
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(width=width, no_wrap=True)
        grid.add_column(ratio=1)
        mark = self._inks.accent + Style(underline=True)
        for keys, sentence, refused in rows:
            told = Text(sentence, self._inks.muted if refused else "")
            for start, end in filter_language.spans(sentence, words):
                told.stylize(mark, start, end)
            grid.add_row(Text(f" {keys}", self._inks.muted if refused else "bold"), told)
        return grid

    def action_search(self) -> None:
        """Let words be written."""
        self.add_class("searching")
        self.query_one(Input).focus()

    def action_leave(self) -> None:
        """End the search, else close."""
        if self.has_class("searching"):
            self.remove_class("searching")
            self.query_one(Input).value = ""
            self.query_one(VerticalScroll).focus()
        else:
            self.dismiss()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._written = event.value
        self._show()
        self.query_one(VerticalScroll).scroll_home(animate=False)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        """Keep the words; letters are keys again."""
        event.stop()
        self.query_one(VerticalScroll).focus()

    def on_key(self, event: events.Key) -> None:
        """Scroll from the text field too."""
        if self.query_one(Input).has_focus and event.key in ("up", "down"):
            self.action_scroll(1 if event.key == "down" else -1)

    @property
    def _inks(self) -> ThemeStyles:
        """The styles of the theme."""
        return ink(self.app.theme_variables)
