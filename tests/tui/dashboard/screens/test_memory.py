"""Every verb of the Memory view, against a real core, hub and llama.cpp."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.vocabulary import expected
from modeldeck.core.errors import DeckError
from modeldeck.core.schema import GenerateRequest, Instance, InstanceState, LoadOptions, Message
from modeldeck.tui.dashboard.screens.memory.history import SLOT_S
from modeldeck.tui.dashboard.screens.memory.screen import MemoryView
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.text.format import ASCII

TINY = "deck/tiny-GGUF:Q8_0"
OTHER = "deck/tiny-GGUF:F16"
BROKEN = "deck/broken-GGUF"

OPTIONS = LoadOptions(context_length=512, flash_attention=True, threads=1)


async def load(client: Client, *names: str) -> None:
    """Download and load these."""
    for name in names:
        await client.download(name)
    await client.feed.until(
        lambda s: {m.unique for m in s.models.values() if m.downloaded} >= set(names)
    )
    for name in names:
        await client.loaded(name, OPTIONS)


def table(screen: Any) -> Table[Instance]:
    found: Table[Instance] = screen.app.query_one("#memory Table", Table)
    return found


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_what_memory_was_is_drawn(screen: Any, size: tuple[int, int]) -> None:
    async with screen("memory", size=size) as at:
        await at.sees("RAM", "No model is loaded", " 0 ┼")
        ground = next(line for line in at.text.splitlines() if "┼" in line)
        assert any(level in ground for level in "▁▂▃▄▅▆▇█")
        assert ("memory in use" in at.text) == (size[1] == 40)
        ticks = [line.split("┤")[0].strip() for line in at.text.splitlines() if "┤" in line]
        total = at.state.memory.total_bytes / (1 << 30)
        assert float(ticks[0]) == pytest.approx(total, abs=0.06), "the top is all that there is"
        assert float(ticks[1]) == pytest.approx(total / 2, abs=0.06)
        if size[1] == 40:
            assert "not running" in at.text


async def test_the_history_goes_on_while_nothing_changes_and_is_drawn_with_its_clock(
    screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with screen("memory", size=(120, 40)) as at:
        await at.sees("No model is loaded", "not running")
        view: MemoryView = at.app.query_one(MemoryView)
        monkeypatch.setattr(MemoryView, "watch_state", lambda view: None)  # no news of the core
        await at.until(lambda: bool(view.past._minute) and not at.is_working)
        drawn: list[float] = []
        monkeypatch.setattr(MemoryView, "redraw", lambda view: drawn.append(time.monotonic()))
        begun = time.monotonic()

        def known(since: float) -> int:
            slots = int((time.monotonic() - since) / SLOT_S)
            past = view.past.machine.recent(time.monotonic(), slots, 1)
            return sum(value is not None for value in past)

        await at.until(lambda: known(begun) >= 3)
        assert len(drawn) <= 1, "at most once, as the minute may have passed"
        view.past._minute = ""
        drawn.clear()
        await at.until(lambda: len(drawn) > 0)


async def test_the_machine_is_shown_where_nothing_is_loaded(screen: Any) -> None:
    async with screen("memory") as at:
        await at.sees("RAM", " of ", "GiB", "Last ", "others", "free", "[m]", "█ weights")
        await at.sees("No model is loaded. Press 1", "Disk", "models", "free")


async def test_an_instance_shows_forecast_measured_and_speed(screen: Any) -> None:
    async def answer(client: Client) -> None:
        await load(client, TINY)
        asked = GenerateRequest(messages=(Message(role="user", content="Please count."),))
        async with client.generate(TINY, asked) as chunks:
            said = "".join([chunk.text async for chunk in chunks])
        assert said == expected("count")

    async with screen("memory", before=answer) as at:
        await at.sees("●", "tiny Q8_0", "llama.cpp", "512", "MiB", "idle", "MB in 1 [d list]")
        # Both figures may come after the last piece of the answer.
        await at.until(lambda: bool(table(at).items[0].measured_bytes))
        await at.until(lambda: bool(table(at).items[0].tokens_per_s))
        (instance,) = table(at).items
        assert f"{instance.tokens_per_s:.0f}"[:3] in at.text


async def test_the_cursor_bar_spans_the_row(screen: Any) -> None:
    async with screen("memory", size=(80, 24), before=lambda c: load(c, TINY)) as at:
        await at.sees("tiny Q8_0", "idle")
        lines = at.text.splitlines()
        y = next(y for y, line in enumerate(lines) if "tiny Q8_0" in line and "idle" in line)
        row = at.app.screen._compositor.render_strips()[y]
        grounds = [segment.style.bgcolor for segment in row.simplify() if segment.style]
        assert len({*grounds}) == 1, "to the last cell of the line"


async def test_unload_gives_the_memory_back_and_says_how_much(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY)) as at:
        await at.sees("tiny Q8_0", "idle")
        await at.press("u")
        await at.until(lambda: not at.state.instances)
        await at.sees("✓ Unloaded tiny Q8_0:", "MiB freed in", "0 loaded")
        await at.sees("No model is loaded.")


async def test_a_row_of_what_was_unloaded_from_another_view_can_be_drawn(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY)) as at:
        await at.sees("tiny Q8_0", "idle")
        hidden = table(at)
        await at.press("1")
        await at.app.link.client.unload_all()
        await at.until(lambda: not at.state.instances)
        assert hidden.items, "as they were: out of sight"
        hidden.render_line(1)  # as when the view comes to the front, before it is redrawn
        await at.press("3")
        await at.sees("No model is loaded.")


async def test_unload_acts_on_every_marked_row(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY, OTHER)) as at:
        await at.until(lambda: len(table(at).items) == 2)
        await at.press("space", "space", "u")
        await at.until(lambda: not at.state.instances)
        await at.until(lambda: any("Unloaded 2 models: " in m.text for m in at.app.messages))


async def test_unload_all_gives_one_receipt(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY, OTHER)) as at:
        await at.until(lambda: len(table(at).items) == 2)
        await at.press("U")
        await at.until(lambda: not at.state.instances)
        await at.sees("Unloaded 2 models: ")
        await at.press("U")
        await at.sees("No model is loaded.")


async def test_enter_shows_options_history_and_the_log_of_the_engine(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY)) as at:
        await at.sees("tiny Q8_0")
        await at.press("enter")
        await at.sees(TINY, "measured", "private", "peak", "history", "last 10 min")
        await at.sees("weights", "overhead", "pid", "loaded in", "flash attention on", "threads 1")
        await at.sees("llama")  # llama.cpp's own lines
        await at.press("escape")
        await at.until(lambda: "private" not in at.text)
        assert at.app.focused is table(at)


async def test_details_that_have_no_room_are_scrolled_to(screen: Any) -> None:
    async with screen("memory", size=(60, 15), before=lambda c: load(c, TINY)) as at:
        await at.sees("tiny Q8_0")
        await at.press("enter")
        details = at.app.query_one("#details", TextLines)
        await at.until(lambda: "measured" in details.plain and "J K scroll" in details.plain)
        assert "threads 1" not in details.plain
        while "threads 1" not in details.plain:  # the details may grow meanwhile
            await at.press("J")
        assert "measured" not in details.plain
        await at.press(*"K" * 20)
        await at.until(lambda: "measured" in details.plain)


async def test_what_is_open_goes_with_its_instance(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY)) as at:
        await at.sees("tiny Q8_0")
        await at.press("enter")
        await at.sees("peak")
        await at.press("u")
        await at.until(lambda: "peak" not in at.text)
        await at.sees("No model is loaded.")


async def test_a_failed_load_says_why_and_is_taken_off_the_list(screen: Any) -> None:
    async def fail(client: Client) -> None:
        repository = await client.repository(BROKEN)
        name = repository.variants[0].unique
        await client.download(name, force=True)
        await client.feed.until(
            lambda s: any(m.downloaded and m.unique == name for m in s.models.values())
        )
        with pytest.raises(DeckError):
            await client.loaded(name, OPTIONS, force=True)

    async with screen("memory", before=fail) as at:
        await at.sees("✗", "failed")
        assert table(at).items[0].state is InstanceState.FAILED
        await at.press("enter")
        await at.until(lambda: at.state.instances and "broken" in at.text)
        message = next(iter(at.state.instances.values())).error.message
        await at.sees(message.split()[0])
        await at.press("u")
        await at.until(lambda: not at.state.instances)
        await at.sees("Removed", "(failed) from the list")


async def test_a_load_shows_how_far_it_is_and_is_called_off(screen: Any, hub: DemoHub) -> None:
    async def fetched(client: Client) -> None:
        await client.download("deck/padded-GGUF:F16")
        await client.feed.until(
            lambda s: any(m.downloaded and "padded" in m.unique for m in s.models.values())
        )

    async with screen("memory", before=fetched) as at:
        await at.client.load("deck/padded-GGUF:F16", OPTIONS)
        await at.until(lambda: len(table(at).items) == 1)
        await at.sees("padded F16")
        await at.press("u")
        await at.until(lambda: not at.state.instances)


async def test_a_busy_instance_says_so(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY)) as at:
        asked = GenerateRequest(
            messages=(Message(role="user", content="Please count."),), max_tokens=100_000
        )

        async def answer() -> None:
            while True:
                async with at.client.generate(TINY, asked) as chunks:
                    async for _ in chunks:
                        pass

        busy = [asyncio.create_task(answer()) for _ in range(3)]
        await at.sees("answering", "Requests", "◐")
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await at.sees("idle")


async def test_history_grows_while_another_view_is_in_front(screen: Any) -> None:
    async with screen("catalog", size=(120, 40), before=lambda c: load(c, TINY)) as at:
        view = at.app.query_one("#memory")
        await at.until(lambda: bool(view.past._instances))
        await at.press("3")
        await at.sees("Last 10 minutes", "┼")
        line = next(line for line in at.text.splitlines() if "┼" in line)
        assert "not running" in line  # what was before is not known
        assert any(level in line for level in "▂▃▄▅▆▇█")


async def test_y_copies_the_name(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY)) as at:
        await at.sees("tiny Q8_0")
        await at.press("y")
        await at.sees(f"{TINY} copied")
        assert at.app.clipboard == TINY


async def test_verbs_on_an_empty_list_do_no_harm(screen: Any) -> None:
    async with screen("memory") as at:
        await at.press("u", "enter", "y", "i", "T", "escape", "U")
        await at.sees("No model is loaded.")


async def test_a_pinned_model_is_not_unloaded_with_all(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY, OTHER)) as at:
        await at.until(lambda: len(table(at).items) == 2)
        await at.press("g", "i")
        await at.sees("tiny Q8_0: pinned: only you can unload it", "pinned ")
        await at.press("U")
        await at.until(lambda: [i.unique for i in at.state.instances.values()] == [TINY])
        await at.press("U")
        await at.sees("All that is loaded is pinned; i unpins one.")
        await at.press("i")
        await at.sees("tiny Q8_0: unpinned")
        await at.until(lambda: not table(at).items[0].options.pinned)
        await at.press("U")
        await at.until(lambda: not at.state.instances)


async def test_what_is_marked_is_pinned_together(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY, OTHER)) as at:
        await at.until(lambda: len(table(at).items) == 2)
        await at.press("g", "i")
        await at.until(lambda: any(i.options.pinned for i in at.state.instances.values()))
        await at.press("g", "space", "space", "i")  # not all are: so all will be
        await at.until(lambda: all(i.options.pinned for i in at.state.instances.values()))
        assert not table(at).marks


async def test_the_idle_time_is_written_on_a_line(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY)) as at:
        await at.sees("tiny Q8_0")
        await at.press("T")
        await at.sees("Unload tiny Q8_0 when idle for", "empty for never")
        await at.press(*"soon", "enter")
        await at.sees("Not a time: 'soon'.")
        await at.press(*(["backspace"] * 4), *"1h30m", "enter")
        await at.sees("tiny Q8_0: unloaded after 1h30m idle")
        await at.until(
            lambda: [i.options.idle_ttl_s for i in at.state.instances.values()] == [5400]
        )
        await at.press("T")
        await at.sees("when idle for")
        await at.press("ctrl+u", "1", "s", "enter")
        await at.until(lambda: not at.state.instances)


async def test_the_memory_budget_is_set_and_lifted(screen: Any) -> None:
    async with screen("memory", before=lambda c: load(c, TINY)) as at:
        await at.sees("stays with the system [m]")
        await at.press("m")
        await at.sees("Memory for all models together", "empty for all that the machine has")
        await at.press(*"64 MiB", "enter")
        await at.sees("Budget: 64.0 MiB for models", "budget leaves")
        assert (await at.client.fit(OTHER, 512)).verdict == "too large"
        await at.press("m")
        await at.sees("Memory for all models together")
        await at.press("escape")
        assert at.state.settings.memory_budget_bytes == 64 << 20
        await at.until(lambda: at.app.focused is table(at))
        await at.press("m")
        await at.sees("Memory for all models together")
        await at.press("ctrl+u", "enter")
        await at.sees("No budget")
        await at.until(lambda: "as set" not in at.text)


async def test_partial_files_are_pruned_after_a_plan(screen: Any, hub: DemoHub) -> None:
    async def part(client: Client) -> None:
        hub.rate_bytes_per_s = 100_000
        _, job = await client.download("deck/padded-GGUF:F16")
        assert job is not None
        await client.feed.until(lambda s: s.downloads[job.id].received_bytes > 0)
        await client.cancel_download(job.id)

    async with screen("memory", before=part) as at:
        await at.sees("models 0 B in 0", "partial ")
        await at.press("P")
        await at.sees("Prune leftover partial files: ", "come back", "padded", "y delete ")
        await at.press("n")
        await at.until(lambda: "y delete " not in at.text)
        await at.press("P")
        await at.sees("y delete ")
        await at.press("y")
        await at.sees("Pruned leftover partial files")
        await at.until(lambda: "partial" not in at.text.split("Disk")[1].split("free")[0])
        await at.press("P")
        await at.sees("No leftover partial files.")


@pytest.mark.parametrize(
    ("size", "there", "gone"),
    [
        ((120, 40), ["runtime", "weights", "forecast", "measured", "error", "tok/s"], []),
        ((80, 24), ["forecast", "measured", "state"], ["weights", "runtime", "error"]),
        ((60, 15), ["measured", "state"], ["forecast", "weights"]),
    ],
)
async def test_columns_fall_away_by_rank(
    screen: Any, size: tuple[int, int], there: list[str], gone: list[str]
) -> None:
    async with screen("memory", size=size, before=lambda c: load(c, TINY)) as at:
        await at.sees("tiny Q8_0", "RAM", "Disk", *there)
        assert not [word for word in gone if word in at.text]
        await at.press("enter")
        await at.sees("history", "private")
        assert all(len(line) <= size[0] for line in at.text.splitlines())


async def test_it_is_drawn_in_ascii(screen: Any) -> None:
    async with screen("memory", glyphs=ASCII, before=lambda c: load(c, TINY)) as at:
        await at.sees("tiny Q8_0")
        await at.press("enter")
        await at.sees("tiny Q8_0", "history")
        view = at.app.query_one("#memory")
        lines = at.text.splitlines()[view.region.y : view.region.bottom]
        assert "".join(lines).isascii()
