"""How the catalog is drawn: at every size, whatever the names are, and however many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from modeldeck.core.client.client import Client
from modeldeck.core.schema import Model, ModelSeed
from modeldeck.tui.dashboard.screens.catalog.rows import Show
from modeldeck.tui.text.format import ASCII
from tests.tui.dashboard.screens.steps import F16, TINY, catalog, fetched, go, model, row


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 15), (40, 10)])
async def test_every_size_shows_name_state_and_verdict(screen: Any, size: tuple[int, int]) -> None:
    async with screen("catalog", size=size, before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.until(lambda: "fits" in row(at, "▸"))
        await at.until(lambda: "down" in row(at, "▸"))
        assert all(len(line) <= size[0] for line in at.text.split("\n"))


async def test_narrow_enter_opens_the_detail_and_resizing_loses_no_place(screen: Any) -> None:
    async with screen("catalog", size=(80, 24), before=fetched(TINY, F16)) as at:
        view = catalog(at)
        await go(at, TINY)
        assert "[ 4096 ]" not in at.text
        await at.press("enter")
        await at.sees("variant", "Q8_0", "F16", "[ 4096 ]", "weights")
        await at.until(lambda: len(view.detail.table.items) == 2)
        assert view.detail.choice is not None
        assert view.detail.choice.unique == TINY
        for size in ((160, 50), (60, 15), (120, 40), (80, 24)):
            await at.pilot.resize_terminal(*size)
            await at.pilot.pause()
            assert view.detail.table.has_focus
            assert view.detail.choice.unique == TINY
            found = model(at)
            assert found is not None
            assert view.table.cursor_key == found.id
        await at.press("escape")
        assert view.table.has_focus
        assert "[ 4096 ]" not in at.text


NAMES = (
    "\x1b]0;owned\x07title",
    "\x1b[31mred\x1b[0m",
    "[bold red]markup[/] [@click=app.quit]quit[/]",
    "\u202egnp.exe",
    "x" * 300,
    "👍🏽 emoji 🇩🇪 👨‍👩‍👧",
    "日本語のとても長い模型の名前です",
    "line\nbreak\ttab",
)

JOINERS = "\u200d\ufe0f"
"""Inside emoji; running text keeps them."""


@pytest.mark.parametrize("size", [(160, 40), (80, 24), (60, 15)])
async def test_hostile_names_are_plain_text_and_break_no_alignment(
    screen: Any, size: tuple[int, int]
) -> None:
    async def add(client: Client) -> None:
        for number, name in enumerate(NAMES):
            seed = ModelSeed(name=f"{number} {name}", description=f"{name} [/] {name}")
            await client.create_model(seed)

    async with screen("catalog", size=size, before=add) as at:
        view = catalog(at)
        view.shown = Show.CUSTOM
        assert len(view.table.items) == len(NAMES)
        for _ in NAMES:
            await at.press("j")
            strips = at.app.screen._compositor.render_strips()
            drawn = "".join(strip.text for strip in strips)
            assert all(char.isprintable() or char in JOINERS for char in drawn)
            assert {cell_len(strip.text) for strip in strips} == {size[0]}
        await at.sees("2 [bold re")
        lines = [line for line in at.text.split("\n") if " gguf " in line]
        columns = {cell_len(line.partition(" gguf ")[0]) for line in lines}
        assert len(lines) == len(NAMES)
        assert len(columns) == 1


async def test_ascii_draws_nothing_else(screen: Any) -> None:
    async with screen("catalog", glyphs=ASCII, before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.sees("exact: asked llama.cpp")
        assert at.text.isascii(), [c for c in at.text if not c.isascii()]


async def test_ten_thousand_models_scroll_and_filter(screen: Any) -> None:
    async with screen("catalog") as at:
        view = catalog(at)
        await at.until(lambda: len(view.table.items) > 10)
        seed = next(iter(at.state.models.values()))
        many = {
            f"{n}": replace(seed, id=f"{n}", unique=f"many/m{n}:Q8_0", name=f"Many {n:05}")
            for n in range(10_000)
        }
        view.state = replace(at.state, models=many)
        assert len(view.table.items) == 10_000
        drawn = 0
        line = view.table._draw

        def counted(row: Any) -> Any:
            nonlocal drawn
            drawn += 1
            return line(row)

        view.table._draw = counted
        await at.press("G", "g", "ctrl+d")
        assert drawn < 1000
        at.app.link.latest = replace(at.state, models=many)
        await at.press("slash")
        await at.write("04242")
        await at.until(lambda: len([r for r in view.table.items if isinstance(r, Model)]) == 1)
