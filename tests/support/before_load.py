"""Code that an engine process runs when it is about to load a model: tests need no good timing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from modeldeck.core.schema import Engine
from tests.support import signals
from tests.support.bench import PATIENCE_S

HOOK = """
import sys
if "modeldeck.core.runtime.child" in sys.orig_argv and {engine!r} in sys.orig_argv:
    from modeldeck.core.runtime.engines.{module} import {name} as Hooked

    def load(self, *given, real=Hooked.load):
        {code}
        return real(self, *given)

    Hooked.load = load
"""
CLASSES = {"llama.cpp": ("llama.engine", "LlamaEngine"), "mlx": ("mlx.engine", "MlxEngine")}
STOP = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"


def run_before_load(
    folder: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, code: str
) -> None:
    """Let engine processes that start from now on run a line of Python before they load."""
    module, name = CLASSES[engine]
    hook = HOOK.format(engine=engine, module=module, name=name, code=code)
    (folder / "sitecustomize.py").write_text(hook)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def stand_still_before_load(
    folder: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine = "llama.cpp"
) -> None:
    """Let engine processes that start from now on suspend themselves instead of loading."""
    run_before_load(folder, monkeypatch, engine, STOP)


async def stands_still(pid: int) -> None:
    """Wait until a process is suspended."""
    async with asyncio.timeout(PATIENCE_S):
        while not signals.stands_still(pid):  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0.005)
