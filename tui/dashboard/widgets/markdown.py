"""Untrusted markdown, drawn so that it cannot control the terminal."""

from __future__ import annotations

from markdown_it import MarkdownIt
from textual.widgets import Markdown


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

    def __init__(self) -> None:
        super().__init__(parser_factory=parser, open_links=False)
