"""Lines of text, of which only what changed is drawn again."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import App, ComposeResult

from modeldeck.tui.dashboard.widgets import cells
from modeldeck.tui.dashboard.widgets.bars import TextLines


class Page(App[None]):
    """Lines with room around them."""

    CSS = "TextLines { padding: 1 0 0 3; }"

    def compose(self) -> ComposeResult:
        """Nothing else."""
        yield TextLines()


async def test_what_changes_is_drawn_where_it_stands_whatever_is_around() -> None:
    app = Page()
    async with app.run_test(size=(20, 5)) as pilot:
        lines = app.query_one(TextLines)

        async def shows(*words: str) -> list[str]:
            lines.show([Text(word) for word in words])
            await pilot.pause()
            strips = app.screen._compositor.render_strips()
            return [strip.text.rstrip() for strip in strips[:4]]

        assert await shows("rate 1", "left 5") == ["", "   rate 1", "   left 5", ""]
        assert await shows("rate 2", "left 5") == ["", "   rate 2", "   left 5", ""]
        assert await shows("rate 2", "left 4") == ["", "   rate 2", "   left 4", ""]
        assert await shows("rate") == ["", "   rate", "", ""]


def test_a_reversed_row_has_no_patches_of_colour_or_pale_words() -> None:
    words = Text.assemble(("pale ", "dim"), ("red", "red"))
    assert len({segment.style for segment in cells.segments(words, Style())}) == 2
    reversed_ = Style(reverse=True)
    assert [*cells.segments(words, reversed_)] == [Segment("pale red", reversed_)]
