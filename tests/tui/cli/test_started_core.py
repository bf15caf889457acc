"""Commands that start a core themselves, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core import errors
from modeldeck.core.client import daemon
from modeldeck.core.client.client import Client
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.hub import DemoHub
from modeldeck.tui.cli.actions import models
from modeldeck.tui.cli.output import Output
from modeldeck.tui.text import records
from tests.support.process import CoreProcess
from tests.tui.cli.as_script import PADDED, PROGRAM, TINY, Command, interrupted_pull


@pytest.fixture
def hub(shared_hub: DemoHub) -> DemoHub:
    """The hub of all tests here."""
    return shared_hub


@pytest.fixture
def alone(home: Path, hub: DemoHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home where no core runs, and a hub for the one that will."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("MODELDECK_API_PORT", "0")
    return home


def test_a_core_is_started_when_needed_and_ends_when_idle(alone: Path, modeldeck: Command) -> None:
    listed = modeldeck("ls", "--json")
    assert len(listed.json) > 40
    assert listed.err == ""
    assert not locate().socket.exists()
    assert modeldeck("status", "--json", code=7).json == {"running": False}
    assert "modeldeck serve" in modeldeck("status", code=7).err
    assert modeldeck("stop").out == "No core was running.\n"


def test_a_core_that_has_something_to_do_stays(alone: Path, modeldeck: Command) -> None:
    modeldeck("pull", TINY)
    loaded = modeldeck("load", TINY, "-c", "512")
    assert "`modeldeck stop` ends it" in loaded.err
    try:
        assert "1 loaded" in modeldeck("status", "--line").out
        assert "modeldeck" in modeldeck("status").out
    finally:
        assert modeldeck("stop", "--json").json == {"stopped": True}
    assert asyncio.run(daemon.find(locate())) is None


def test_ctrl_c_in_a_pull_that_started_the_core_names_both_ways_out(
    alone: Path, hub: DemoHub, modeldeck: Command
) -> None:
    hub.rate_bytes_per_s = 50_000  # of each connection: it takes minutes
    err = interrupted_pull(PADDED)
    assert "pull --cancel" in err
    assert "The core keeps running: a download is running. `modeldeck stop` ends it." in err
    assert f"download   {PADDED}" in modeldeck("status").out
    modeldeck("stop")
    hub.rate_bytes_per_s = None
    assert modeldeck("pull", PADDED, "--json").json["download"]["state"] == "completed"


def test_a_core_that_dies_in_mid_pull_is_said(
    core: CoreProcess,
    hub: DemoHub,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.rate_bytes_per_s = 50_000  # of each connection: it takes minutes
    monkeypatch.setattr(models, "PATIENCE_S", 0.0)

    async def pull() -> None:
        async with Client(socket=core.socket) as client:
            await models.pull(client, Output(), [PADDED], detach=False)

    async def killed() -> None:
        followed = asyncio.Event()

        def line(*given: Any) -> Any:
            followed.set()
            return drawn(*given)

        drawn = records.download
        monkeypatch.setattr(records, "download", line)
        pulling = asyncio.create_task(pull())
        pulling.add_done_callback(lambda _: followed.set())  # a failure is told below
        await followed.wait()
        core.kill()
        with pytest.raises(errors.CoreUnreachable, match="went away"):
            await pulling

    asyncio.run(killed())
    assert PADDED in capfd.readouterr().out
    core.start()


def test_serve_prints_one_line_of_json_when_it_answers(alone: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "serve", "--port", "0", "--ready-json"], stdout=subprocess.PIPE, text=True
    ) as core:
        assert core.stdout is not None
        ready = json.loads(core.stdout.readline())
        assert ready["ready"] is True
        assert ready["home"] == os.environ["MODELDECK_HOME"]
        assert ready["hub"] == os.environ["HF_ENDPOINT"]
        assert Path(ready["socket"]).is_socket()
        assert ready["url"].startswith("http://127.0.0.1:")
        core.terminate()
        assert core.stdout.read() == ""
    assert core.returncode == 0


def test_bad_lines_of_the_configuration_are_named_and_do_not_stop_it(
    alone: Path, modeldeck: Command
) -> None:
    locate().config.mkdir(parents=True)
    locate().config_file.write_text("[api]\nprot = 1\n")
    with subprocess.Popen(
        [PROGRAM, "serve", "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as core:  # fmt: skip
        assert core.stdout is not None
        assert core.stderr is not None
        assert "answers on" in core.stdout.readline()
        assert "config.toml:2" in core.stderr.readline()
        assert "config.toml:2" in modeldeck("status").out
        core.terminate()
    assert core.returncode == 0
