"""Runs commands as a script would."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from modeldeck.tui.cli.main import main
from tests.tui.cli.as_script import Command, Run


@pytest.fixture
def modeldeck() -> Command:
    """Runs `modeldeck` with words, in this process, as a script would: there is no terminal."""

    def command(*words: str, code: int = 0, given: str | None = None) -> Run:
        done = CliRunner().invoke(main, words, input=given)
        run = Run(code=done.exit_code, out=done.stdout, err=done.stderr)
        assert run.code == code, (run, done.exception)
        return run

    return command
