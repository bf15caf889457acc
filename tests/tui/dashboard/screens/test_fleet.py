"""One line per machine, as it is drawn."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from rich.style import Style
from rich.text import Text

from modeldeck.core.errors import CoreUnreachable, NotFound
from modeldeck.core.schema import (
    Disk,
    Download,
    Fit,
    Forecast,
    Host,
    Instance,
    InstanceState,
    Memory,
    Runtime,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.fleet.rows import COLUMNS, MachineRow, about, line
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.columns import arrange
from modeldeck.tui.remote.core_link import LinkState, LinkStatus
from modeldeck.tui.text.format import UNICODE

LIVE = LinkStatus(state=LinkState.LIVE, round_trip_s=0.31)
STATE = State(
    host=Host(name="box", version="1.2.3", started_at="2026-01-01T00:00:00Z", platform="linux x"),
    memory=Memory(total_bytes=64 << 30, available_bytes=46 << 30),
    disk=Disk(free_bytes=212_000_000_000),
    runtimes=(Runtime(name="llama.cpp", available=True), Runtime(name="mlx")),
    downloads={
        "a": Download(id="a", model_id="m", unique="o/r:Q", repo="o/r", revision="0" * 40,
                      state="downloading", rate_bytes_per_s=41e6),
        "b": Download(id="b", model_id="n", unique="o/s:Q", repo="o/s", revision="0" * 40,
                      state="queued"),
    },
    instances={
        "i": Instance(id="i", model_id="m", unique="Qwen/Qwen3-8B:Q4", engine="llama.cpp",
                      state=InstanceState.READY),
    },
)  # fmt: skip
ROW = MachineRow(at=1, name="gpu1", way="ssh", status=LIVE, state=STATE)


@pytest.fixture
def inks() -> ThemeStyles:
    return ThemeStyles(**{field.name: Style() for field in fields(ThemeStyles)})


def cells(row: MachineRow, inks: ThemeStyles) -> dict[str, str]:
    shown = line(row, UNICODE, inks).cells.items()
    return {key: cell.plain if isinstance(cell, Text) else str(cell) for key, cell in shown}


def test_a_machine_tells_all_on_one_line(inks: ThemeStyles) -> None:
    assert cells(ROW, inks) == {
        "sign": "✓",
        "machine": "gpu1",
        "reached": "ssh 310 ms",
        "fit": "",
        "engines": "llama.cpp",
        "memory": "18.0 of 64.0 GiB",
        "disk": "212 GB",
        "downloads": "↓ 41.0 MB/s (1 +1)",
        "loaded": "Qwen3-8B:Q4",
    }


def test_a_machine_that_is_lost_keeps_what_was_known_and_says_why(inks: ThemeStyles) -> None:
    error = CoreUnreachable("gpu1 cannot be reached.", "Look at it.", details=("a word",))
    row = replace(ROW, status=LinkStatus(state=LinkState.LOST, error=error))
    drawn = line(row, UNICODE, inks)
    assert drawn.dim
    assert cells(row, inks)["reached"] == "lost"
    assert cells(row, inks)["memory"] == "18.0 of 64.0 GiB"
    assert [text.plain for text in about(row, inks)] == [
        "gpu1 cannot be reached.", "  a word", "Look at it.",
    ]  # fmt: skip


def test_what_was_never_there_has_nothing_but_its_name(inks: ThemeStyles) -> None:
    row = MachineRow(
        at=0, name="x", way="ssh", status=LinkStatus(state=LinkState.FAILED), state=None
    )
    assert cells(row, inks) == {"sign": "✗", "machine": "x", "reached": "unreachable", "fit": ""}
    assert about(row, inks) == []


NEEDS = Forecast(
    total_bytes=6 << 30, weights_bytes=0, kv_bytes=0, compute_bytes=0, overhead_bytes=0, exact=True
)
FITS = Fit(verdict="fits", forecast=NEEDS, available_bytes=9 << 30, exact=True)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "◐"),
        (FITS, "fits 6.0 GiB"),
        (replace(FITS, verdict="too large"), "too large"),
        (NotFound("There is no such model."), "There is no such model."),
    ],
)
def test_where_a_model_fits(answer: Fit | NotFound | None, words: str, inks: ThemeStyles) -> None:
    assert cells(replace(ROW, asked=True, fit=answer), inks)["fit"] == words


@pytest.mark.parametrize(("width", "kept"), [(114, len(COLUMNS)), (76, 5), (56, 4)])
def test_columns_fall_away_where_it_is_narrow(width: int, kept: int) -> None:
    slots = arrange(COLUMNS, width)
    assert len(slots) >= kept
    assert {"sign", "machine"} <= {slot.column.key for slot in slots}
