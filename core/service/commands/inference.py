"""Commands that a model answers: text, vectors, ranks and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from modeldeck.core.schema import (
    GenerateRequest,
    LoadOptions,
    Model,
    Requester,
    TextScore,
    TokenizedText,
    TokenQuery,
    media_support,
)
from modeldeck.core.service.inference.answers import EmbeddingReply, ModelReply
from modeldeck.core.service.wiring import ServiceParts


class InferenceCommands:
    """The commands of `Deck.inference`."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts

    def answer(
        self,
        model: Model,
        request: GenerateRequest,
        requester: Requester,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> AbstractAsyncContextManager[ModelReply]:
        """Generate an answer, chunk by chunk, with a model that is loaded on demand.

        Leaving the block cancels it. Options and `keep_alive_s` are those of
        `InstanceCommands.using`, and so are its errors; raises InvalidRequest, Busy, EngineFailed
        and Cancelled as well.
        """
        given = options or LoadOptions()
        return self._parts.model_answers.text(model, request, requester, given, keep_alive_s)

    def check_media(self, model: Model, request: GenerateRequest) -> None:
        """Raise ImageNotSupported or AudioNotSupported for what the model does not take."""
        loaded = self._parts.instance_of(model.id)
        media_support.check(request, model, loaded, self._parts.feed.state.models.values())

    def check_answers(self, model: Model) -> None:
        """Raise what `answer` would at once: NotDownloaded, EngineMissing or Conflict."""
        self._parts.on_demand.check(model)

    async def fetch_media(self, url: str, most_bytes: int, requester: Requester) -> bytes | None:
        """Return the file at a URL; None where it is longer. Raises as `MediaFetcher.fetch`."""
        return await self._parts.media_fetcher.fetch(url, most_bytes, requester.who)

    async def embed(
        self,
        model: Model,
        texts: Sequence[str],
        requester: Requester,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
        truncate: bool = False,
    ) -> EmbeddingReply:
        """Return one vector per text, from an embedding model that is loaded on demand.

        `truncate` cuts off what the model cannot read; else a text that is too long is refused. The
        other arguments, and the errors, are those of `answer`.
        """
        given = options or LoadOptions()
        return await self._parts.model_answers.vectors(
            model, texts, requester, given, keep_alive_s, truncate=truncate
        )

    async def rank(
        self,
        model: Model,
        query: str,
        texts: Sequence[str],
        requester: Requester,
        *,
        keep_alive_s: float | None = None,
    ) -> list[TextScore]:
        """Return how well each text answers a query, by a reranker that is loaded on demand.

        Arguments and errors are those of `answer`.
        """
        return await self._parts.model_answers.scores(model, query, texts, requester, keep_alive_s)

    async def tokenize(
        self,
        model: Model,
        query: TokenQuery,
        requester: Requester,
        *,
        keep_alive_s: float | None = None,
    ) -> TokenizedText:
        """Return the tokens of a text, or the text of tokens, by a model loaded on demand.

        Arguments and errors are those of `answer`.
        """
        return await self._parts.model_answers.tokens(model, query, requester, keep_alive_s)
