"""In the demo, models that its hub does not have stand below a rule, and are dim."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeck.tui.dashboard.screens.catalog.messages import OFF_DEMO
from modeldeck.tui.dashboard.screens.catalog.rows import elsewhere
from modeldeck.tui.dashboard.widgets.table import Table
from tests.tui.dashboard.screens.steps import TINY, fetched

pytestmark = pytest.mark.usefixtures("undebugged")


async def test_built_in_models_are_below_a_rule_and_not_downloaded(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY), is_demo=True) as at:
        await at.sees("── built in: not on this demo's hub ──", " demo ")
        table = at.app.view.query_one("#rows", Table)
        rule = next(i for i, row in enumerate(table.items) if not hasattr(row, "source"))
        assert not any(elsewhere(row) for row in table.items[:rule])
        assert all(elsewhere(row) for row in table.items[rule + 1 :])
        assert all(table._draw(row).dim for row in table.items[rule + 1 :])
        assert not any(table._draw(row).dim for row in table.items[:rule])
        table.action_last()
        await at.press("d")
        await at.sees(OFF_DEMO)
        assert at.app.parts.messages.list.unseen == 0, "nothing failed"


async def test_the_welcome_stays_until_a_command_changes_something(screen: Any) -> None:
    welcome = "d downloads tiny"
    async with screen("catalog", is_demo=True, welcome=lambda key_of: welcome) as at:
        now = 0.0
        at.app.clock = lambda: now
        at.app.say("something else")
        await at.sees("something else")
        now = 9.0
        await at.sees(welcome)
        await at.press("2", "1", *":mem", "enter")
        await at.sees(welcome)
        await at.press("1", "d")
        await at.until(lambda: welcome not in at.text)

        def gone() -> bool:
            nonlocal now
            now += 99.0  # also past what is said of the download once it has ended
            return at.app.parts.messages.list.shown is None

        await at.until(gone)
