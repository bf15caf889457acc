"""A check for updates ends whole where the Hub cannot be reached."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from modeldeck.core.errors import HubUnavailable
from modeldeck.core.schema import Model, Repository
from modeldeck.core.service.library.updates import UpdateChecker
from tests.support.bench import PATIENCE_S


def model(repo: str) -> Model:
    return Model(
        id=repo, unique=f"{repo}:Q8_0", name=repo, format="gguf", source="hub", repo=repo,
        revision="a" * 40, downloaded=True,
    )  # fmt: skip


async def test_a_hub_that_cannot_be_reached_is_asked_nothing_more() -> None:
    waits, given_up = asyncio.Event(), []

    async def repository(repo: str) -> Repository:
        if repo == "o/lost":
            await waits.wait()
            raise HubUnavailable("The Hub cannot be reached.")
        try:
            waits.set()
            await asyncio.Event().wait()
        finally:
            given_up.append(repo)
        raise AssertionError

    library: Any = SimpleNamespace(listed=(model("o/lost"), model("o/slow")))
    store: Any = None  # nothing is written
    checker = UpdateChecker(library=library, store=store, repository=repository, allowed=True)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(HubUnavailable, match="cannot be reached"):
            await checker.check()
    assert given_up == ["o/slow"]
