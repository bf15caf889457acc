"""`modeldeck bridge` when what it serves is gone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldeck.core.client import daemon
from modeldeck.core.config.paths import locate

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MODELDECK_API_PORT", "0")
    yield home
    asyncio.run(daemon.stop(locate()))


def test_a_core_that_was_started_for_nobody_ends_again(there: Path) -> None:
    """The front end went while the core was being started."""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [PROGRAM, "bridge"], stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.PIPE
    ) as bridge:
        os.close(writing)
        os.close(reading)
        _, said = bridge.communicate(timeout=100)
    assert b"Traceback" not in said
    assert locate().core_log.exists(), "a core was started"
    assert asyncio.run(daemon.find(locate())) is None
