"""Of a line that changed in part, only that part is sent."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual._compositor import LayoutUpdate
from textual.geometry import Size
from textual.strip import Strip

from tui.painting import CellsCompositor, CellsUpdate, Frame, Painted

CONSOLE = Console(width=20, force_terminal=True, color_system=None)


def sent(spans: list[tuple[int, int, int]]) -> str:
    left, right = Strip([Segment("abcd", Style()), Segment("efgh")]), Strip([Segment("|12|")])
    chops: list[dict[int, Strip | None]] = [{0: left, 8: right}, {0: None, 8: right}]
    return CellsUpdate(chops, spans, [[8, 12], [8, 12]]).render_segments(CONSOLE)


def test_a_run_is_sent_from_its_first_cell_to_its_last() -> None:
    assert sent([(0, 3, 5)]) == "\x1b[1;4Hde"


def test_runs_of_one_line_are_sent_apart() -> None:
    assert sent([(0, 0, 1), (0, 6, 8)]) == "\x1b[1;1Ha\x1b[1;7Hgh"


def test_a_run_over_two_widgets_is_sent_of_both() -> None:
    assert sent([(0, 7, 10)]) == "\x1b[1;8Hh\x1b[1;9H|1"


def test_what_is_hidden_is_not_sent() -> None:
    assert sent([(1, 0, 9)]) == "\x1b[2;9H|"


def test_a_whole_line_is_whole() -> None:
    assert sent([(0, 0, 12)]) == "\x1b[1;1Habcdefgh\x1b[1;9H|12|"


def test_the_frame_paints_so() -> None:
    assert isinstance(Frame()._compositor, CellsCompositor)


class Canvas(Painted):
    """Keeps what it draws."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[object] = []

    def get_default_screen(self) -> Any:
        return Frame()

    def _display(self, screen: Any, renderable: Any) -> None:
        self.drawn.append(renderable)
        super()._display(screen, renderable)


async def test_a_terminal_that_has_its_size_again_is_drawn_whole() -> None:
    app = Canvas()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.drawn.clear()
        for size in (Size(40, 4), Size(80, 24)):
            app.post_message(events.Resize(size, size))
        while not any(isinstance(update, LayoutUpdate) for update in app.drawn):
            await pilot.pause(0.01)
