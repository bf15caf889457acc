"""Clients that fetch images by URL share the places for it."""

from __future__ import annotations

import asyncio
import doctest
from dataclasses import dataclass, field
from typing import Any

import pytest

from modeldeck.core.service.inference import media_fetcher
from modeldeck.core.service.inference.media_fetcher import AT_ONCE, EACH, MediaFetcher, next_place


@dataclass
class SlowSource:
    """A way out whose files come when the test lets them."""

    begun: list[str] = field(default_factory=list)
    ends: dict[str, asyncio.Event] = field(default_factory=dict)

    async def fetch(self, url: str, most_bytes: int, limit_s: float) -> bytes:
        self.begun.append(url)
        await self.ends.setdefault(url, asyncio.Event()).wait()
        return url.encode()

    def end(self, url: str) -> None:
        self.ends[url].set()


@dataclass
class Clients:
    """Clients that fetch files."""

    source: SlowSource = field(default_factory=SlowSource)
    tasks: dict[str, asyncio.Task[bytes | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        made: Any = self.source
        self.fetcher = MediaFetcher(made)

    async def ask(self, who: str, *urls: str) -> None:
        for url in urls:
            self.tasks[url] = asyncio.create_task(self.fetcher.fetch(url, 9, who))
        await settled()

    async def end(self) -> None:
        while not all(task.done() for task in self.tasks.values()):
            for url in self.source.begun:
                self.source.end(url)
            await settled()


async def settled() -> None:
    """Let every task come as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def many(name: str, count: int) -> list[str]:
    return [f"{name}{number}" for number in range(count)]


async def test_one_client_leaves_places_for_others() -> None:
    clients = Clients()
    await clients.ask("a", *many("a", 20))
    assert clients.source.begun == many("a", EACH)
    await clients.ask("b", "b0")
    assert clients.source.begun[-1] == "b0", "at once, though the other has asked for more"
    await clients.end()
    assert sorted(clients.source.begun) == sorted([*many("a", 20), "b0"])
    assert not clients.fetcher._held
    assert not clients.fetcher._waiting


async def test_where_all_places_are_taken_the_client_with_fewest_is_next() -> None:
    clients = Clients()
    await clients.ask("a", *many("a", 9))
    await clients.ask("b", *many("b", 9))
    assert len(clients.source.begun) == AT_ONCE == 2 * EACH
    await clients.ask("c", *many("c", 2))
    for ended, begun in (("a0", "c0"), ("b0", "c1"), ("a1", "a4")):
        clients.source.end(ended)
        await settled()
        assert clients.source.begun[-1] == begun
    await clients.end()


async def test_who_leaves_gives_its_place_up_and_its_turn() -> None:
    clients = Clients()
    await clients.ask("a", *many("a", 9))
    clients.tasks["a4"].cancel()  # it waits
    clients.tasks["a0"].cancel()  # it fetches
    await settled()
    assert clients.source.begun == [*many("a", EACH), "a5"]
    # It is cancelled in the very moment in which it gets its turn.
    clients.source.end("a1")
    clients.tasks["a1"].add_done_callback(lambda _: clients.tasks["a6"].cancel())
    await settled()
    for url in ("a2", "a3", "a5"):
        clients.source.end(url)
    await settled()
    assert {"a7", "a8"} <= set(clients.source.begun)
    for url in clients.source.begun:
        clients.source.end(url)
    await asyncio.gather(*clients.tasks.values(), return_exceptions=True)
    assert not clients.fetcher._held


@pytest.mark.parametrize(
    ("waiting", "held", "found"),
    [
        (["a", "b"], {}, 0),
        (["a", "b"], {"a": 1, "b": 1}, 0),
        (["a", "a", "b"], {"a": 2, "b": 1}, 2),
        (["a", "b"], {"a": EACH, "b": EACH - 1}, 1),
        (["a", "b"], {"a": EACH, "b": EACH}, None),
        ([], {}, None),
    ],
)
def test_the_next_place_goes_to_who_has_fewest(
    waiting: list[str], held: dict[str, int], found: int | None
) -> None:
    assert next_place(waiting, held) == found
    assert doctest.testmod(media_fetcher).failed == 0
