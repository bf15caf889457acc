"""`Overlay`: base class of modal texts that scroll, such as the help."""

from __future__ import annotations

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen


class Overlay(ModalScreen[None]):
    """Modal screen with a scrolling text; subclasses mount it with `self.paper(title)`."""

    DEFAULT_CSS = """
    Overlay { align: center middle; background: $background 60%; }
    Overlay > VerticalScroll { width: 78; max-width: 100%; height: auto; max-height: 100%;
                            background: $surface; border: round $primary; padding: 0 1;
                            border-title-color: $primary; border-subtitle-color: $text-muted;
                            scrollbar-size-vertical: 1; }
    Overlay:ansi { background: ansi_default; }
    """

    BINDINGS = [  # noqa: RUF012 (Textual reads it from the class)
        Binding("escape,q", "dismiss", "close"),
        Binding("j,down", "scroll(1)", "down", show=False),
        Binding("k,up", "scroll(-1)", "up", show=False),
        Binding("ctrl+d,pagedown,space", "turn(1)", "page down", show=False),
        Binding("ctrl+u,pageup", "turn(-1)", "page up", show=False),
        Binding("g,home", "end(False)", "top", show=False),
        Binding("G,end", "end(True)", "bottom", show=False),
    ]

    def paper(self, title: str) -> VerticalScroll:
        """Container for the text."""
        paper = VerticalScroll()
        paper.border_title = title
        paper.border_subtitle = "j k scroll, esc closes"
        return paper

    def on_mount(self) -> None:
        """Give the focus to the text."""
        self.query_one(VerticalScroll).focus()

    def action_scroll(self, lines: int) -> None:
        """Scroll by a number of lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_turn(self, pages: int) -> None:
        """Scroll by a number of pages."""
        paper = self.query_one(VerticalScroll)
        paper.scroll_relative(y=pages * max(1, paper.size.height - 1), animate=False)

    def action_end(self, bottom: bool) -> None:
        """Go to the first or the last line."""
        paper = self.query_one(VerticalScroll)
        (paper.scroll_end if bottom else paper.scroll_home)(animate=False)
