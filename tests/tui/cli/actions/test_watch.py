"""Following a core: its events as lines, and waiting for a model."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sysconfig
from pathlib import Path

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import Corrupt, EngineFailed, TimedOut
from modeldeck.core.schema import (
    Download,
    ErrorInfo,
    Host,
    Instance,
    InstanceState,
    Model,
    model_id,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.cli.actions.watch import reached, wait
from modeldeck.tui.cli.output import Output
from tests.support.process import CoreProcess

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")
TINY = "deck/tiny-GGUF:Q8_0"
MODEL = Model(
    id=model_id(TINY), unique=TINY, name="Tiny", format="gguf", source="hub", downloaded=False
)
HERE = Model(
    id=model_id(TINY), unique=TINY, name="Tiny", format="gguf", source="hub", downloaded=True
)


def state(model: Model = MODEL, **more: object) -> State:
    host = Host(name="box", version="1", started_at="2026-01-01T00:00:00Z")
    return State(host=host, models={model.id: model}, **more)  # type: ignore[arg-type] # by name


def job(word: str, error: ErrorInfo | None = None) -> dict[str, Download]:
    found = Download(
        id="d", model_id=MODEL.id, unique=TINY, repo="deck/tiny-GGUF", revision="0" * 40,
        state=word, error=error,  # type: ignore[arg-type] # one of the words
    )  # fmt: skip
    return {"d": found}


def instance(word: InstanceState) -> dict[str, Instance]:
    return {"i": Instance(id="i", model_id=MODEL.id, unique=TINY, state=word, engine="llama.cpp")}


@pytest.mark.parametrize(
    ("now", "wanted", "there"),
    [
        (state(), "downloaded", False),
        (state(downloads=job("downloading")), "downloaded", False),
        (state(downloads=job("paused")), "downloaded", False),
        (state(HERE), "downloaded", True),
        (state(HERE, downloads=job("failed")), "downloaded", True),
        (state(HERE), "loaded", False),
        (state(HERE, instances=instance(InstanceState.STARTING)), "loaded", False),
        (state(HERE, instances=instance(InstanceState.BUSY)), "loaded", True),
        (state(HERE, instances=instance(InstanceState.BUSY)), "unloaded", False),
        (state(HERE, instances=instance(InstanceState.STOPPING)), "unloaded", False),
        (state(HERE), "unloaded", True),
    ],
)
def test_a_model_is_where_it_is_wanted_or_not_yet(now: State, wanted: str, there: bool) -> None:
    assert reached(now, MODEL, wanted) is there


def test_what_will_not_happen_by_itself_is_not_waited_for() -> None:
    corrupt = ErrorInfo(code="corrupt", message="It is not what it should be.")
    with pytest.raises(Corrupt):
        reached(state(downloads=job("failed", corrupt)), MODEL, "downloaded")
    with pytest.raises(EngineFailed):
        reached(state(HERE, instances=instance(InstanceState.FAILED)), MODEL, "loaded")


def test_a_wait_ends_with_the_download_or_with_its_time(core: CoreProcess, hub: DemoHub) -> None:
    async def act() -> None:
        async with Client(socket=core.socket) as client:
            model, _ = await client.download(TINY)
            await wait(client, Output(json=True), model.id, "downloaded", None)
            assert (await client.model(TINY)).downloaded
            with pytest.raises(TimedOut):
                await wait(client, Output(json=True), model.id, "loaded", 0.05)

    asyncio.run(act())


def test_events_are_lines_until_ctrl_c_and_go_on_after_a_restart(core: CoreProcess) -> None:
    with subprocess.Popen(
        [PROGRAM, "events", "--only", "state"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as events:  # fmt: skip
        assert events.stdout is not None
        assert events.stderr is not None
        first = json.loads(events.stdout.readline())
        core.restart()
        second = json.loads(events.stdout.readline())
        events.send_signal(signal.SIGINT)
        _, said = events.communicate()
    assert (first["event"], second["event"]) == ("state", "state")
    assert first["host"]["pid"] != second["host"]["pid"]
    assert events.returncode == 130
    assert "went away" in said
    assert "Traceback" not in said


def test_whoever_has_read_enough_ends_the_events_without_a_word(core: CoreProcess) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{PROGRAM} events | head -n 1 | cut -c 1-16; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ('{"event":"state"\n', "")
    assert done.returncode == 0


def test_without_a_core_there_are_no_events(home: Path) -> None:
    done = subprocess.run([PROGRAM, "events"], capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert "No core is running" in done.stderr
    unknown = subprocess.run(
        [PROGRAM, "events", "--only", "oops"], capture_output=True, text=True, check=False
    )
    assert unknown.returncode in (2, 7)
