"""What must not end a core, and what must not keep it from ending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import psutil
import pytest

from modeldeck.core.demo.vocabulary import expected
from tests.support.process import CoreProcess
from tests.support.signals import suspend

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Api

TINY = "deck/tiny-GGUF:Q8_0"
PATIENCE_S = 60.0


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := found()):
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.002)
    return answer


def engines(core: CoreProcess) -> set[int]:
    """The engine processes of a core.

    Not one that is still a copy of the core, before it runs its own program: the core's thread
    waits until then (vfork(2)), so stopping that one would stop the core.
    """
    children = psutil.Process(core.process.pid).children()
    return {child.pid for child in children if "modeldeck.core.runtime.child" in words(child)}


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def ends_in_order(core: CoreProcess) -> None:
    assert core.process.wait(PATIENCE_S) == 0, core.stderr
    assert "Traceback" not in core.stderr


def path(unique: str, action: str) -> str:
    return f"/deck/models/{quote(unique, safe='')}/{action}"


def hanging_load(api: Api) -> tuple[int, threading.Thread]:
    """A client that waits for a load on demand whose engine stands still; the engine's process."""
    api.pull(TINY)
    api.until(lambda s: len(s["runtimes"]) == 2)
    api.post(path(TINY, "load/plan"), {})  # the planner's process is there from now on
    before = until(lambda: engines(api.core))

    def ask() -> None:
        body = {"model": TINY, "messages": [{"role": "user", "content": "Please count"}]}
        with httpx.Client(base_url=api.core.url, timeout=PATIENCE_S, trust_env=False) as client:
            try:
                client.post("/v1/chat/completions", json=body)
            except httpx.HTTPError:
                pass

    client = threading.Thread(target=ask, daemon=True)
    client.start()
    (engine,) = until(lambda: engines(api.core) - before)
    suspend(engine)
    return engine, client


@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_a_core_ends_in_the_middle_of_a_load_whose_engine_hangs(
    api: Api, own_core: CoreProcess, how: str
) -> None:
    engine, client = hanging_load(api)
    if how == "stop":
        assert api.post("/deck/stop") == {"stopping": True}
    else:
        own_core.process.terminate()
    ends_in_order(own_core)
    psutil.wait_procs([psutil.Process(engine)] if psutil.pid_exists(engine) else [], timeout=10)
    assert not psutil.pid_exists(engine)
    client.join(PATIENCE_S)


def test_a_hanging_load_can_be_called_off_and_costs_that_load_alone(
    api: Api, own_core: CoreProcess
) -> None:
    engine, _ = hanging_load(api)
    instance = api.until(lambda s: s["instances"])[0]
    api.post(f"/deck/instances/{instance['id']}/unload")
    assert not psutil.pid_exists(engine)
    assert api.ask(TINY, "Please count") == expected("count")
