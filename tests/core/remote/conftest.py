"""Programs that stand for `ssh`: scripts of this machine, found first in PATH.

They are children with real pipes and do what a machine at the other end may do. What needs a real
sshd is tested in `tests/terminal/remote`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modeldeck.core.schema.protocol import ours

HEAD = f"""#!{sys.executable} -ISs
import json, os, sys, time
if "-O" in sys.argv or "-G" in sys.argv:
    sys.exit(1)
def say(value):
    print(json.dumps(value), flush=True)
def hello(socket="/nowhere/core.sock"):
    say({{"modeldeck": {{"socket": socket, "version": "1", "protocol": {ours().protocol},
                       "oldest_protocol": {ours().oldest_protocol}}}}})
"""
"""The person has no master, and nothing is carried."""


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition is met."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 # conditions of all kinds have no event
            await asyncio.sleep(0.005)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes `ssh` a program with these lines of Python."""

    def make(lines: str) -> Path:
        program = tmp_path / "bin" / "ssh"
        program.parent.mkdir(exist_ok=True)
        program.write_text(HEAD + lines)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        return program

    return make
