"""Whether the Hub answers, in State."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from modeldeck.core.errors import HubUnavailable, ServerUnavailable
from modeldeck.core.schema.state import HostChanged
from modeldeck.core.service.feed import Feed

T = TypeVar("T")


class HubStatus:
    """Keeps `Host.hub_error` up to date with the outcome of requests to the Hub."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def ask(self, question: Awaitable[T]) -> T:
        """Return the Hub's answer to a request; note in State that it could not be reached."""
        try:
            return await question
        except ServerUnavailable:
            raise  # another server failed, not the Hub
        except HubUnavailable as error:
            self.note(error.message)
            raise

    def note(self, error: str | None) -> None:
        """Set why the Hub cannot be reached, or None when it answered."""
        host = self._feed.state.host
        if error != host.hub_error:
            self._feed.commit(HostChanged, host=replace(host, hub_error=error))
