"""A second machine beside that of the other tests of the dashboard."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldeck.core.demo.hub import DemoHub
from tests.support.process import CoreProcess


@pytest.fixture
def other(core: CoreProcess, hub: DemoHub, tmp_path: Path) -> Iterator[CoreProcess]:
    """A second machine, with nothing on it."""
    own = {"MODELDECK_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf")}
    with CoreProcess({**os.environ, **own, "HF_ENDPOINT": hub.url}) as other:
        yield other
