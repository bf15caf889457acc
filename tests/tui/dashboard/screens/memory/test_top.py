"""The Memory view alone, as `modeldeck top` shows it."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner

from modeldeck.tui.cli.main import main
from modeldeck.tui.dashboard.screens import VIEWS
from tests.support.process import CoreProcess


async def test_one_view_stands_alone(screen: Any) -> None:
    async with screen("memory", only="memory") as at:
        await at.sees("RAM", "No model is loaded.", "u unload", "? help", "Memory")
        assert not [v.title for v in VIEWS if v.name != "memory" and v.title in footer(at.text)]
        await at.press("1", "2", "tab", "shift+tab")
        assert at.app.current == "memory"


async def test_its_help_and_go_to_line_name_no_view_that_is_not_there(screen: Any) -> None:
    async with screen("memory", only="memory") as at:
        offered = {entry.words for entry in at.app.parts.navigation.offers("")}
        assert {"unload", "memory"} <= offered
        assert not {"catalog", "downloads", "next", "download"} & offered
        await at.press("question_mark")
        await at.sees("Unload every model that is not pinned.")
        await at.press(*"/go to")
        await at.sees("Go to a view, a model, a command, by its name.")
        assert "Go to Catalog." not in at.text


def footer(text: str) -> str:
    return text.splitlines()[-1]


def test_without_a_terminal_it_is_shown_once(own_core: CoreProcess) -> None:
    shown = CliRunner().invoke(main, ["top"])
    assert shown.exit_code == 0
    assert "memory" in shown.output
    record = json.loads(CliRunner().invoke(main, ["top", "--json"]).output)
    assert record["memory"]["total_bytes"] > 0
