"""What every test of the front end has: a terminal of all colours, whatever runs the tests."""

from __future__ import annotations

import time

import pytest


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a good terminal on this machine; tests take away what they want gone."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    for name in ("NO_COLOR", "SSH_CONNECTION", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot waits until the dashboard is idle, not the hub in the thread beside it.

    Textual takes the time of the whole process for that, and waits two seconds for every key that
    is pressed while a download runs.
    """
    monkeypatch.setattr("textual._wait.process_time", time.thread_time)
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.005)
