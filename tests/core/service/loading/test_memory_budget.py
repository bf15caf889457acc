"""The memory budget that a person sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldeck.core.config import config_file
from modeldeck.core.errors import InvalidRequest, StorageFailed
from modeldeck.core.schema import Host
from modeldeck.core.schema.state import State
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.loading.memory_budget import MemoryBudget


@pytest.fixture
def feed() -> Feed:
    return Feed(State(host=Host(name="", version="", started_at="")))


async def test_it_holds_at_once_and_is_remembered_until_it_is_lifted(
    feed: Feed, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[runtime]\nqueue_length = 5  # mine\n")
    budget = MemoryBudget(feed=feed, config_file=file)
    told = await budget.change(48 << 30)
    assert told == feed.state.settings
    assert (budget.limit_bytes, told.memory_budget_bytes) == (48 << 30, 48 << 30)
    written, problems = config_file.load(file, {})
    assert not problems
    assert (written.runtime.memory_budget_bytes, written.runtime.queue_length) == (48 << 30, 5)
    await budget.change(None)
    assert (budget.limit_bytes, config_file.load(file, {})[0].runtime.memory_budget_bytes) == (
        None,
    ) * 2
    assert "# mine" in file.read_text()


async def test_what_cannot_be_taken_or_remembered_changes_nothing(
    feed: Feed, tmp_path: Path
) -> None:
    budget, before = MemoryBudget(feed=feed, config_file=tmp_path), feed.state
    with pytest.raises(InvalidRequest):
        await budget.change(0)
    with pytest.raises(StorageFailed):
        await budget.change(1 << 30)  # the file is a folder
    assert feed.state is before
