"""Answers of models: the model is loaded on demand, and each request has its record in State."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Instance,
    LoadOptions,
    Model,
    Requester,
    TextScore,
    TextVector,
    TokenizedText,
    TokenQuery,
    media_support,
)
from modeldeck.core.service.counters import Counters
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.inference.recorder import RequestRecorder
from modeldeck.core.service.inference.request_records import RequestRecords, RequestTicket
from modeldeck.core.service.loading.on_demand import OnDemandLoader


async def at_once() -> None:
    """Wait for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """The answer of a model."""

    chunks: AsyncIterator[Chunk]
    """Pieces of the answer, the last one with a finish reason; iterating raises its error."""
    load_s: float
    """Seconds until the model was loaded and ready."""
    context_length: int | None = None
    """Tokens that prompt and answer may have together."""
    parallel: int = 1
    """Requests that the instance answers at the same time, at most."""
    begun: Callable[[], Awaitable[None]] = at_once
    """Waits until its turn has come and the engine has the request, or it has ended before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingReply:
    """The vectors of texts."""

    vectors: list[TextVector]
    load_s: float
    """Seconds until the model was loaded and ready."""


class ModelAnswers:
    """Answers requests with models that are loaded, or loaded on demand."""

    def __init__(
        self,
        *,
        feed: Feed,
        records: RequestRecords,
        on_demand: OnDemandLoader,
        engines: Engines,
        counters: Counters,
        recorder: RequestRecorder,
    ) -> None:
        self._feed = feed
        self._records = records
        self._on_demand = on_demand
        self._engines = engines
        self._counters = counters
        self._recorder = recorder

    @asynccontextmanager
    async def text(
        self,
        model: Model,
        request: GenerateRequest,
        requester: Requester,
        options: LoadOptions,
        keep_alive_s: float | None,
    ) -> AsyncIterator[ModelReply]:
        """Load the model if necessary, and generate. Arguments as of `Deck.inference.answer`."""
        started = time.monotonic()
        async with AsyncExitStack() as stack:
            ticket = stack.enter_context(self._records.opened(model, requester, request=request))
            self._recorder.begin(ticket.id, model, request)
            with ticket.interruptible():
                using = self._on_demand.using(model, options, requester, keep_alive_s, ticket.note)
                instance = await stack.enter_async_context(using)
                ticket.note(instance_id=instance.id, context_length=instance.context_length)
            self._check_media(model, request, instance)
            load_s = time.monotonic() - started
            stream = await stack.enter_async_context(
                self._engines.generate(instance.id, request, requester, ticket.note)
            )
            stack.enter_context(ticket.stoppable(stream.cancel))
            pieces = self._pieces(stream, ticket)
            yield ModelReply(
                chunks=await stack.enter_async_context(aclosing(pieces)),
                load_s=load_s,
                context_length=instance.context_length,
                parallel=instance.parallel,
                begun=stream.begun,
            )

    async def _pieces(
        self, chunks: AsyncIterator[Chunk], ticket: RequestTicket
    ) -> AsyncGenerator[Chunk, None]:
        """The pieces, counted."""
        last: Chunk | None = None
        try:
            async for chunk in chunks:
                self._recorder.add(ticket.id, chunk)
                if chunk.finish_reason is not None:
                    last = chunk
                    ticket.complete(chunk)
                yield chunk
        finally:
            end = last.finish_reason if last is not None else None
            self._counters.answer(end or "abandoned", last)

    async def vectors(
        self,
        model: Model,
        texts: Sequence[str],
        requester: Requester,
        options: LoadOptions,
        keep_alive_s: float | None,
        *,
        truncate: bool = False,
    ) -> EmbeddingReply:
        """Load the model if necessary, and embed. Arguments as of `Deck.inference.embed`."""
        started = time.monotonic()
        with self._records.opened(model, requester, "embedding") as ticket, ticket.interruptible():
            using = self._on_demand.using(model, options, requester, keep_alive_s, ticket.note)
            async with using as instance:
                ticket.note(instance_id=instance.id)
                load_s = time.monotonic() - started
                vectors = await self._engines.embed(
                    instance.id, texts, requester, ticket.note, truncate=truncate
                )
            tokens = sum(vector.tokens for vector in vectors)
            ticket.end("done", prompt_tokens=tokens, prompt_read=tokens)
            return EmbeddingReply(vectors=vectors, load_s=load_s)

    async def scores(
        self,
        model: Model,
        query: str,
        texts: Sequence[str],
        requester: Requester,
        keep_alive_s: float | None,
    ) -> list[TextScore]:
        """Load the model if necessary, and rank. Arguments as of `Deck.inference.rank`."""
        with self._records.opened(model, requester, "ranking") as ticket, ticket.interruptible():
            using = self._on_demand.using(
                model, LoadOptions(), requester, keep_alive_s, ticket.note
            )
            async with using as instance:
                ticket.note(instance_id=instance.id)
                scores = await self._engines.rank(instance.id, query, texts, requester, ticket.note)
            tokens = sum(score.tokens for score in scores)
            ticket.end("done", prompt_tokens=tokens, prompt_read=tokens)
            return scores

    async def tokens(
        self, model: Model, query: TokenQuery, requester: Requester, keep_alive_s: float | None
    ) -> TokenizedText:
        """Load the model if necessary, and tokenize. Arguments as of `Deck.inference.tokenize`."""
        using = self._on_demand.using(model, LoadOptions(), requester, keep_alive_s)
        async with using as instance:
            if query.request is not None:
                self._check_media(model, query.request, instance)
            return await self._engines.tokenize(instance.id, query, requester)

    def _check_media(self, model: Model, request: GenerateRequest, instance: Instance) -> None:
        """Check once it is loaded: only then is it known what it takes."""
        media_support.check(request, model, instance, self._feed.state.models.values())
