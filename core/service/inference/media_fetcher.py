"""Fetches the images and recordings that a request names by URL.

Clients share the places: one that names many URLs, or slow ones, keeps no other from its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from modeldeck.core.downloads.http.source import DownloadSource

FETCH_S = 20.0
"""Seconds until a file must be there, with redirects; other servers give it 5 to 10."""
AT_ONCE = 8
"""Files that are fetched at the same time, for all requests together."""
EACH = 4
"""Of these, for the requests of one client: some are left for others at any time."""


def next_place(waiting: Sequence[str], held: Mapping[str, int], each: int = EACH) -> int | None:
    """The index of the one that gets the next place: of the client that has fewest, the first.

    None where all who wait have as many as one may have.

    >>> next_place(["a", "a", "b"], {"a": 1}), next_place(["a"], {"a": 4}), next_place([], {})
    (2, None, None)

    Args:
        waiting: The clients that wait, in the order in which they came.
        held: How many places each client has.
        each: Most places of one client.
    """
    fitting = [at for at, who in enumerate(waiting) if held.get(who, 0) < each]
    return min(fitting, key=lambda at: held.get(waiting[at], 0), default=None)


class MediaFetcher:
    """Fetches files, a few at a time."""

    def __init__(self, source: DownloadSource) -> None:
        self._source = source
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        """Clients and their turns, in order: as many as the requests in work have URLs."""
        self._held: Counter[str] = Counter()
        """Places that each client has."""

    async def fetch(self, url: str, most_bytes: int, who: str) -> bytes | None:
        """The file at a URL; None where it has more than `most_bytes`.

        `who` is the client that asks. Raises Forbidden for an address inside, this machine's own
        too unless it is trusted; Gated, NotFound, ServerUnavailable and HubUnavailable.
        """
        async with self._place(who):
            return await self._source.fetch(url, most_bytes, FETCH_S)

    @asynccontextmanager
    async def _place(self, who: str) -> AsyncIterator[None]:
        turn = asyncio.get_running_loop().create_future()
        entry = (who, turn)
        self._waiting.append(entry)
        self._admit()
        try:
            await turn
            yield
        finally:
            if entry in self._waiting:  # it was cancelled before its turn
                self._waiting.remove(entry)
            else:
                self._held[who] -= 1
                self._held += Counter()  # without those that have none
            self._admit()

    def _admit(self) -> None:
        """Give the places that are free to those that wait."""
        while self._held.total() < AT_ONCE:
            at = next_place([who for who, _ in self._waiting], self._held)
            if at is None:
                return
            who, turn = self._waiting.pop(at)
            self._held[who] += 1
            if not turn.done():  # its task may be about to end: it gives the place back
                turn.set_result(None)
