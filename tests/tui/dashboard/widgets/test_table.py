"""The table: what it draws, what it draws again, and where its cursor stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from rich.cells import cell_len
from rich.text import Text
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot

from modeldeck.tui.dashboard.widgets.table import Column, Table, TableLine
from modeldeck.tui.text.format import ASCII, UNICODE, Glyphs

COLUMNS = (
    Column("sign", "", 1),
    Column("name", "name", 20, grow=True),
    Column("size", "size", 8, right=True),
)

HOSTILE = (
    "\x1b]0;owned\x07plain",
    "\x1b[31mred\x1b[0m",
    "[bold red]markup[/]",
    "\u202egnp.exe",
    "x" * 300,
    "👍🏽 emoji 🇩🇪 👨‍👩‍👧",
    "日本語のとても長い模型の名前です",
    "a\nb\tc\rd",
    "e\u0301\u0301\u0301 combining",
    "हिन्दी देवनागरी",
)


class Watched(Table[str]):
    """A table that remembers which regions it had drawn again, and what it drew."""

    def __init__(self, glyphs: Glyphs, empty: str) -> None:
        super().__init__(COLUMNS, self.line, glyphs, empty)
        self.sizes: dict[str, str] = {}
        self.drawn = 0
        self.regions: list[Region] = []

    def line(self, item: str) -> TableLine:
        self.drawn += 1
        if item.startswith("--"):
            return TableLine(item, {"name": item[2:]}, rule=True)
        return TableLine(item, {"sign": "*", "name": item, "size": self.sizes.get(item, "1")})

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Watched:
        if self.is_mounted:
            self.regions += regions
        super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        return self


class Stage(App[None]):
    """Nothing but a table."""

    def __init__(self, glyphs: Glyphs, empty: str) -> None:
        super().__init__()
        self.table = Watched(glyphs, empty)
        self.said: list[tuple[str, str | None]] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self.table.focus()

    def on_table_highlighted(self, event: Table.Highlighted) -> None:
        self.said.append(("highlighted", event.item))

    def on_table_row_opened(self, event: Table.RowOpened) -> None:
        self.said.append(("chosen", event.item))

    def show(self, *items: str) -> None:
        self.table.show(items, key=lambda item: item)

    @property
    def lines(self) -> list[str]:
        return [strip.text for strip in self.screen._compositor.render_strips()]


@asynccontextmanager
async def stage(
    items: Sequence[str] = (),
    *,
    size: tuple[int, int] = (60, 12),
    glyphs: Glyphs = UNICODE,
    empty: str = "",
) -> AsyncIterator[tuple[Stage, Pilot[None]]]:
    app = Stage(glyphs, empty)
    async with app.run_test(size=size) as pilot:
        app.show(*items)
        await pilot.pause()
        yield app, pilot


def names(count: int, start: int = 0) -> list[str]:
    return [f"row {number:05}" for number in range(start, start + count)]


@pytest.mark.parametrize(
    ("keys", "row"),
    [
        ("j", 1),
        ("jjk", 1),
        ("G", 99),
        ("Gg", 0),
        ("k", 0),
        ("down down up", 1),
        ("end home", 0),
        ("ctrl+d", 6),
        ("ctrl+d ctrl+u", 0),
        ("pagedown", 11),
        ("pagedown pagedown pageup", 11),
        ("end pagedown", 99),
    ],
)
async def test_every_key_moves_the_cursor(keys: str, row: int) -> None:
    async with stage(names(100)) as (app, pilot):
        pressed = keys.split() if " " in keys or "+" in keys or len(keys) > 3 else list(keys)
        await pilot.press(*pressed)
        assert app.table.cursor_item == names(100)[row]
        await pilot.pause()
        (at,) = [line for line in app.lines if UNICODE.cursor in line]
        assert names(100)[row] in at


async def test_the_cursor_stays_on_its_row_and_line_when_others_come_go_and_move() -> None:
    async with stage(names(100)) as (app, pilot):
        await pilot.press("G", *"kkkk")
        row = app.table.cursor_item
        await pilot.pause()
        for items in (
            [*names(20, 1000), *names(100)],
            [*names(100), *names(40, 2000)],
            [*names(10, 90), *names(100, 300)],
            sorted(names(100), reverse=True),
        ):
            app.show(*items)
            await pilot.pause()
            assert app.table.cursor_item == row
            assert app.table.cursor_key == row
        for items in (
            [*names(100), *names(40, 2000)],
            [*names(20, 1000), *names(100), *names(40, 2000)],
            [*names(50, 50), *names(40, 2000)],
        ):
            before = next(i for i, text in enumerate(app.lines) if UNICODE.cursor in text)
            app.show(*items)
            await pilot.pause()
            assert row is not None
            assert row in app.lines[before]


async def test_a_row_that_goes_leaves_the_cursor_at_its_place() -> None:
    async with stage(names(5)) as (app, pilot):
        await pilot.press("j", "j")
        app.show(*[name for name in names(5) if name != "row 00002"])
        assert app.table.cursor_item == "row 00003"
        app.show("row 00000")
        assert app.table.cursor_item == "row 00000"
        app.show()
        assert app.table.cursor_item is None
        assert app.table.marked == []
        await pilot.press("j", "k", "space", "enter", "G")
        await pilot.pause()
        assert app.said[-1] == ("highlighted", None)


async def test_a_rule_is_passed_over() -> None:
    async with stage(["--first", "a", "--second", "b", "--last"]) as (app, pilot):
        assert app.table.cursor_item == "a"
        await pilot.press("j")
        assert app.table.cursor_item == "b"
        await pilot.press("j", "G")
        assert app.table.cursor_item == "b"
        await pilot.press("g", "k")
        assert app.table.cursor_item == "a"
        await pilot.click(app.table, offset=(5, 3))
        assert app.table.cursor_item == "a"
        assert any(line.startswith("── second ──") for line in app.lines)


async def test_marks_hold_on_to_rows_and_verbs_act_on_those_that_are_shown() -> None:
    async with stage(names(4)) as (app, pilot):
        assert app.table.marked == ["row 00000"]
        await pilot.press("space", "j", "space")
        assert app.table.marked == ["row 00000", "row 00002"]
        await pilot.pause()
        assert sum(UNICODE.mark in line for line in app.lines) == 2
        app.show("row 00002", "row 00003")
        assert app.table.marked == ["row 00002"]
        app.show(*reversed(names(4)))
        assert app.table.marked == ["row 00002", "row 00000"]
        assert app.table.unmark()
        assert not app.table.unmark()


async def test_enter_and_a_double_click_open_a_row_and_a_click_moves() -> None:
    async with stage(names(9)) as (app, pilot):
        await pilot.press("j", "enter")
        await pilot.pause()
        assert ("chosen", "row 00001") in app.said
        await pilot.click(app.table, offset=(5, 5))
        assert app.table.cursor_item == "row 00004"
        await pilot.double_click(app.table, offset=(5, 6))
        await pilot.pause()
        assert app.said[-1] == ("chosen", "row 00005")
        await pilot.click(app.table, offset=(5, 0))
        await pilot.click(app.table, offset=(5, 11))
        assert app.table.cursor_item == "row 00005"


async def test_the_wheel_scrolls_and_the_next_key_brings_the_cursor_back() -> None:
    async with stage(names(100)) as (app, pilot):
        app.table.scroll_to(y=50, animate=False)
        await pilot.pause()
        assert "row 00050" in app.lines[1]
        await pilot.press("j")
        await pilot.pause()
        assert app.table.cursor_item == "row 00001"
        assert any("row 00001" in line for line in app.lines)


async def test_only_lines_that_changed_are_drawn_again() -> None:
    async with stage(names(5)) as (app, pilot):
        app.table.regions.clear()
        app.show(*names(5))
        assert app.table.regions == []
        app.table.sizes["row 00003"] = "2"
        app.show(*names(5))
        (region,) = app.table.regions
        assert (region.y, region.height) == (4, 1)
        await pilot.pause()
        assert app.lines[4].rstrip().endswith(" 2")
        app.table.regions.clear()
        await pilot.press("j")
        assert {region.y for region in app.table.regions} == {1, 2}


async def test_ten_thousand_rows_cost_as_much_as_those_in_sight() -> None:
    many = names(10_000)
    async with stage(many) as (app, pilot):
        app.table.drawn = 0
        app.show(*many)
        await pilot.press("G", "g", "ctrl+d")
        await pilot.pause()
        assert app.table.drawn < 200


async def test_hostile_names_break_no_alignment() -> None:
    async with stage(HOSTILE, size=(60, 14)) as (app, pilot):
        app.table.sizes = dict.fromkeys(HOSTILE, "|")
        app.table.redraw()
        await pilot.pause()
        rows = app.lines[1 : 1 + len(HOSTILE)]
        for row in rows:
            assert cell_len(row) == 60
            before, bar, after = row.partition("|")
            assert (bar, cell_len(before)) == ("|", cell_len(rows[0].partition("|")[0]))
            assert not after.strip()
            assert all(char.isprintable() for char in row), row
        assert "[bold red]markup[/]" in rows[2]
        assert "\u202e" not in rows[3]


async def test_every_width_is_filled_exactly() -> None:
    async with stage([*names(30), *HOSTILE]) as (app, pilot):
        await pilot.press("j", "j")
        for width in (200, 120, 80, 60, 34, 20, 12, 5):
            await pilot.resize_terminal(width, 9)
            while app.table.outer_size.width != width:  # Textual takes its time for that
                await pilot.pause()
            assert {cell_len(line) for line in app.lines} == {width}
            assert app.table.cursor_item == "row 00002"
            assert any(UNICODE.cursor in line for line in app.lines)


async def test_an_empty_table_says_why_line_by_line() -> None:
    async with stage(empty="Nothing is here.\nn makes something.") as (app, pilot):
        assert [line.strip() for line in app.lines[2:4]] == [
            "Nothing is here.",
            "n makes something.",
        ]
        app.table.empty = "Other words."
        await pilot.pause()
        assert app.lines[2].strip() == "Other words."


async def test_ascii_draws_nothing_else() -> None:
    async with stage(["--rule", *names(4)], glyphs=ASCII) as (app, pilot):
        await pilot.press("space")
        await pilot.pause()
        assert "".join(app.lines).isascii()


async def test_text_in_colours_is_cut_and_of_several_forms_the_first_that_fits_is_drawn() -> None:
    forms: dict[int, str] = {}

    class Coloured(App[None]):
        def compose(self) -> ComposeResult:
            long, short = Text("a long form of words", "red"), Text("short", "red")
            cell = Text.assemble(("left", "green"), "right" * 20)
            draw: Callable[[str], TableLine] = lambda item: TableLine(  # noqa: E731 (a line of the test)
                item, {"name": cell, "size": (long, short)}
            )
            yield Table((COLUMNS[1], Column("size", "", 8, grow=True)), draw, UNICODE)

        def on_mount(self) -> None:
            self.query_one(Table).show(["x"], key=str)

    app = Coloured()
    async with app.run_test(size=(40, 5)) as pilot:
        for width in (40, 70):
            await pilot.resize_terminal(width, 5)
            await pilot.pause()
            forms[width] = app.screen._compositor.render_strips()[1].text
    assert "short" in forms[40]
    assert "a long form of words" in forms[70]
    assert all("leftright" in text and "…" in text for text in forms.values())


async def test_the_last_column_is_whole_beside_the_scroll_bar() -> None:
    async with stage(size=(40, 12)) as (app, pilot):
        for count in (3, 30, 3):
            app.table.sizes = dict.fromkeys(names(count), "12345678")
            app.show(*names(count))
            await pilot.pause()
            assert app.table.show_vertical_scrollbar == (count > 12)
            lines = [strip.text for strip in app.screen._compositor.render_strips()]
            assert sum("12345678" in line for line in lines) == min(count, 11)
