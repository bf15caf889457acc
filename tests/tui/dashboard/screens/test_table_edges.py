"""Lists reach from edge to edge at every width, so that the cursor's bar spans the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldeck.core.client.client import Client
from modeldeck.tui.dashboard.widgets.table import Table
from tests.support.process import CoreProcess
from tests.tui.dashboard.screens.fleet.fleet_steps import CountedCore, opened, station

KEYS = {"downloads": "2", "memory": "3", "requests": "3r", "disk": "3d", "log": "5", "fleet": "6"}
"""Keys that show the views with one list; the catalog has its pane beside it where it is wide."""


@pytest.mark.usefixtures("undebugged")
@pytest.mark.parametrize("width", [60, 80, 120, 200])
async def test_lists_reach_from_edge_to_edge(core: CoreProcess, tmp_path: Path, width: int) -> None:
    cores = (CountedCore("", core.socket), CountedCore("nas", tmp_path / "nothing.sock"))
    stations = [station(cores[0]), station(cores[1], is_late=True)]
    async with (
        Client(socket=core.socket) as client,
        opened(stations, client, (width, 24)) as screen,
    ):
        await screen.until(lambda: screen.app.state is not None)
        for view, keys in KEYS.items():
            await screen.press(*keys)
            await screen.until(lambda view=view: screen.app.current == view)  # type: ignore[misc]
            table = screen.app.query_one(f"#{view} Table", Table)
            await screen.until(lambda table=table: table.region.width > 0)  # type: ignore[misc]
            assert table.region.x <= 1, view
            assert table.region.right >= width - 1, view
