"""Deleting marked models: the question about their files, and what cancels it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.schema import DeletionItem, DeletionPlan, Model
from modeldeck.tui.dashboard.screens.delete_flow import question, subject
from tests.tui.dashboard.screens.steps import F16, TINY, catalog, downloaded, fetched, go, loaded
from tests.tui.dashboard.test_frame import STATE

PADDED = "deck/padded-GGUF:F16"
THREE = (TINY, F16, PADDED)
KEYS = re.compile(r" Delete\? .*y delete .*n esc keep")


async def marked(at: Any, *names: str) -> None:
    for name in names:
        await go(at, name)
        await at.press("space")


async def test_three_marked_models_at_every_size_named_by_their_files(screen: Any) -> None:
    async with screen("catalog", before=fetched(*THREE)) as at:
        await marked(at, *THREE)
        for size in ((60, 15), (80, 24), (120, 40)):
            await at.pilot.resize_terminal(*size)
            await at.press("x")
            await at.sees("Delete the files of 3 marked models: 38.9 MB come back.")
            lines = at.text.split("\n")
            assert KEYS.search(lines[-1]), lines[-1]
            sizes = [line.split()[1] for line in lines if line.startswith("   delete ")]
            assert sizes == sorted(sizes, key=float, reverse=True)
            for name in ("tiny-Q8_0.gguf", "tiny-F16.gguf", "padded-F16.gguf"):
                assert name in at.text
            assert not re.search(r"[0-9a-f]{64}", at.text)
            await at.press("e")
            await at.sees("/padded-F16.gguf")
            await at.press("n")
            await at.until(lambda: at.app.question is None)
        await at.press("x")
        await at.sees("y delete")
        await at.press("y")
        await at.sees("Deleted 3 models: 38.9 MB freed")
        await at.until(lambda: not any(downloaded(at, name) for name in THREE))
        assert not catalog(at).table.marks


def test_a_model_that_state_does_not_know_to_be_downloaded_yet_is_not_called_absent() -> None:
    model = Model(id="k", unique="a/k:Q8", name="k", format="gguf", source="hub", repo="a/k")
    state = replace(STATE, models={"k": model})
    item = DeletionItem(path="/hub/models--a--k/blobs/1", size_bytes=5, kind="blob")
    plan = DeletionPlan(model_ids=("k",), delete=(item,), keep=(), freed_bytes=5)
    assert subject(plan, state) == "k"
    assert not question(plan, "Delete?", state).warnings


async def test_a_marked_model_without_files_is_named_and_not_counted(screen: Any) -> None:
    async def known(client: Client) -> None:
        """One model is here, and one was and is still known."""
        await fetched(TINY, PADDED)(client)
        await client.delete_cached([PADDED])

    async with screen("catalog", before=known) as at:
        await marked(at, TINY, PADDED)
        for size in ((60, 15), (80, 24)):
            await at.pilot.resize_terminal(*size)
            await at.press("x")
            await at.sees("Delete the files of tiny", ": 1.9 MB come back.", "y delete")
            await at.sees("! padded is not downloaded")
            await at.press("n")
            await at.until(lambda: at.app.question is None)
        await at.press("x")
        await at.sees("y delete")
        await at.press("y")
        await at.sees("Deleted tiny", ": 1.9 MB freed")


async def test_a_click_on_another_row_cancels_and_keys_act_there(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        at.type("x", "x", "x")
        await at.sees("Delete the files of tiny", ": 1.9 MB come back.", "tiny-Q8_0.gguf")
        await at.pilot.click("CatalogView Table", offset=(10, 5))
        await at.sees("Cancelled: nothing was deleted.")
        await at.press("y")
        await at.sees("Copied ")
        assert at.app.question is None
        await go(at, TINY)
        await at.press("x", "x", "x")
        await at.sees("Delete the files of tiny")
        await at.press("n")
        await at.until(lambda: at.app.question is None)
        assert downloaded(at)


async def test_what_is_unloaded_first_is_said_and_another_front_end_ends_the_question(
    screen: Any,
) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.press("l")
        await at.until(lambda: loaded(at))
        await at.press("x")
        await at.sees("! tiny", " is loaded: it is unloaded first.", "y delete 1.9 MB")
        await at.client.delete_cached([TINY], force=True)
        await at.sees("Cancelled: nothing was deleted.")
        await at.until(lambda: not downloaded(at) and at.app.question is None)


@pytest.mark.parametrize("key", ["q", "n"])
async def test_no_is_no(screen: Any, key: str) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.press("x")
        await at.sees("y delete")
        await at.press(key)
        await at.until(lambda: at.app.question is None)
        assert at.app.is_running
        assert downloaded(at)
