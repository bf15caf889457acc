"""The table of what is loaded."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from modeldeck.core.schema import Forecast, LoadRecord, Model
from modeldeck.tui.dashboard.screens.memory.rows import empty

NOW = datetime.now().astimezone().replace(hour=16, minute=29)
FORECAST = Forecast(
    total_bytes=1, weights_bytes=1, kv_bytes=0, compute_bytes=0, overhead_bytes=0, exact=True
)
LOAD = LoadRecord(
    at=NOW.isoformat(), unique="deck/tiny-GGUF:Q8_0", engine="llama.cpp", context_length=4096,
    forecast=FORECAST, peak_bytes=64 << 20,
)  # fmt: skip
TINY = Model(
    id="1", unique=LOAD.unique, name="tiny Q8_0", quantization="Q8_0", format="gguf", source="hub"
)

KEYS = {"app.catalog": "F2", "catalog.load": "o"}.__getitem__
"""Keys as a person chose them."""


def test_an_empty_table_has_the_loads_of_today_by_short_names() -> None:
    before = replace(LOAD, at=(NOW - timedelta(days=1)).isoformat())
    lines = empty([LOAD, before], {"1": TINY}, NOW, KEYS).split("\n")
    assert lines[:3] == ["No model is loaded. Press F2, choose one, then o.", "", "Earlier today"]
    assert lines[3:] == ["16:29  tiny  4k context, took 64.0 MiB"]
    gone = empty([LOAD], {}, NOW, KEYS)
    assert "16:29  tiny-GGUF:Q8_0  " in gone
    assert "deck/" not in gone
    assert empty([before], {"1": TINY}, NOW, KEYS) == lines[0]
