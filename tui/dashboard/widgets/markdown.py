"""Untrusted markdown, drawn so that it cannot control the terminal."""

from __future__ import annotations

from collections.abc import Callable

from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Markdown
from textual.widgets.markdown import MarkdownFence

from modeldeck.core.remote.printable import clean


def parser() -> MarkdownIt:
    """Parser for markdown of models and model cards.

    HTML tags are shown as text. Addresses do not become links, and entities such as `&#8238;` are
    not decoded: both would bring back characters that were stripped from the text.
    """
    made = MarkdownIt("commonmark", {"html": False})
    return made.enable(["table", "strikethrough"]).disable(["entity", "autolink"])


class MarkdownText(Markdown):
    """Markdown of clean text; links are shown as text and cannot be opened."""

    DEFAULT_CSS = """
    MarkdownText { padding: 0; margin: 0; }
    MarkdownText MarkdownParagraph { margin: 0 0 1 0; }
    MarkdownText MarkdownBulletList, MarkdownText MarkdownOrderedList {
        margin: 0 0 1 0; padding: 0; }
    MarkdownText MarkdownBulletList MarkdownParagraph,
    MarkdownText MarkdownOrderedList MarkdownParagraph { margin: 0; }
    MarkdownText MarkdownFence { color: $foreground; background: $surface; margin: 0 0 1 0; }
    MarkdownText MarkdownFence > Label { padding: 0 1; }
    MarkdownText MarkdownH1, MarkdownText MarkdownH2, MarkdownText MarkdownH3 {
        margin: 0 0 1 0; padding: 0;
        content-align: left middle; background: transparent; border: none;
        color: $primary; text-style: bold; }
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(text, parser_factory=parser, open_links=False)


class BoxEdge(Widget):
    """Upper or lower edge of a box of code."""

    DEFAULT_CSS = """
    BoxEdge { height: 1; width: 1fr; color: $text-muted; }
    """

    def __init__(self, left: str, right: str, words: Callable[[], tuple[str, str]]) -> None:
        """`words` are those at the left and at the right of the edge."""
        super().__init__()
        self._corners = left, right
        self._words = words

    def render(self) -> Text:
        """Draw the edge."""
        begin, end = (f" {word} " if word else "" for word in self._words())
        room = self.size.width - 2 - cell_len(begin)
        end = end if cell_len(end) < room else ""
        begin = begin if room >= 0 else ""
        line = "─" * max(0, self.size.width - 2 - cell_len(begin) - cell_len(end))
        left, right = self._corners
        return Text(f"{left}{begin}{line}{end}{right}", no_wrap=True)


class CodeBox(MarkdownFence):
    """A block of code in a box that names its language and the key that copies it."""

    DEFAULT_CSS = """
    CodeBox { margin: 0 0 1 0; background: transparent; color: $foreground; overflow: hidden; }
    CodeBox > #code-content {
        width: 1fr; padding: 0 1; text-wrap: wrap;
        border-left: solid $text-muted; border-right: solid $text-muted;
    }
    """

    def compose(self) -> ComposeResult:
        """The code between two edges."""
        yield BoxEdge("┌", "┐", self._title)
        yield from super().compose()
        yield BoxEdge("└", "┘", lambda: ("", ""))

    def set_content(self, content: Content) -> None:
        """Take over what came since; the language may have grown as well."""
        super().set_content(content)
        for edge in self.query(BoxEdge):
            edge.refresh()

    def _title(self) -> tuple[str, str]:
        answer = next((each for each in self.ancestors if isinstance(each, AnswerMarkdown)), None)
        boxes = list(answer.query(CodeBox)) if answer else []
        key = answer.copy_key if answer else ""
        number = f" {boxes.index(self) + 1}" if len(boxes) > 1 and self in boxes else ""
        language = clean(self.lexer or "").partition(" ")[0][:20]
        return language, f"{key}{number} copies" if key else ""


class AnswerMarkdown(MarkdownText):
    """Markdown of an answer, whose code is in boxes."""

    def __init__(self, text: str = "", copy_key: str = "") -> None:
        super().__init__(text)
        self.BLOCKS = {**self.BLOCKS, "fence": CodeBox, "code_block": CodeBox}
        self.copy_key = copy_key
        """Key that copies a block of code."""


def code_blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each block of code, in order."""
    return [
        (token.info.strip(), token.content)
        for token in parser().parse(text)
        if token.type in ("fence", "code_block")
    ]
