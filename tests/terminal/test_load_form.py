"""The load form in a real tmux: its sum while one changes a value, and a reload by three keys."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.config.paths import locate
from modeldeck.core.schema import AuditEntry
from tests.terminal.test_mouse_and_load import TINY, fetch

SUM = re.compile(r"= ([\d.]+) MiB")
SIZES = [(120, 40), (80, 24)]
"""Where there is room for the line that says what the sum rests on."""


def opened(terminal: Any, width: int, height: int) -> None:
    """The dashboard with the cursor on the model, which is downloaded."""
    terminal.open(width, height)
    terminal.command("modeldeck; echo left with $?")
    terminal.until(r"BGE Small")
    fetch(TINY)
    terminal.until(r"✓ 1")
    terminal.press("/")
    terminal.type("tiny")
    terminal.press("Enter")
    terminal.until(r"▸ ✓ tiny")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_sum_follows_each_change_and_is_never_away(
    terminal: Any, own: Path, width: int, height: int
) -> None:
    opened(terminal, width, height)
    terminal.press("L")
    first = sum_of(terminal.until(lambda screen: "exact" in screen and SUM.search(screen)))
    seen = []

    def changed(screen: str) -> bool:
        seen.append(sum_of(screen))
        return seen[-1] not in ("", first) and "exact" in screen

    terminal.press("Left")
    terminal.until(changed)
    assert all(seen), "there was a sum at any time"
    terminal.press("Escape")
    terminal.until(r"d download")
    terminal.press("q")
    assert "left with 0" in terminal.over()


def sum_of(screen: str) -> str:
    found = SUM.search(screen)
    return found[1] if found else ""


def test_what_is_loaded_is_reloaded_only_by_the_form(terminal: Any, own: Path) -> None:
    opened(terminal, 120, 40)
    terminal.press("l")
    terminal.until(r"▸ ● tiny .* loaded")
    (first,), trail = known()
    terminal.press("l")
    terminal.until(r"tiny is loaded already \(4k\)\. L reloads it with other options\.")
    assert known() == ([first], trail), "no load, and nothing written about one"
    terminal.press("L", "Left", "Enter")
    terminal.until(r"tiny is ready: .*, 2k context")
    (second,), after = known()
    assert (first[1], second[1]) == (4096, 2048)
    assert first[0] != second[0]
    done = [entry.action for entry in after[: len(after) - len(trail)]]
    assert sorted(done) == ["load", "unload"]
    terminal.press("5", "S")
    screen = terminal.until(lambda screen: "[audit]" in screen and "unload " in screen)
    assert screen.count("unload ") == 1
    terminal.press("q")
    assert "left with 0" in terminal.over()


def known() -> tuple[list[tuple[str, int | None]], list[AuditEntry]]:
    """Each instance with its context length, and the audit trail, the newest first."""

    async def ask() -> tuple[list[tuple[str, int | None]], list[AuditEntry]]:
        async with Client(socket=locate().socket) as client:
            loaded = (await client.state()).instances.values()  # of which measurements change
            found = [(instance.id, instance.context_length) for instance in loaded]
            return found, await client.audit_trail()

    return asyncio.run(ask())
