"""A scrollbar that is visible without colours: a heavy line on a light one."""

from __future__ import annotations

from math import ceil

from rich.color import Color
from rich.segment import Segment, Segments
from rich.style import Style
from textual.scrollbar import ScrollBarRender

THUMB, TRACK = "┃", "│"

_GREY = Color.parse("#555555")
_WHITE = Color.parse("white")


def place(size: int, virtual_size: float, window_size: float, position: float) -> tuple[int, int]:
    """First cell of the thumb, and the cell after its last; (0, 0) where everything is visible.

    >>> place(10, 100, 10, 0), place(10, 100, 10, 90), place(10, 8, 10, 0)
    ((0, 1), (9, 10), (0, 0))
    """
    if size <= 0 or window_size <= 0 or virtual_size <= window_size:
        return 0, 0
    length = max(1, min(size, ceil(size * window_size / virtual_size)))
    start = round((size - length) * position / (virtual_size - window_size))
    start = max(0, min(size - length, start))
    return start, start + length


class WholeCellScrollBar(ScrollBarRender):
    """Vertical scrollbars of whole cells; horizontal ones are Textual's."""

    @classmethod
    def render_bar(
        cls,
        size: int = 25,
        virtual_size: float = 50,
        window_size: float = 20,
        position: float = 0,
        thickness: int = 1,
        vertical: bool = True,
        back_color: Color = _GREY,
        bar_color: Color = _WHITE,
    ) -> Segments:
        """The cells of the bar, each with the action of a click on it."""
        if not vertical:
            return super().render_bar(
                size,
                virtual_size,
                window_size,
                position,
                thickness,
                vertical,
                back_color,
                bar_color,
            )
        start, end = place(size, virtual_size, window_size, position)
        if start == end:
            return Segments([Segment(" " * thickness, Style(bgcolor=back_color))] * size, True)
        parts = (
            (TRACK, start, Style(color=bar_color, bgcolor=back_color, dim=True,
                           meta={"@mouse.down": "scroll_up"})),
            (THUMB, end - start, Style(color=bar_color, bgcolor=back_color,
                                       meta={"@mouse.down": "grab"})),
            (TRACK, size - end, Style(color=bar_color, bgcolor=back_color, dim=True,
                                meta={"@mouse.down": "scroll_down"})),
        )  # fmt: skip
        lines = [
            Segment(sign + " " * (thickness - 1), style)
            for sign, count, style in parts
            for _ in range(count)
        ]
        return Segments(lines, new_lines=True)
