"""What every test of the front end has: a terminal of all colours, whatever runs the tests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from textual.app import App
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import Conflict, NotFound
from modeldeck.core.schema.state import State
from tests.support.process import CoreProcess

PATIENCE_S = 60.0
"""How long a test waits for what has to come."""

MOMENT_S = 0.01
"""For what other threads and sockets bring, and timers of a frame."""

_PARSED: dict[tuple[object, ...], list[RuleSet]] = {}
"""Rules by the variables of the theme and the style sheet they were parsed from."""


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a good terminal on this machine; tests take away what they want gone."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    for name in ("NO_COLOR", "SSH_CONNECTION", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def undebugged() -> None:
    """Textual's tasks, hundreds for each key, take a third longer where asyncio looks on."""
    asyncio.get_running_loop().set_debug(False)


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot waits until the dashboard has nothing more to do.

    Textual takes the processor's time of the whole process for that: it waits a whole second where
    a hub works in a thread beside it, or where the machine is slow.
    """
    monkeypatch.setattr("textual.pilot.wait_for_idle", _nothing_to_do)


async def _nothing_to_do(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Wait until nothing is ready to run in this loop; times in seconds.

    Moments are counted, not the time that passed: where this process gets no processor for
    `max_sleep`, nothing of what is to be waited for has run either.
    """
    loop: Any = asyncio.get_running_loop()
    for moment in itertools.count(1):
        await asyncio.sleep(MOMENT_S)
        waited = moment * MOMENT_S
        if waited >= max_sleep or (waited >= min_sleep and not loop._ready):
            return


@pytest.fixture(autouse=True)
def workers_end_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot removes the widgets while workers run, which the app ends first when it is left."""
    shut_down = App._shutdown

    async def shut_down_alone(app: App[Any]) -> None:
        app.workers.cancel_all()
        await shut_down(app)

    monkeypatch.setattr(App, "_shutdown", shut_down_alone)


@pytest.fixture(autouse=True)
def parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual parses the style sheets of all widgets twice for each app: always the same ones."""
    parse = Stylesheet._parse_rules

    def remembered(self: Stylesheet, *sheet: Any, **about: Any) -> list[RuleSet]:
        key = (frozenset(self._variables.items()), sheet, *sorted(about.items()))
        if key not in _PARSED:
            _PARSED[key] = parse(self, *sheet, **about)
        return _PARSED[key]

    monkeypatch.setattr(Stylesheet, "_parse_rules", remembered)


@pytest.fixture
def tidy_core(
    shared_core: CoreProcess, shared_hub: DemoHub, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CoreProcess]:
    """The module's core as that of this person; what a test leaves in it is taken away again."""
    monkeypatch.setenv("MODELDECK_HOME", str(shared_core.home))
    monkeypatch.setenv("HF_HOME", str(shared_core.home.parent / "hf"))
    yield shared_core
    asyncio.run(emptied(shared_core, shared_hub))


async def emptied(core: CoreProcess, hub: DemoHub) -> None:
    """Take away what a test left: nothing loaded, no files, no jobs, an honest hub."""
    hub.online, hub.rate_bytes_per_s, hub.latency_s = True, None, 0.0
    hub.faults.clear()
    async with asyncio.timeout(PATIENCE_S), Client(socket=core.socket) as client:
        while not is_empty(state := await client.state()):
            with suppress(Conflict, NotFound):  # it came to its own end meanwhile: look again
                await take_away(client, state)
            await asyncio.sleep(0.02)
        await client.change_settings(
            memory_budget_bytes=None,
            rate_limit_bytes_per_s=None,
            schedule={},
            give_way=False,
            jobs_at_once=2,
        )
        for model in (await client.state()).settings.load_defaults:
            await client.forget_defaults(model)


def is_empty(state: State) -> bool:
    """Whether a core is as its first test found it."""
    models = state.models.values()
    left = any(m.custom or (m.downloaded and not m.local) for m in models)
    return not (state.instances or state.downloads or left)


async def take_away(client: Client, state: State) -> None:
    """Unload, cancel and delete all of it. Raises Conflict or NotFound for what ended by itself."""
    for instance in state.instances.values():
        await client.unload(instance.id)
    for job in state.downloads.values():
        await client.cancel_download(job.id, discard=True)
        await client.remove_download(job.id)
    here = [m.id for m in state.models.values() if m.downloaded and not m.local]
    if here:
        await client.delete_cached(here, force=True)
    for model in state.models.values():
        if model.custom:
            await client.delete_model(model.id)
