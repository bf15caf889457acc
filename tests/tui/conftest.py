"""What every test of the front end has: a terminal of all colours, whatever runs the tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a good terminal on this machine; tests take away what they want gone."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    for name in ("NO_COLOR", "SSH_CONNECTION", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
