"""Random keys, resizes and clicks: the dashboard goes on, and no question stays."""

from __future__ import annotations

import random
from typing import Any

import pytest
from textual import events
from textual.widgets import Input

from modeldeck.core.config.config import Tui
from tests.tui.dashboard.screens.steps import TINY, fetched

pytestmark = pytest.mark.usefixtures("undebugged")

SEEDS = 20
KEYS = 15
"""Keys of each seed."""
TOGETHER = 5
"""Keys that arrive at once."""
SIZES = [(120, 40), (80, 24), (60, 15), (100, 8), (40, 4), (20, 1), (200, 60)]
NAMED = (
    *("ctrl+p", "pagedown", "pageup", "enter", "escape", "tab", "up", "down", "left", "right"),
    *("home", "end", "space", "backspace", "question_mark", "ctrl+t", "ctrl+d", "ctrl+u"),
)
LETTERS = ":-+/abcdefghijklmnoprstuvxyzCDGJKLNPRSTUX0123456789"
"""No `q`, which leaves."""


async def settle(at: Any) -> None:
    """Wait until all keys were handled."""
    await at.pilot.pause()
    await at.until(lambda: not (at.app._under_way or at.app._keys))


def click(at: Any, x: int, y: int) -> None:
    """Click, as a terminal tells it: a pilot would insist on a widget that stands there already."""
    for kind in (events.MouseDown, events.MouseUp):
        at.app.post_message(kind(None, x, y, 0, 0, 1, False, False, False, x, y))


async def test_nothing_ends_it_or_leaves_a_question_behind(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY), settings=Tui(notify="off")) as at:
        for seed in range(SEEDS):
            chance = random.Random(seed)
            await at.pilot.resize_terminal(*chance.choice(SIZES))
            for _ in range(KEYS // TOGETHER):
                pool = NAMED if chance.random() < 0.5 else tuple(LETTERS)
                at.type(*(chance.choice(pool) for _ in range(TOGETHER)))
                if chance.random() < 0.3:
                    width, height = at.app.size
                    click(at, chance.randrange(width), chance.randrange(height))
                if chance.random() < 0.3:
                    await at.pilot.resize_terminal(*chance.choice(SIZES))
                await settle(at)
                assert at.app.is_running, seed
            await calm(at, seed)


async def calm(at: Any, seed: int) -> None:
    """Leave dialogs, questions and fields, as a person would; then a key is heard."""
    await at.pilot.resize_terminal(80, 24)
    for _ in range(8):
        # A question may come only once the core has answered what the last keys began.
        await at.finished()
        at.type("escape")
        await settle(at)
        focused = at.app.focused
        if at.app.question is None and len(at.app.screen_stack) == 1:
            if isinstance(focused, Input):
                continue
            break
    assert at.app.question is None, (seed, at.text)
    assert len(at.app.screen_stack) == 1, (seed, at.text)
    failures = [m.text for m in at.app.messages if "failed inside" in m.text]
    assert not failures, (seed, failures)
    at.app.current = "memory"
    await settle(at)
    at.type(*":cat", "enter")
    await at.until(lambda: at.app.current == "catalog")
