"""Every list is sorted by the same keys and clicks, and filtered by the same language."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.schema import (
    Download,
    DownloadState,
    Forecast,
    GenerateRequest,
    Instance,
    InstanceState,
    LoadOptions,
    Message,
)
from modeldeck.tui.dashboard.column_store import ColumnStore
from modeldeck.tui.dashboard.screens.disk import rows as disk
from modeldeck.tui.dashboard.screens.downloads import rows as downloads
from modeldeck.tui.dashboard.screens.log import rows as log
from modeldeck.tui.dashboard.screens.memory import rows as memory
from modeldeck.tui.dashboard.screens.requests import rows as requests
from modeldeck.tui.dashboard.widgets.column_choice import ColumnChoice
from modeldeck.tui.dashboard.widgets.filter_input import FilterInput
from modeldeck.tui.dashboard.widgets.row_order import ordered
from modeldeck.tui.dashboard.widgets.table import Table
from tests.tui.dashboard.screens.steps import F16, TINY, fetched
from tests.tui.dashboard.screens.test_disk import LISTING

OPTIONS = LoadOptions(context_length=512, flash_attention=True, threads=1)


async def used(client: Client) -> None:
    """Two models are here and loaded, each has answered, and the core lists that it has ended."""
    await fetched(TINY, F16)(client)
    before = (await client.state()).requests.keys()
    for length, name in enumerate((TINY, F16), 1):
        await client.loaded(name, OPTIONS)
        asked = GenerateRequest(
            messages=(Message(role="user", content="count"),), max_tokens=2 * length
        )
        async with client.generate(name, asked) as pieces:
            async for _ in pieces:
                pass
    # A reader has its last piece before the record of its request says so.
    await client.feed.until(
        lambda s: sum(not i.live for key, i in s.requests.items() if key not in before) == 2
    )


VIEWS = {
    "downloads": ("model", "q8", fetched(TINY, F16)),
    "memory": ("instance", "q8", used),
    "requests": ("out", "out>2", used),
    "log": ("text", "pears", None),
    "disk": ("name", "tiny", fetched(TINY)),
}
"""A column to sort by, a filter that some rows pass, and what happened before."""


async def ready(at: Any, view: str) -> Table[Any]:
    """The table of a view, with two rows at least."""
    if view == "log":
        at.app.say("apples")
        at.app.say("pears")
    found: Table[Any] = at.app.view.query_one(Table)
    await at.until(lambda: len(found.items) >= (1 if view == "disk" else 2))
    return found


def heads(at: Any, table: Table[Any]) -> str:
    """The line with the heads of the table."""
    return str(at.text.split("\n")[table.region.y])


def sorted_by(table: Table[Any], column: str) -> list[str]:
    """What stands in a column, from the top."""
    lines = [table._draw(row) for row in table.items]
    return [str(line.cells[column]) for line in lines if not line.rule]


@pytest.mark.parametrize("view", VIEWS)
async def test_a_click_on_a_head_sorts_and_a_second_one_reverses(
    screen: Any, view: str, tmp_path: Path
) -> None:
    column, _, before = VIEWS[view]
    size = (150, 40)
    async with screen(view, before=before, columns=ColumnStore(tmp_path), size=size) as at:
        table = await ready(at, view)
        title = next(c.title for c in table.columns if c.key == column)
        orders = []
        for sign in "▲▼":
            x = heads(at, table).index(title) - table.region.x
            await at.pilot.click(table, offset=(x, 0))
            await at.until(lambda sign=sign: f"{title}{sign}" in heads(at, table))
            await at.pilot.pause()
            orders.append(sorted_by(table, column))
        assert orders[0] == orders[1][::-1]
        await at.press("o")
        await at.sees("enter sort, again reverses")
        await at.press("escape")
        # Each click writes the file anew: that of the first one may still be there.
        await at.until(lambda: ColumnStore(tmp_path).choice(view) == table.choice)
    async with screen(view, before=before, columns=ColumnStore(tmp_path), size=size) as at:
        await at.sees(f"{title}▼")


@pytest.mark.parametrize("view", VIEWS)
async def test_words_and_tests_filter_and_the_footer_names_the_keys(screen: Any, view: str) -> None:
    _, words, before = VIEWS[view]
    async with screen(view, before=before, size=(120, 40)) as at:
        table = await ready(at, view)
        total, line = len(table.items), table.region.y
        await at.press("slash")
        await at.sees("enter keep", "esc clear", "tab complete", "tab  ")
        assert "? help" not in at.text.split("\n")[-1], "letters are no keys now"
        assert table.region.y == line, "nothing moves for the filter"
        await at.write(words)
        await at.until(lambda: 0 < len(table.items) < total or view == "disk")
        await at.sees(" of ")
        await at.press("enter")
        await at.until(lambda: table.has_focus and "enter keep" not in at.text)
        assert at.app.view.query_one(FilterInput).value == words
        await at.press("slash", *" surely-not-there")
        await at.sees("No match.")
        await at.press("escape")
        await at.until(lambda: len(table.items) >= total and "enter keep" not in at.text)
        assert table.has_focus


def job(name: str, state: DownloadState, **more: Any) -> downloads.DownloadRow:
    made = Download(id=name, model_id=name, unique=name, repo="o/r", revision="1", state=state)
    return downloads.DownloadRow(replace(made, **more), name)


JOBS = [
    job("b", "downloading", total_bytes=10_000_000_000, received_bytes=5_000_000_000, eta_s=90.0),
    job("a", "failed", total_bytes=2_000_000_000),
    job("c", "completed", total_bytes=4_000_000_000, received_bytes=4_000_000_000, seconds=1.0),
    job("d", "paused", total_bytes=8_000_000_000, received_bytes=1_000_000_000),
]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("failed", "a"),
        ("-failed", "bcd"),
        ("size>5G", "bd"),
        ("done>=50 active", "b"),
        ("left<2", "b"),
        ("rate>1G", "c"),
        ("ended", "ac"),
        ("from:o/r paused", "d"),
    ],
)
def test_downloads_are_filtered(words: str, found: str) -> None:
    passes = downloads.LANGUAGE.parse(words).matches
    assert "".join(row.job.id for row in JOBS if passes(row)) == found


@pytest.mark.parametrize(
    ("sort", "order"),
    [("model", "abcd"), ("state", "bdac"), ("bar", "adbc"), ("rate", "cbad"), ("left", "bacd")],
)
def test_downloads_are_sorted(sort: str, order: str) -> None:
    found = ordered(JOBS, ColumnChoice(sort=sort), downloads.VALUES)
    assert "".join(row.job.id for row in found) == order


def forecast(total: int) -> Forecast:
    return Forecast(
        total_bytes=total, weights_bytes=total // 2, kv_bytes=total // 4, compute_bytes=0,
        overhead_bytes=0, exact=True,
    )  # fmt: skip


def instance(name: str, **more: Any) -> memory.MemoryRow:
    values = {"state": InstanceState.READY, "engine": "llama.cpp", **more}
    return memory.MemoryRow(Instance(id=name, model_id=name, unique=name, **values), name)


GIB = 1 << 30
LOADED = [
    instance("b", measured_bytes=9 * GIB, forecast=forecast(8 * GIB), idle_s=600.0),
    instance("a", state=InstanceState.BUSY, measured_bytes=2 * GIB, tokens_per_s=4.0),
    instance("c", engine="mlx", options=LoadOptions(pinned=True), context_length=40960),
]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("memory>8", "b"),
        ("idle", "bc"),
        ("idle>5", "b"),
        ("-idle tok/s<5", "a"),
        ("pinned", "c"),
        ("runtime:mlx ctx>=32k", "c"),
        ("forecast<9", "b"),
    ],
)
def test_loaded_models_are_filtered(words: str, found: str) -> None:
    passes = memory.LANGUAGE.parse(words).matches
    assert "".join(row.instance.id for row in LOADED if passes(row)) == found


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("instance", "abc"),
        ("measured", "abc"),
        ("state", "abc"),
        ("engine", "bac"),
        ("speed", "abc"),
        ("context", "cba"),
        ("kv", "bac"),
    ],
)
def test_loaded_models_are_sorted(sort: str, order: str) -> None:
    found = ordered(LOADED, ColumnChoice(sort=sort), memory.VALUES)
    assert "".join(row.instance.id for row in found) == order


def test_every_title_of_a_list_sorts() -> None:
    for columns, sortable in (
        (downloads.COLUMNS, downloads.SORTABLE),
        (memory.COLUMNS, memory.SORTABLE),
        (disk.COLUMNS, disk.SORTABLE),
        (requests.COLUMNS, requests.SORTABLE),
        ((*log.COLUMNS, log.columns(log.AUDIT, wide=True)[2]), log.SORTABLE),
    ):
        assert {column.key for column in columns if column.title} == set(sortable)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("size>4G", []),
        ("small", ["a/small"]),
        ("detached", ["B/large"]),
        ("used>=1", ["a/small", "B/large", "c/middle"]),
        ("used>=11", ["c/middle"]),
        ("model:q1", ["B/large"]),
    ],
)
def test_repositories_are_filtered(words: str, found: list[str]) -> None:
    at = 100 + 11 * 86_400
    passes = disk.language(at).parse(words).matches
    rows = disk.rows(LISTING, ColumnChoice(sort="name"), passes)
    assert [row.id for row in rows if row.revision is None] == found
