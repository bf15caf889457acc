"""Text that flows: wrapped to its width, and drawn again where it changed."""

from __future__ import annotations

from rich.text import Text
from textual.app import App, ComposeResult
from textual.geometry import Region

from modeldeck.tui.dashboard.widgets.wrapped_text import WrappedText


class Watched(WrappedText):
    """Remembers which lines it had drawn again, and whether it asked for a layout."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[list[int], bool]] = []

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Watched:
        self.asked.append(([region.y for region in regions], layout))
        super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        return self


class Page(App[None]):
    """Nothing but a text."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = Watched()

    def compose(self) -> ComposeResult:
        yield self.flow

    @property
    def lines(self) -> list[str]:
        strips = self.screen._compositor.render_strips()
        return [text for strip in strips if (text := strip.text.rstrip())]


async def test_it_is_as_high_as_its_text_is_long() -> None:
    app = Page()
    async with app.run_test(size=(12, 10)) as pilot:
        assert app.lines == []
        app.flow.put(Text("one two three\n\nanother/very/long/name"))
        await pilot.pause()
        assert app.lines == ["one two", "three", "another/very", "/long/name"]
        assert app.flow.size.height == 5
        await pilot.resize_terminal(30, 10)
        await pilot.pause()
        assert app.lines == ["one two three", "another/very/long/name"]


async def test_a_line_that_changes_is_drawn_without_a_layout() -> None:
    app = Page()
    async with app.run_test(size=(12, 10)) as pilot:
        app.flow.put(Text("1 of 9\nrate 12"))
        await pilot.pause()
        app.flow.asked.clear()
        app.flow.put(Text("1 of 9\nrate 13"))
        assert app.flow.asked == [([1], False)]
        app.flow.put(Text("1 of 9\nrate 13"))
        assert len(app.flow.asked) == 1
        app.flow.put(Text("one of nine parts\nrate 13"))
        assert app.flow.asked[-1] == ([], True)
        await pilot.pause()
        assert app.lines == ["one of nine", "parts", "rate 13"]
