"""Of what is drawn, only cells that differ from what the terminal shows are sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import ComposeResult
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widgets import Static

from modeldeck.tui.dashboard.diff_renderer import (
    BaseScreen,
    Cell,
    CellChanges,
    DiffRenderer,
    TerminalState,
    cells,
    pieces,
    runs,
)

CONSOLE = Console(width=20, force_terminal=True, color_system=None)
COLORS = ColorSystem.STANDARD
RED, BOLD = Style(color="red"), Style(bold=True)


def strip(*parts: str | tuple[str, Style]) -> Strip:
    return Strip([Segment(p) if isinstance(p, str) else Segment(*p) for p in parts])


def plain(text: str) -> list[Cell]:
    return cells(strip(text), COLORS)


def sent(shown: TerminalState, y: int, x: int, line: Strip) -> str:
    return CellChanges(shown.take([(y, x, line)], COLORS)).render_segments(CONSOLE)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("same", "same", []),
        (
            "rate 10 MB/s          disk 5 GB",
            "rate 12 MB/s          disk 4 GB",
            [(6, 7), (27, 28)],
        ),
        ("abcdefgh", "Abcdefgh", [(0, 1)]),
        ("abcdefgh", "AbcdeFgh", [(0, 6)]),
        ("猫x", "猫y", [(2, 3)]),
        ("x猫 a", "x犬 a", [(1, 5)]),
        ("x猫 a", "xab a", [(1, 5)]),
        ("e\u0301 a", "e  a", [(0, 4)]),
    ],
)
def test_what_differs_is_found(old: str, new: str, expected: list[tuple[int, int]]) -> None:
    before, after = plain(old), plain(new)
    assert list(runs([*before, *[None] * (len(after) - len(before))], after)) == expected


@given(st.text("ab 猫é", max_size=60), st.text("ab 猫", max_size=60))
def test_runs_cover_every_cell_that_differs(old: str, new: str) -> None:
    after = plain(new)
    before = [*plain(old), *[None] * len(after)][: len(after)]
    covered = [x for start, end in runs(before, after) for x in range(start, end)]
    assert covered == sorted(set(covered))
    assert {x for x, cell in enumerate(after) if cell != before[x]} <= {*covered}


def test_what_is_shown_already_is_not_sent() -> None:
    shown = TerminalState()
    assert sent(shown, 0, 4, strip("abcd")) == "\x1b[1;5Habcd"
    assert sent(shown, 0, 4, strip("abcd")) == ""
    assert sent(shown, 0, 4, strip("abxd")) == "\x1b[1;7Hx"
    assert sent(shown, 1, 4, strip("abxd")) == "\x1b[2;5Habxd"


def test_a_colour_is_a_difference_and_is_said_once() -> None:
    shown = TerminalState()
    sent(shown, 0, 0, strip("abcd"))
    assert sent(shown, 0, 0, strip(("ab", RED), ("cd", BOLD))) == (
        "\x1b[1;1H\x1b[0;31mab\x1b[0;1mcd\x1b[0m"
    )
    assert sent(shown, 0, 0, strip(("a", RED), ("b", RED), ("cd", BOLD))) == ""
    meta = Style(color="red", meta={"@click": "app.quit"})  # nothing that a terminal hears of
    assert sent(shown, 0, 0, strip(("ab", meta))) == ""


def test_after_all_was_forgotten_or_the_size_changed_all_is_sent() -> None:
    shown = TerminalState()
    shown.fill(Size(4, 1))
    sent(shown, 0, 0, strip("abcd"))
    shown.fill(Size(4, 1))
    assert sent(shown, 0, 0, strip("abcd")) == ""
    shown.forget()
    assert sent(shown, 0, 0, strip("abcd")) == "\x1b[1;1Habcd"
    shown.fill(Size(5, 1))
    assert sent(shown, 0, 0, strip("abcd")) == "\x1b[1;1Habcd"


def test_pieces_lie_where_textual_would_draw_them() -> None:
    left, right = strip("abcd", "efgh"), strip("|12|")
    whole = LayoutUpdate([[left, right], [right]], Region(0, 3, 12, 2))
    assert [(y, x, s.text) for y, x, s in pieces(whole)] == [
        (3, 0, "abcdefgh"),
        (3, 8, "|12|"),
        (4, 0, "|12|"),
    ]
    chops: list[dict[int, Strip | None]] = [{0: left, 8: right}, {0: None, 8: right}]
    part = ChopsUpdate(chops, [(0, 3, 5), (0, 7, 10), (1, 2, 9)], [[8, 12], [8, 12]])
    assert [(y, x, s.text) for y, x, s in pieces(part)] == [
        (0, 3, "de"),
        (0, 7, "h"),
        (0, 8, "|1"),
        (1, 8, "|"),
    ]


class Canvas(DiffRenderer):
    """Keeps what it sends."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def get_default_screen(self) -> Any:
        return BaseScreen()

    def compose(self) -> ComposeResult:
        yield Static("a word", id="word")
        yield Static("another one")

    def _display(self, screen: Any, renderable: Any) -> None:
        keep = self._shown.take

        def take(drawn: Any, colors: ColorSystem) -> Any:
            runs = keep(drawn, colors)
            self.sent.append("".join(char for *_, run in runs for char, _ in run))
            return runs

        self._shown.take = take  # type: ignore[method-assign] # to look on
        super()._display(screen, renderable)
        self._shown.take = keep  # type: ignore[method-assign]

    async def sends(self, pilot: Any, words: str) -> None:
        while words not in "".join(self.sent):
            await pilot.pause(0.01)


def shrink_and_grow(app: Canvas) -> None:
    """What a terminal tells that is small for a moment."""
    for size in (Size(40, 4), Size(80, 24)):
        app.post_message(events.Resize(size, size))


@pytest.mark.parametrize("lose", [shrink_and_grow, Canvas.action_redraw])
async def test_a_terminal_that_lost_cells_is_drawn_whole(lose: Callable[[Canvas], None]) -> None:
    app = Canvas()
    async with app.run_test(size=(80, 24)) as pilot:
        await app.sends(pilot, "another one")
        app.sent.clear()
        lose(app)
        await app.sends(pilot, "another one")


async def test_a_layout_that_moves_nothing_sends_what_changed() -> None:
    app = Canvas()
    async with app.run_test(size=(80, 24)) as pilot:
        await app.sends(pilot, "another one")
        app.sent.clear()
        app.screen.refresh(layout=True)
        app.query_one("#word", Static).update("a ward")
        await app.sends(pilot, "a")
        await pilot.pause()
        assert "".join(app.sent) == "a"
