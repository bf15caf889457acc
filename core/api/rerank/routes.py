"""`POST /v1/rerank`, `/v2/rerank` and `/rerank`: how well texts answer a query, the best first.

One body and one answer serve the clients of Jina, vLLM and Cohere; with `texts` instead of
`documents` it is TEI's form, whose answer is a bare list.

Sources: https://jina.ai/reranker, https://docs.cohere.com/reference/rerank and
https://huggingface.github.io/text-embeddings-inference
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from modeldeck.core.api.dialect_routes import ASKING, dialect_route
from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.api.inference import seconds
from modeldeck.core.api.names import public_name
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Model, Priority, TextScore

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

MOST_TEXTS = 1000
"""Texts in one request at most: Cohere's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedDocument:
    """A text to rank, in the form of an object."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankBody:
    """A request to rank texts."""

    query: str
    model: str | None = None
    """An id, a unique name, or an unambiguous short name; may be left out where there is one
    downloaded model whose name says that it is a reranker, since TEI's clients send none."""
    documents: list[str | RankedDocument] | None = None
    texts: list[str] | None = None
    """TEI's name of `documents`."""
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Return this many, the best."""
    return_documents: bool | None = None
    return_text: bool | None = None
    """TEI's name of `return_documents`."""
    raw_scores: bool | None = None
    """TEI's: scores as the model has them, of any size, instead of 0 to 1."""
    priority: Priority | int | None = None
    """As in the other requests: `batch` lets others go first."""
    keep_alive: float | str | None = None
    """How long the model stays loaded, as in the other requests."""

    def to_rank(self) -> list[str]:
        """The texts. Raises InvalidRequest."""
        given = self.documents if self.documents is not None else self.texts
        if given is None or not 1 <= len(given) <= MOST_TEXTS:
            raise InvalidRequest(f"documents must be 1 to {MOST_TEXTS} texts.")
        return [each.text if isinstance(each, RankedDocument) else each for each in given]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedResult:
    """A text with its score."""

    index: int
    """Its place in the request."""
    relevance_score: float
    """From 0 to 1."""
    document: RankedDocument | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedText:
    """A text with its score, in TEI's form."""

    index: int
    score: float
    text: str | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankUsage:
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiVersion:
    """The version of Cohere's API."""

    version: str = "2"


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledUnits:
    """What Cohere would count."""

    search_units: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CohereMeta:
    """Fields that Cohere's clients read."""

    api_version: ApiVersion = field(default_factory=ApiVersion)
    billed_units: BilledUnits = field(default_factory=BilledUnits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankAnswer:
    """The texts, the best first."""

    id: str
    model: str
    results: list[RankedResult]
    usage: RerankUsage
    object: Literal["list"] = "list"
    meta: CohereMeta = field(default_factory=CohereMeta)


async def rerank(deck: Deck, request: Request) -> Response:
    """Rank texts by how well they answer a query, with a reranker that is loaded on demand."""
    body = request.parse(RerankBody)
    texts, model = body.to_rank(), _model(deck, body.model)
    keep = seconds(body.keep_alive)
    requester = request.requester("openai", body.priority)
    scores = await deck.inference.rank(model, body.query, texts, requester, keep_alive_s=keep)
    if body.documents is None:
        return json_response(tei_answer(body, texts, scores))
    name = public_name(model, deck.state.models)
    return json_response(answer(body, texts, scores, name))


def _model(deck: Deck, name: str | None) -> Model:
    """The model that is asked. Raises NotFound, Ambiguous, InvalidRequest."""
    if name is not None:
        return deck.models.find(name)
    found = [
        model
        for model in deck.state.models.values()
        if model.downloaded and "rerank" in model.unique.casefold()
    ]
    if len(found) != 1:
        raise InvalidRequest(
            f"The request names no model, and there are {len(found)} rerankers.",
            "Name one in the field `model`.",
        )
    return found[0]


def _order(scores: Sequence[TextScore], most: int | None) -> list[int]:
    """Places of the texts, the best first."""
    places = sorted(range(len(scores)), key=lambda place: -scores[place].score)
    return places[:most]


def answer(
    body: RerankBody, texts: Sequence[str], scores: Sequence[TextScore], model: str
) -> RerankAnswer:
    """The answer in the form of Jina, vLLM and Cohere. Pure but for its id."""
    tokens = sum(score.tokens for score in scores)
    return RerankAnswer(
        id=f"rerank-{uuid.uuid4().hex}",
        model=model,
        results=[
            RankedResult(
                index=place,
                relevance_score=scores[place].probability,
                document=RankedDocument(text=texts[place]) if body.return_documents else UNSET,
            )
            for place in _order(scores, body.top_n)
        ],
        usage=RerankUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def tei_answer(
    body: RerankBody, texts: Sequence[str], scores: Sequence[TextScore]
) -> list[RankedText]:
    """The answer in TEI's form. Pure."""
    return [
        RankedText(
            index=place,
            score=scores[place].score if body.raw_scores else scores[place].probability,
            text=texts[place] if body.return_text or body.return_documents else UNSET,
        )
        for place in _order(scores, body.top_n)
    ]


def _route(path: str, summary: str, operation_id: str, answered: Any) -> Route:
    given = {"tag": "openai", "error_style": "openai", "operation_id": operation_id, **ASKING}
    return dialect_route("POST", path, rerank, summary, body=RerankBody, answer=answered, **given)


ROUTES: tuple[Route, ...] = (
    _route("/v1/rerank", "Rank texts by a query, as Jina and Cohere do", "rerank", RerankAnswer),
    _route("/v2/rerank", "The same, where Cohere's newer clients look", "rerankCohere",
           RerankAnswer),
    _route("/rerank", "The same, with `texts` in TEI's form", "rerankTei",
           RerankAnswer | list[RankedText]),
)  # fmt: skip
