"""Numbers that no model can take are refused by the command line, before a core is asked."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from modeldeck.core.config.load_options import LIMITS
from modeldeck.tui.cli.commands.chat import run_
from modeldeck.tui.cli.commands.load import load
from modeldeck.tui.cli.commands.models import fit

FLAGS = {
    param.name: param.opts[0]
    for param in load.params
    if isinstance(param, click.Option) and param.name in LIMITS
}


def test_every_number_of_a_load_has_an_option() -> None:
    assert FLAGS.keys() == LIMITS.keys()


@pytest.mark.parametrize("option", sorted(LIMITS))
def test_a_number_beyond_its_limits_is_refused_with_them(option: str) -> None:
    low, high = LIMITS[option]
    for number in (low - 1, high + 1):
        told = CliRunner().invoke(load, ["model", f"{FLAGS[option]}={number:.0f}"])
        assert told.exit_code == 2
        assert f"is not from {low:,.0f} to {high:,.0f}." in told.output.replace("\n", " ")
        assert FLAGS[option] in told.output
        assert f"{number:,.0f}" in told.output


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (load, ["model", "-c", "99999999"]),
        (load, ["model", "--idle-ttl", "nan"]),
        (fit, ["model", "-c", "99999999"]),
        (fit, ["model", "-c", "0"]),
        (run_, ["model", "--temperature", "3"]),
        (run_, ["model", "--max-tokens", "999999999"]),
        (run_, ["model", "--seed", "99999999999999999999"]),
    ],
)
def test_others_as_well(command: click.Command, words: list[str]) -> None:
    told = CliRunner().invoke(command, words)
    assert told.exit_code == 2
    assert "Invalid value for" in told.output
