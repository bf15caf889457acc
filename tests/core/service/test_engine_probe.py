"""An engine that does not start at first is probed again, and is of use once it does."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.runtime import registry
from modeldeck.core.runtime.planning.planner import Planner
from modeldeck.core.runtime.process import engine_process
from modeldeck.core.service import engine_probe
from modeldeck.core.service.deck import Deck
from tests.support import scripted_engine
from tests.support.bench import PATIENCE_S

HANG = """
import os, sys, time
if "llama.cpp" in sys.orig_argv and os.path.exists({marker!r}):
    os.unlink({marker!r})
    time.sleep(600)
"""


async def test_an_engine_that_starts_too_slowly_is_probed_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_engine.install(tmp_path, monkeypatch)
    marker, hook = tmp_path / "slow", tmp_path / "sitecustomize.py"
    marker.touch()
    hook.write_text(HANG.format(marker=str(marker)) + hook.read_text())
    monkeypatch.setattr(engine_process, "HELLO_S", 2.0)
    monkeypatch.setattr(engine_process, "END_S", 0.1)
    monkeypatch.setattr(engine_probe, "AGAIN_S", (0.0,) * 20)
    told: list[tuple[bool, str]] = []
    async with Deck(locate(), Config(runtime=RuntimeSettings(calibrate=False))) as deck:
        with deck.feed.subscribe() as news:
            async with asyncio.timeout(PATIENCE_S):
                async for _ in news.batches():
                    told += [
                        (runtime.available, runtime.why_not or "")
                        for runtime in deck.state.runtimes
                        if runtime.name == "llama.cpp"
                    ]
                    if told and told[-1][0]:
                        break
    assert "did not start within 2 s" in told[0][1]
    assert told[-1] == (True, "")


STUBBORN = """
import signal, sys, time
if "mlx" in sys.orig_argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open({folder!r} + "/" + sys.orig_argv[-2], "w").close()
time.sleep(600)
"""


async def test_a_probe_that_is_cancelled_leaves_no_process(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_engine.install(tmp_path, monkeypatch)
    began = tmp_path / "began"
    began.mkdir()
    (tmp_path / "sitecustomize.py").write_text(STUBBORN.format(folder=str(began)))
    monkeypatch.setattr(engine_process, "END_S", 0.2)
    others = set(psutil.Process().children())
    planner = Planner()
    probing = asyncio.create_task(registry.probe(planner))
    deadline = time.monotonic() + PATIENCE_S
    while len(list(began.iterdir())) < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    probing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probing
    await planner.close()
    assert not set(psutil.Process().children()) - others
