"""A core in a process of its own: started, killed, started again, refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import CoreUnreachable
from tests.support.process import CoreProcess


def host(core: CoreProcess) -> dict[str, object]:
    found: dict[str, object] = httpx.get(f"{core.url}/deck/state").json()["host"]
    return found


def test_it_answers_knows_the_hub_and_comes_back_after_a_kill(
    core: CoreProcess, hub: DemoHub, home: Path
) -> None:
    before = host(core)
    assert (before["pid"], before["hub"]) == (core.process.pid, hub.url)
    assert core.home == home
    assert core.socket.is_socket()
    core.kill()
    assert core.process.returncode == -signal.SIGKILL
    with pytest.raises(httpx.ConnectError):
        host(core)
    core.start()
    after = host(core)
    assert after["pid"] != before["pid"]
    assert after["id"] == before["id"]


def test_it_ends_in_good_order(core: CoreProcess) -> None:
    core.stop()
    assert core.process.returncode == 0
    assert not core.socket.exists()
    core.restart()
    assert core.process.poll() is None


def test_one_that_cannot_start_says_why(home: Path) -> None:
    home.write_text("a file where a folder should be")
    with (
        pytest.raises(CoreUnreachable) as caught,
        CoreProcess({**os.environ, "MODELDECK_HOME": str(home)}),
    ):
        pass
    assert str(home) in "\n".join(caught.value.details)
