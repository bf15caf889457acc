"""Model cards, of the demo hub and of a cache on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modeldeck.core.catalog import model_card
from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import Gated, HubUnavailable, InvalidRequest, NotFound
from modeldeck.core.hub_cache import scan
from modeldeck.core.schema import CachedSnapshot
from modeldeck.core.service.library import model_cards

REPO = "deck/tiny-GGUF"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
async def asked(hub: DemoHub, tmp_path: Path) -> AsyncIterator[HubClient]:
    client = HubClient(hub.url, lambda: None, tmp_path / "kept", timeout_s=60)
    yield client
    await client.close()


@pytest.fixture
async def away(tmp_path: Path) -> AsyncIterator[HubClient]:
    """A Hub that cannot be reached, and never told anything."""
    client = HubClient(NOBODY, lambda: None, tmp_path / "nothing", timeout_s=1)
    yield client
    await client.close()


def cached(root: Path, text: bytes, repo: str = REPO) -> tuple[CachedSnapshot, ...]:
    """A cache that another tool filled, with the card of one commit."""
    folder = root / f"models--{repo.replace('/', '--')}" / "snapshots" / ("b" * 40)
    folder.mkdir(parents=True)
    (folder / model_card.FILE).write_bytes(text)
    return scan.scan(root)


async def test_the_card_of_the_default_branch_is_kept_by_its_commit(
    asked: HubClient, hub: DemoHub
) -> None:
    first = await model_cards.find(asked, (), REPO)
    assert "A tiny model in two quantizations." in first.text
    assert (first.from_cache, first.truncated) == (False, False)
    hub.online = False
    for revision in (None, first.revision):
        again = await model_cards.find(asked, (), REPO, revision)
        assert (again.text, again.revision) == (first.text, first.revision)
        assert again.from_cache


async def test_a_branch_is_asked_for_by_its_name(asked: HubClient) -> None:
    found = await model_cards.find(asked, (), REPO, "main")
    assert "tiny" in found.text
    with pytest.raises(NotFound):
        await model_cards.find(asked, (), REPO, "no-such-branch")


async def test_what_lies_in_the_cache_is_not_asked_for(away: HubClient, tmp_path: Path) -> None:
    snapshots = cached(tmp_path / "hub", b"\xef\xbb\xbf# From disk \xff")
    found = await model_cards.find(away, snapshots, REPO.upper(), "b" * 40)
    assert (found.text, found.revision) == ("# From disk \ufffd", "b" * 40)
    assert found.from_cache
    assert (await model_cards.find(away, snapshots, REPO)).text == found.text, (
        "no network, no revision"
    )
    with pytest.raises(HubUnavailable):
        await model_cards.find(away, snapshots, REPO, "main")
    with pytest.raises(HubUnavailable):
        await model_cards.find(away, snapshots, REPO, "c" * 40)


async def test_a_card_is_read_up_to_its_limit(away: HubClient, tmp_path: Path) -> None:
    snapshots = cached(tmp_path / "hub", b"x" * (model_card.LIMIT + 7))
    found = await model_cards.find(away, snapshots, REPO, "b" * 40)
    assert found.truncated
    assert len(found.text) == model_card.LIMIT


async def test_a_card_that_cannot_be_read_is_asked_of_the_hub(
    away: HubClient, tmp_path: Path
) -> None:
    snapshots = cached(tmp_path / "hub", b"gone soon")
    (Path(snapshots[0].folder) / model_card.FILE).unlink()
    with pytest.raises(HubUnavailable):
        await model_cards.find(away, snapshots, REPO, "b" * 40)


async def test_what_has_no_card_or_may_not_be_read_says_so(asked: HubClient, hub: DemoHub) -> None:
    commit = (await asked.repository(REPO)).revision
    hub.faults.status(404, path="README.md")
    with pytest.raises(NotFound, match="has no model card"):
        await asked.card(REPO, commit)
    with pytest.raises(Gated):
        await model_cards.find(asked, (), "deck/gated-GGUF")
    with pytest.raises(NotFound):
        await model_cards.find(asked, (), "deck/nothing")
    with pytest.raises(InvalidRequest):
        await model_cards.find(asked, (), "../etc")
