"""Commands about benchmarks: start, cancel, list."""

from __future__ import annotations

from modeldeck.core.errors import NotDownloaded
from modeldeck.core.schema import Bench, BenchProgress, BenchWish, Requester
from modeldeck.core.service.commands.models import ModelCommands
from modeldeck.core.service.wiring import ServiceParts


class BenchCommands:
    """The commands of `Deck.benches`."""

    def __init__(self, parts: ServiceParts, models: ModelCommands) -> None:
        self._parts = parts
        self._models = models

    async def start(self, ref: str, wish: BenchWish, origin: str) -> BenchProgress:
        """Begin to measure how fast a model is; the progress is in State.

        Raises NotFound, NotDownloaded, Conflict and InvalidRequest.
        """
        model = self._models.find(ref)
        if not model.downloaded:
            raise NotDownloaded(f"{model.name} is not downloaded.", "Download it first.")
        async with self._parts.audit.action(origin, "bench", model.unique):
            return self._parts.bench.start(model, self._parts.instance_of(model.id), wish, origin)

    async def cancel(self, requester: Requester) -> BenchProgress:
        """Stop the benchmark that runs. Raises NotFound."""
        async with self._parts.audit.action(requester.origin, "cancel bench", ""):
            return self._parts.bench.cancel(requester.who)

    def all(self, ref: str | None = None) -> tuple[Bench, ...]:
        """Return the benchmarks that were kept, newest first; of one model, or of all."""
        return self._parts.bench.benches(None if ref is None else self._models.find(ref).id)
