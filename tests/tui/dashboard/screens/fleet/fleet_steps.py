"""A dashboard of several machines, each a core that is reached by its socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from modeldeck.core.client.client import Client
from modeldeck.core.config.config import RemoteSettings, Tui
from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.fleet import FleetMachine
from modeldeck.tui.dashboard.options import DashboardOptions
from modeldeck.tui.remote.core_link import CoreLink
from modeldeck.tui.remote.remote_core import FixedCore
from modeldeck.tui.text.format import UNICODE
from tests.support.process import CoreProcess
from tests.tui.dashboard.conftest import Screen

TINY = "deck/tiny-GGUF:Q8_0"
PADDED = "deck/padded-GGUF:F16"


class CountedCore(FixedCore):
    """A core on a socket that counts how often it was attached to."""

    def __init__(self, name: str, socket: Path) -> None:
        super().__init__(name, RemoteSettings(socket=str(socket)))
        self.attached = 0

    @asynccontextmanager
    async def attach(self) -> AsyncIterator[Client]:
        """A client of the core."""
        self.attached += 1
        async with super().attach() as client:
            yield client


def station(host: FixedCore, *, is_late: bool = False, prefer: int = 0) -> FleetMachine:
    """A machine of the dashboard."""
    link = CoreLink(host.attach)
    return FleetMachine(host.name, link, "socket", host, is_late=is_late, prefer=prefer)


@asynccontextmanager
async def opened(
    stations: Sequence[FleetMachine], client: Client, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[Screen]:
    """A dashboard of these machines."""
    options = DashboardOptions(glyphs=UNICODE, settings=Tui(), keymap={}, themes=theme.load(None))
    app = Dashboard(stations, options)
    async with app.run_test(size=size) as pilot:
        yield Screen(app=app, pilot=pilot, client=client)


@asynccontextmanager
async def fleet(*cores: CoreProcess) -> AsyncIterator[Screen]:
    """A dashboard of machines that were named, at the Fleet, with a client of the second."""
    stations = [
        station(CountedCore(f"gpu{number}", core.socket)) for number, core in enumerate(cores, 1)
    ]
    async with AsyncExitStack() as open_:
        client = await open_.enter_async_context(Client(socket=cores[1].socket))
        screen = await open_.enter_async_context(opened(stations, client))
        await screen.until(lambda: all(each.link.latest for each in stations))
        await screen.sees("2 machines", "gpu2")
        yield screen


async def fetched(core: CoreProcess, model: str) -> None:
    """Have a core download a model."""
    async with Client(socket=core.socket) as client:
        _, job = await client.download(model)
        assert job is not None
        await client.feed.until(lambda state: state.downloads[job.id].state == "completed")
