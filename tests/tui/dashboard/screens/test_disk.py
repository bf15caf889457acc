"""Every verb of the Disk view, against a real core, hub and cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.schema import CacheListing, CacheRepository, CacheRevision, LoadOptions
from modeldeck.tui.dashboard.screens.disk import rows as drawn
from modeldeck.tui.dashboard.screens.disk.rows import DiskRow
from modeldeck.tui.dashboard.widgets.column_choice import STANDARD, ColumnChoice
from tests.support.process import CoreProcess
from tests.tui.dashboard.screens.steps import F16, TINY, fetched

EMBED = "deck/tiny-embed-GGUF:F16"
OLD = "d" * 40


def age_a_revision(core: CoreProcess) -> None:
    """Another revision of the tiny models, which no branch leads to any more."""
    (now,) = core.home.parent.glob("hf/hub/models--deck--tiny-GGUF/snapshots/*")
    old = now.with_name(OLD)
    old.mkdir()
    for link in now.iterdir():
        (old / link.name).symlink_to(link.readlink())


async def test_the_cache_is_listed_and_deleted_from_with_a_plan(screen: Any) -> None:
    async with screen("memory", before=fetched(TINY, F16, EMBED)) as at:
        await at.sees("[d list]")
        await at.press("d")
        await at.sees("9.1 MB in 2 repositories", "deck/tiny-GGUF", "main", "Q8_0, F16", "now")
        rows = at.app.query_one("#disk Table").items
        assert [row.id for row in rows] == ["deck/tiny-GGUF", "deck/tiny-embed-GGUF"]
        await at.sees("3 Memory")  # where it was reached from
        await at.press("x")
        await at.sees("Delete deck/tiny-GGUF from the cache: 5.5 MB come back.", "y delete 5.5 MB")
        await at.press("n")
        await at.press("x")
        await at.sees("y delete")
        await at.press("y")
        await at.sees("from the cache: 5.5 MB freed", "3.6 MB in 1 repository")
        await at.press("x")
        await at.sees("y delete")
        await at.press("y")
        await at.sees("The cache is empty.")
        await at.press("escape")
        assert at.app.current == "memory"


async def test_one_revision_of_several_goes_alone(screen: Any, core: CoreProcess) -> None:
    async def before(client: Client) -> None:
        await fetched(TINY)(client)
        age_a_revision(core)

    async with screen("downloads", before=before) as at:
        await at.press("d")
        await at.sees("└ dddddddd", "detached", "1 revision detached [P prune]", "1.9 MB")
        await at.press("P")
        await at.sees(
            "Prune leftover partial files and old revisions: nothing comes back.", "y delete"
        )
        await at.press("n")
        (place,) = [
            n for n, row in enumerate(at.app.query_one("#disk Table").items) if OLD in row.id
        ]
        await at.press(*"j" * place)
        await at.sees(f"commit  {OLD}")
        await at.press("x")
        await at.sees("Delete deck/tiny-GGUF@dddddddd from the cache: nothing comes back.")
        await at.press("y")
        await at.until(lambda: "└ dddddddd" not in at.text)
        await at.sees("z undoes it")
        assert at.state.models
        await at.press("z")
        await at.sees("└ dddddddd")
        await at.press("P")
        await at.sees("y delete")
        await at.press("y")
        await at.until(lambda: "└" not in at.text)


async def test_a_check_is_shown_and_can_be_called_off(screen: Any, core: CoreProcess) -> None:
    async with screen("disk", before=fetched(TINY)) as at:
        await at.sees("deck/tiny-GGUF")
        await at.press("v")
        await at.sees("1 file verified", "✓ deck/tiny-GGUF")
        (blob,) = core.home.parent.glob("hf/hub/models--deck--tiny-GGUF/blobs/*")
        content = bytearray(blob.read_bytes())
        content[-1] ^= 1
        blob.chmod(0o644)
        blob.write_bytes(content)
        await at.press("v")
        await at.sees("1 of 1 file corrupt", "✗ deck/tiny-GGUF")
        await at.press("c")
        await at.sees("Nothing is being checked.")


async def test_what_is_loaded_goes_only_after_saying_so(screen: Any) -> None:
    async def before(client: Client) -> None:
        await fetched(TINY)(client)
        await client.loaded(TINY, LoadOptions(context_length=512, threads=1))

    async with screen("disk", before=before) as at:
        await at.sees("● deck/tiny-GGUF")
        await at.press("x")
        await at.sees(" is loaded: it is unloaded first", "y delete")
        await at.press("n")
        await at.press("y")
        await at.sees("deck/tiny-GGUF copied")


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 15), (30, 8)])
async def test_every_width_keeps_name_and_size(screen: Any, size: tuple[int, int]) -> None:
    async with screen("disk", size=size, before=fetched(TINY, EMBED)) as at:
        await at.sees("y-GGUF", "1.9 MB")
        table = at.app.query_one("#disk").table
        await at.press("o")
        await at.until(lambda: at.app.question is not None)
        await at.press("right", "enter")
        await at.until(lambda: table.choice.sort == "size")
        assert [row.repo.repo for row in table.items] == ["deck/tiny-GGUF", "deck/tiny-embed-GGUF"]
        await at.press("escape")


async def test_a_hub_and_a_core_that_are_away_are_told(screen: Any, hub: DemoHub) -> None:
    async with screen("disk") as at:
        await at.sees("The cache is empty.")
        await at.press("x", "v", "y", "enter", "P")
        await at.sees("Nothing to prune.")


def repository(name: str, size: int, used: float, *refs: tuple[str, ...]) -> CacheRepository:
    revisions = tuple(
        CacheRevision(
            revision=str(n) * 40, refs=ref, models=(f"{name}:Q{n}",), files=1, size_bytes=size,
            shared_bytes=0, used_at=used, modified_at=0,
        )
        for n, ref in enumerate(refs)
    )  # fmt: skip
    return CacheRepository(
        repo=name, revisions=revisions, size_bytes=size, shared_bytes=0, partial_bytes=0,
        used_at=used,
    )  # fmt: skip


LISTING = CacheListing(
    path="/c",
    repositories=(
        repository("a/small", 1, 300, ("main",)),
        repository("B/large", 9, 200, ("main",), ()),
        repository("c/middle", 5, 100, ("main",)),
    ),
)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (STANDARD, ["B/large", "c/middle", "a/small"]),
        (ColumnChoice(sort="used"), ["c/middle", "B/large", "a/small"]),
        (ColumnChoice(sort="name"), ["a/small", "B/large", "c/middle"]),
    ],
)
def test_rows_are_in_order_with_revisions_where_there_are_several(
    sort: ColumnChoice, order: list[str]
) -> None:
    rows = drawn.rows(LISTING, sort)
    assert [row.id for row in rows if row.revision is None] == order
    assert [row.unique for row in rows if row.revision] == ["B/large@00000000", "B/large@11111111"]


@pytest.mark.parametrize("column", ["at", "models"])
def test_repositories_without_a_value_come_last(column: str) -> None:
    small, _, middle = LISTING.repositories
    listing = replace(LISTING, repositories=(replace(small, revisions=()), middle))
    rows = drawn.rows(listing, ColumnChoice(sort=column))
    assert [row.id for row in rows] == ["c/middle", "a/small"]


def test_a_repository_stands_for_its_revisions() -> None:
    rows = drawn.rows(LISTING, ColumnChoice(sort="name"))
    assert drawn.selection(rows[:3]).revisions == ()
    assert drawn.selection(rows[:3]).repositories == ("a/small", "B/large")
    assert drawn.selection(rows[2:3]).revisions == (f"B/large@{'0' * 40}",)
    assert DiskRow(LISTING.repositories[0]).models == ["a/small:Q0"]
