"""Copying a model to another machine by a key, on two real cores with homes of their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from modeldeck.core.config.config import RemoteSettings, Tui
from modeldeck.core.demo.hub import DemoHub
from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.fleet import FleetMachine
from modeldeck.tui.remote.core_link import CoreLink
from modeldeck.tui.remote.remote_core import FixedCore
from modeldeck.tui.text.format import UNICODE
from tests.support.process import CoreProcess
from tests.tui.dashboard.conftest import Screen

TINY = "deck/tiny-GGUF:Q8_0"
PADDED = "deck/padded-GGUF:F16"
HEADER_BYTES = 2 << 20
"""What a machine may read of a model to tell whether it fits."""


@asynccontextmanager
async def fleet(*cores: CoreProcess) -> AsyncIterator[Screen]:
    """A dashboard of machines, each reached by its socket, at the Fleet."""
    stations = []
    for number, core in enumerate(cores, 1):
        host = FixedCore(f"gpu{number}", RemoteSettings(socket=str(core.socket)))
        stations.append(FleetMachine(host.name, CoreLink(host.attach), "socket", host))
    app = Dashboard(stations, glyphs=UNICODE, settings=Tui(), keymap={}, themes=theme.load(None))
    async with AsyncExitStack() as open_:
        client = await open_.enter_async_context(
            FixedCore("", RemoteSettings(socket=str(cores[1].socket))).attach()
        )
        pilot = await open_.enter_async_context(app.run_test(size=(120, 40)))
        screen = Screen(app=app, pilot=pilot, client=client)
        await screen.until(lambda: all(station.link.latest for station in stations))
        await screen.sees("every machine", "gpu2")
        yield screen


@pytest.fixture
def other(core: CoreProcess, hub: DemoHub, tmp_path: Path) -> Iterator[CoreProcess]:
    """A second machine, with nothing on it."""
    own = {"MODELDECK_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf")}
    with CoreProcess({**os.environ, **own, "HF_ENDPOINT": hub.url}) as other:
        yield other


async def fetched(core: CoreProcess, model: str) -> None:
    async with FixedCore("", RemoteSettings(socket=str(core.socket))).attach() as client:
        _, job = await client.download(model)
        assert job is not None
        await client.feed.until(lambda state: state.downloads[job.id].state == "completed")


async def test_a_model_is_copied_to_the_machine_under_the_cursor(
    core: CoreProcess, other: CoreProcess, hub: DemoHub, undebugged: None
) -> None:
    await fetched(core, PADDED)
    served = len(hub.log)
    async with fleet(core, other) as screen:
        await screen.client.change_settings(rate_limit_bytes_per_s=4_000_000)
        await screen.press("f")
        await screen.write(PADDED)
        await screen.press("enter")
        await screen.sees(f"where {PADDED} fits now")
        await screen.press("c")
        await screen.sees(f"{PADDED} is on gpu1 already.")
        await screen.press("j", "c")
        await screen.sees(f"Copy {PADDED} from gpu1 to gpu2: 33.4 MB over ssh.", "y copy it")
        await screen.press("y")
        await screen.sees("copying ", f"copying from gpu1: {PADDED}  downloading")
        await screen.press("c")
        await screen.sees("A copy to gpu2 is under way.")
        await screen.press("q")
        await screen.sees("A copy to gpu2 is under way, over a line", "y leave anyway")
        await screen.press("n")
        await screen.client.change_settings(rate_limit_bytes_per_s=None)
        await screen.sees(f"{PADDED} copied from gpu1 to gpu2: 33.4 MB in", "1 file verified")
        state = await screen.client.state()
        assert [m.unique for m in state.models.values() if m.downloaded] == [PADDED]
    sent = sum(entry.bytes_sent for entry in list(hub.log)[served:] if entry.origin == "storage")
    assert sent <= HEADER_BYTES, "nothing was downloaded again"


async def test_what_no_machine_has_cannot_be_copied(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    async with fleet(core, other) as screen:
        await screen.press("c")
        await screen.sees("Copy what to gpu1?")
        await screen.write(TINY)
        await screen.press("enter")
        await screen.sees(f"No other machine has {TINY}.", "d in the Catalog")


async def test_a_copy_that_is_cancelled_over_there_says_how_it_goes_on(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    await fetched(core, PADDED)
    async with fleet(core, other) as screen:
        await screen.client.change_settings(rate_limit_bytes_per_s=1_000_000)
        await screen.press("j", "c")
        await screen.write(PADDED)
        await screen.press("enter")
        await screen.sees("y copy it")
        await screen.press("y")
        await screen.sees("copying from gpu1")
        (job,) = (await screen.client.state()).downloads
        await screen.client.cancel_download(job)
        await screen.sees(f"The copy of {PADDED} was cancelled.", "c goes on")
