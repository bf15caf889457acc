"""Runs commands as a script would."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from modeldeck.tui.cli.main import main
from tests.tui.cli.as_script import Command, Run
from tests.tui.conftest import PATIENCE_S


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process wait as long as the tests for a core that is slow to answer."""
    monkeypatch.setattr("modeldeck.tui.cli.actions.load.MEASURE_S", PATIENCE_S)
    monkeypatch.setattr("modeldeck.tui.cli.status_line.PATIENCE_S", PATIENCE_S)


@pytest.fixture
def modeldeck() -> Command:
    """Runs `modeldeck` with words, in this process, as a script would: there is no terminal."""

    def command(*words: str, code: int = 0, given: str | None = None) -> Run:
        done = CliRunner().invoke(main, words, input=given)
        run = Run(code=done.exit_code, out=done.stdout, err=done.stderr)
        assert run.code == code, (run, done.exception)
        return run

    return command
