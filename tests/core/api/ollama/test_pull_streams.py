"""What a pull holds is let go of at once when its client goes away."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from modeldeck.core.api.ollama import models
from modeldeck.core.schema import Model


class Subscriptions:
    """A feed that knows who follows it."""

    open = 0

    @contextmanager
    def subscribe(self, hz: float, *, watching: bool) -> Iterator[Any]:
        self.open += 1
        try:
            yield self
        finally:
            self.open -= 1

    async def batches(self) -> AsyncGenerator[None, None]:
        while True:
            yield None


async def test_the_feed_is_left_with_the_stream() -> None:
    feed = Subscriptions()
    job: Any = SimpleNamespace(id="1", state="running", error=None, total_bytes=2, received_bytes=1)
    deck: Any = SimpleNamespace(feed=feed, state=SimpleNamespace(downloads={"1": job}))
    model = Model(id="1", unique="a/b", name="b", format="gguf", source="cache")
    lines = models._lines(deck, model, job)
    assert b"manifest" in await anext(lines)
    assert b"pulling" in await anext(lines)
    assert feed.open == 1
    await lines.aclose()
    assert feed.open == 0
