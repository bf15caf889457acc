"""Commands about requests to models: list, cancel, record what they say."""

from __future__ import annotations

from collections.abc import Sequence

from modeldeck.core.schema import RecordedText, Recording, Requester, RequestInfo
from modeldeck.core.service.commands.models import ModelCommands
from modeldeck.core.service.wiring import ServiceParts


class RequestCommands:
    """The commands of `Deck.requests`."""

    def __init__(self, parts: ServiceParts, models: ModelCommands) -> None:
        self._parts = parts
        self._models = models

    def all(self) -> tuple[RequestInfo, ...]:
        """Return the requests that run or wait and the last that ended, in order of arrival."""
        return self._parts.requests.list()

    def get(self, request_id: str) -> tuple[RequestInfo, RecordedText | None]:
        """Return a request, with its text where that is recorded. Raises NotFound."""
        found = self._parts.requests.get(request_id)
        return found, self._parts.recorder.text(request_id)

    async def cancel(self, request_id: str, requester: Requester) -> RequestInfo:
        """Cancel a request to a model. Raises NotFound, and Conflict for one that has ended."""
        async with self._parts.audit.action(requester.origin, "cancel request", request_id[:40]):
            return self._parts.requests.cancel(request_id, requester.who, requester.client)

    async def record(self, seconds: float, refs: Sequence[str], requester: Requester) -> Recording:
        """Keep what requests say for some seconds, in memory only. Raises NotFound.

        `refs` name the models whose requests are recorded; empty for all.
        """
        models = [self._models.find(ref) for ref in refs]
        what = f"{seconds:.0f} s, {', '.join(model.unique for model in models) or 'all models'}"
        async with self._parts.audit.action(requester.origin, "record requests", what):
            ids = [model.id for model in models]
            return self._parts.recorder.start(seconds, ids, requester.who)

    async def stop_recording(self, origin: str) -> None:
        """End the recording of requests, and drop what it has."""
        async with self._parts.audit.action(origin, "stop recording requests", ""):
            self._parts.recorder.stop()
