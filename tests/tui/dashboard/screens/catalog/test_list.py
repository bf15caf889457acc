"""The list of the catalog: its filter, its columns, results of the Hub; a real core and hub."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.schema import Model, SearchHit
from modeldeck.tui.dashboard.column_store import FILE, ColumnStore
from modeldeck.tui.dashboard.screens.catalog.rows import Show
from modeldeck.tui.dashboard.screens.catalog.screen import CatalogView
from tests.tui.dashboard.screens.steps import (
    F16,
    TINY,
    catalog,
    fetched,
    go,
    model,
    row,
)


async def test_the_list_is_there_with_its_verdicts(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.sees("Gemma 3 4B", "over", f"{len(at.state.models)} models")
        await at.until(lambda: at.text.count(" fits ") > 5)


async def test_the_filter_follows_every_letter_and_esc_takes_it_back(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.sees("Gemma 3 4B")
        every = len(catalog(at).table.items)
        await at.press("slash")
        counts = []
        for letter in "qwen":
            await at.write(letter)
            counts.append(len([r for r in catalog(at).table.items if isinstance(r, Model)]))
        assert counts == sorted(counts, reverse=True)
        assert 0 < counts[-1] < every
        assert "Gemma 3 4B" not in at.text
        await at.press("down", "down")
        assert catalog(at).table.cursor_item == catalog(at).table.items[2]
        await at.press("escape")
        assert len(catalog(at).table.items) == every
        assert at.app.focused is catalog(at).table


async def test_hub_results_join_under_a_rule(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.press("slash")
        await at.write("tiny")
        await at.sees('Hugging Face "tiny"', "deck/tiny-GGUF", "deck/tiny-mlx", "4.2k")
        await at.press("enter", "G")
        assert isinstance(catalog(at).table.cursor_item, SearchHit)
        await at.press("escape")
        assert "Hugging Face" not in at.text


async def test_a_hub_that_is_away_is_said_and_the_list_stays(screen: Any, hub: DemoHub) -> None:
    async with screen("catalog") as at:
        hub.online = False
        await at.press("slash")
        await at.write("qwen")
        await at.sees("cannot be reached", "Qwen3")


async def test_h_searches_at_once_and_asks_for_words_without_any(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.press("h")
        await at.sees("Write what to search the Hub for.")
        await at.write("tiny")
        await at.press("enter", "h")
        await at.sees("deck/tiny-GGUF")


async def test_words_written_before_the_core_answered_are_asked_when_it_does(screen: Any) -> None:
    held = asyncio.Event()
    async with screen("catalog", held=held) as at:
        await at.until(lambda: bool(at.app.query(CatalogView)))
        await at.press("slash")
        await at.write("tiny")
        await at.until(lambda: "No core" in str(catalog(at).requests.results.found))
        held.set()
        await at.sees('Hugging Face "tiny"', "deck/tiny-GGUF")


async def test_what_is_shown_goes_round(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        view = catalog(at)
        await at.until(lambda: bool(view.requests.results.fits))
        seen = {}
        for _ in Show:
            seen[view.shown] = len(view.table.items)
            await at.press("s")
        assert view.shown is Show.ALL
        assert seen[Show.DOWNLOADED] == 1
        assert seen[Show.LOADED] == seen[Show.CUSTOM] == 0
        assert 1 < seen[Show.FITS] <= seen[Show.ALL]
        await at.press("s", "s")
        await at.sees("No match.", "esc shows the others")


async def test_columns_are_sorted_hidden_and_kept(screen: Any, tmp_path: Path) -> None:
    kept = ColumnStore(tmp_path)
    async with screen("catalog", before=fetched(TINY), columns=kept) as at:
        table = catalog(at).table

        def parameters() -> list[float]:
            models = (m for m in table.items if isinstance(m, Model))
            return [m.parameters for m in models if m.parameters is not None]

        await at.until(lambda: len(table.items) > 10)
        first = table.items[0]
        assert isinstance(first, Model)
        assert first.source != "builtin"
        await at.press("o")
        await at.sees("Columns", "[model]", "space show/hide", "esc done")
        await at.press("right", "enter")
        await at.sees("params▲", "sort: params ▲")
        assert parameters() == sorted(parameters())
        await at.press("enter")
        await at.sees("params▼", "sort: params ▼")
        assert parameters() == sorted(parameters(), reverse=True)
        assert table.cursor_item == table.items[0]
        await at.press("space")
        await at.until(lambda: "parameters" not in table.arrangement.drawn)
        await at.press("escape")
        assert table.has_focus
        chosen = table.choice
        await at.until(lambda: ColumnStore(tmp_path).choice("catalog") == chosen)
    again = ColumnStore(tmp_path)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    async with screen("catalog", columns=again) as at:
        await at.sees("sort: params ▼")
        assert "params" not in at.text.split("\n")[2]
        await at.press("o")
        await at.until(lambda: at.app.question is not None)
        await at.press("backspace", "escape")
        await at.sees("params", "sort: yours first ▲")


async def test_a_click_on_a_title_sorts_and_a_second_one_reverses(screen: Any) -> None:
    async with screen("catalog", size=(160, 40)) as at:
        table = catalog(at).table
        await at.until(lambda: "size" in at.text.split("\n")[2])
        place = at.text.split("\n")[2].index("size")
        for sign in "▲▼":
            await at.pilot.click(table, offset=(place + 1, 0))
            await at.sees(f"size{sign}")


async def test_the_heads_at_each_width(screen: Any) -> None:
    async with screen("catalog", size=(200, 60)) as at:
        wide = ["model", "params", "quant", "fit", "GiB", "can", "state"]
        await at.until(lambda: bool(catalog(at).requests.results.fits))
        for size, heads in (
            ((200, 60), [*wide, "tok/s", "size", "ctx", "runtime", "used", "from"]),
            ((120, 40), wide),
            ((80, 24), wide),
            ((60, 15), ["model", "quant", "fit", "GiB", "state"]),
        ):
            await at.pilot.resize_terminal(*size)
            await at.until(
                lambda h=heads: at.text.split("\n")[2].split("│")[0].split()[: len(h)] == h
            )
            if size[0] == 200:
                names = [row for row in at.text.split("\n")[3:] if "Distill Qwen 7B MLX" in row]
                assert "MLX    7.6B" in names[0]


async def test_tests_filter_and_words_are_marked(screen: Any) -> None:
    async with screen("catalog") as at:
        table = catalog(at).table
        await at.press("slash")
        await at.sees("tab  params<  size<")
        await at.press("p", "a", "tab")
        await at.write("1 -mlx")
        await at.press("enter")
        found = [m for m in table.items if isinstance(m, Model)]
        assert found
        assert all(m.parameters is not None and m.parameters < 1 for m in found)
        assert all(m.format != "mlx" for m in found)
        await at.sees(f"{len(found)} of {len(at.state.models)}")
        assert "Hugging Face" not in at.text
        await at.press("escape", "slash", *"gemma", "enter")
        strips = at.app.screen._compositor.render_strips()
        marked = {
            segment.text
            for strip in strips
            for segment in strip
            if segment.style is not None and segment.style.underline
        }
        assert marked == {"Gemma"}
        await at.press("escape", "slash")
        await at.write("foo:bar")
        await at.press("enter")
        await at.sees("No match.", "0 of ", 'Hugging Face "foo:bar"')


async def test_hub_rows_have_heads_of_their_own(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.press("slash")
        await at.write("tiny")
        await at.sees("on the Hub", "2026-01-01")
        rule = row(at, "Hugging Face")
        heads = ["params", "formats", "↓ month", "♥", "changed"]
        places = [rule.index(head) for head in heads]
        assert places == sorted(places)
        hit = row(at, "deck/tiny-mlx")
        assert hit.index("2026-01-01") == places[-1]
        assert hit.index("mlx ", 20) == places[1]
        assert at.text.split("\n")[1].rstrip().endswith("on the Hub")


async def test_hidden_marks_count_and_failed_ones_stay(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY, F16)) as at:
        table = catalog(at).table
        await go(at, TINY)
        await at.press("space")
        await at.press("G", "space")
        await at.sees("◆ 2 marked")
        await at.press("slash", *"deck/tiny", "enter")
        await at.sees("◆ 2 marked (1 hidden)")
        found = model(at)
        assert found is not None
        await at.press("v")
        await at.until(lambda: found.id not in table.marks)
        await at.sees("◆ 1 marked (1 hidden)")
        await at.told("is not downloaded")
        await at.press("escape")
        await at.until(lambda: not table.marks)
