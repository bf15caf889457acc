"""Fleet on real cores: machines that are connected to late, and which would serve a model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.schema import LoadOptions
from modeldeck.tui.dashboard.screens.fleet import question
from tests.support.process import CoreProcess
from tests.tui.dashboard.conftest import Open, Screen
from tests.tui.dashboard.screens.fleet.fleet_steps import (
    TINY,
    CountedCore,
    fetched,
    fleet,
    opened,
    station,
)


async def asks(screen: Screen, model: str) -> None:
    """Ask which machine would serve a model."""
    await screen.press("f")
    await screen.sees("Which machine would serve?")
    await screen.write(model)
    await screen.press("enter")


async def test_machines_of_the_configuration_are_connected_to_when_fleet_is_opened(
    core: CoreProcess, other: CoreProcess, tmp_path: Path, undebugged: None
) -> None:
    here, far = CountedCore("", core.socket), CountedCore("studio", other.socket)
    nas = CountedCore("nas", tmp_path / "nothing.sock")
    stations = [station(here), station(far, is_late=True), station(nas, is_late=True)]
    async with Client(socket=core.socket) as client, opened(stations, client) as screen:
        await screen.until(lambda: screen.app.state is not None)
        await screen.sees("1 Catalog", "6 Fleet", "d download")
        assert screen.app.current == "catalog"
        assert (here.attached, far.attached, nas.attached) == (1, 0, 0)
        await screen.press("6")
        await screen.until(lambda: bool(re.search("● studio +socket", screen.text)))
        await screen.sees("3 machines", "unreachable", "r tries again.")
        assert re.search(f"● {screen.state.host.name} ", screen.text)
        await screen.press("1", "6")
        await screen.sees("3 machines")
        assert (here.attached, far.attached, nas.attached) == (1, 1, 1), "the first visit only"
        await screen.press("G")
        await screen.sees("r again")
        await screen.press("r")
        await screen.until(lambda: nas.attached == 2)
        await screen.press("g", "j")
        await screen.until(lambda: "r again" not in screen.text)
        await screen.press("enter")
        await screen.sees(" studio (socket", "BGE Small")


async def test_going_to_a_machine_connects_to_it(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    far = CountedCore("studio", other.socket)
    stations = [station(CountedCore("", core.socket)), station(far, is_late=True)]
    async with Client(socket=core.socket) as client, opened(stations, client) as screen:
        await screen.until(lambda: screen.app.state is not None)
        await screen.press("ctrl+o")
        await screen.sees(" studio (socket", "BGE Small")
        assert far.attached == 1
        await screen.press("colon")
        await screen.write("@local")
        await screen.press("enter")
        await screen.until(lambda: screen.app.station is stations[0])


async def test_machines_say_how_they_would_serve_and_the_answer_stays(
    core: CoreProcess, other: CoreProcess, undebugged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fetched(core, TINY)
    monkeypatch.setattr(question, "ANSWER_S", 3600.0)
    async with fleet(core, other) as screen:
        await asks(screen, "tiny")
        await screen.sees("which would serve tiny at 4k?", "1st fits", "2nd downloads")
        await screen.press("j")
        await screen.sees("gpu2  It downloads the model first.")
        await fetched(other, TINY)
        await screen.client.loaded(TINY, LoadOptions(context_length=2048))
        await screen.until(lambda: bool(re.search("● gpu2 .* tiny", screen.text)))
        assert "1st fits" in screen.text, "an answer stays for a while"
        monkeypatch.setattr(question, "ANSWER_S", 0.0)
        await screen.sees("2nd fits", "1st loaded")
        await asks(screen, "tiny at 4k")
        await screen.sees("which would serve tiny at 4k?", "1st fits", "2nd unloads")


async def test_what_the_person_prefers_comes_first_among_equals(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    stations = [
        station(CountedCore("a", core.socket)),
        station(CountedCore("b", other.socket), prefer=1),
    ]
    async with Client(socket=core.socket) as client, opened(stations, client, (60, 15)) as screen:
        await screen.until(lambda: all(each.link.latest for each in stations))
        await asks(screen, TINY)
        await screen.until(lambda: "1st downloads" in screen.text and "2nd" in screen.text)
        assert re.search("● b +1st downloads", screen.text)


async def test_a_machine_that_goes_away_serves_no_more(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    async with fleet(core, other) as screen:
        await asks(screen, TINY)
        await screen.sees("1st downloads", "2nd downloads")
        other.stop()
        await screen.sees("unreachable", "Its last state was seen at", "1st downloads")
        assert "2nd" not in screen.text


async def test_no_model_asks_about_none(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    async with fleet(core, other) as screen:
        await asks(screen, "no-model-of-that-name")
        await screen.sees("no such model", "There is no model")
        await screen.press("f")
        await screen.sees("Which machine would serve?")
        await screen.press("backspace", "enter")
        await screen.sees("f asks which would serve a model")


async def test_without_machines_fleet_says_how_to_name_one(screen: Open) -> None:
    async with screen("catalog") as shown:
        assert "6 Fleet" not in shown.text
        await shown.press("colon", *"fleet", "enter")
        await shown.sees("No other machine is named: add [hosts] to the configuration")


async def test_keys_behind_the_one_for_another_machine_wait_for_its_screens(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    async with fleet(core, other) as screen:
        screen.type("ctrl+o", "question_mark")
        await screen.sees("─ Keys ─")
        assert screen.app.station is screen.app.stations[1]
        assert not any("failed" in message.text for message in screen.app.messages)


async def test_going_into_the_machine_that_is_shown_keeps_its_screens(
    core: CoreProcess, other: CoreProcess, undebugged: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[int] = []
    async with fleet(core, other) as screen:
        monkeypatch.setattr(screen.app, "go", gone.append)
        await screen.press("enter")
        await screen.until(lambda: screen.app.current == "catalog")
        assert not gone


async def test_going_to_a_machine_asks_before_what_was_written_is_lost(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    async with fleet(core, other) as screen:
        stations = screen.app.stations
        await screen.press("4", "i")
        await screen.write("unsent")
        await screen.press("escape", "ctrl+o")
        await screen.sees("What is written in Chat was not sent.", "y go anyway  n esc stay here")
        await screen.press("n")
        await screen.until(lambda: screen.app.question is None)
        assert screen.app.station is stations[0]
        await screen.sees("unsent")
        await screen.press("ctrl+o")
        await screen.sees("y go anyway")
        await screen.press("y")
        await screen.until(lambda: screen.app.station is stations[1])
