"""`POST /v1/embeddings`: vectors of length 1 for texts.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.inference import seconds, shortened
from modeldeck.core.api.names import public_name
from modeldeck.core.api.openai.field_table import EMBEDDING, parsed
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Priority

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

MOST_INPUTS = 2048
"""Texts in one request at most: OpenAI's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsBody:
    """A request for the vectors of texts."""

    model: str
    """An id, a unique name, or an unambiguous short name."""
    input: str | list[Any]
    """A text or several; token numbers are refused."""
    encoding_format: Literal["float", "base64"] = "float"
    """`base64` encodes little-endian 32-bit floats."""
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)] | None = None
    """Return only this many leading numbers, scaled to length 1; useful with models trained for it
    (Matryoshka)."""
    keep_alive: float | str | None = None
    """As in `Sampling`."""
    priority: Priority | int | None = None
    """As in `Sampling`."""

    def texts(self) -> list[str]:
        """The texts to embed. Raises InvalidRequest."""
        given = [self.input] if isinstance(self.input, str) else self.input
        if not 1 <= len(given) <= MOST_INPUTS:
            raise InvalidRequest(f"input must be 1 to {MOST_INPUTS} texts.")
        if not all(isinstance(text, str) for text in given):
            raise InvalidRequest(
                "Input of token numbers is not supported.", "Send the input as text."
            )
        return given


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorForm:
    """The vector of one text."""

    index: int
    embedding: list[float] | str
    """Numbers, or their bytes in base64."""
    object: Literal["embedding"] = "embedding"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsUsage:
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingList:
    """The vectors, in the order of the texts."""

    model: str
    usage: EmbeddingsUsage
    data: list[VectorForm] = field(default_factory=list)
    object: Literal["list"] = "list"


def encoded(values: Sequence[float], format: Literal["float", "base64"]) -> list[float] | str:
    """A vector in the requested format.

    >>> encoded([1.0, -0.5], "base64")
    'AACAPwAAAL8='
    """
    if format == "float":
        return list(values)
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


async def embed(deck: Deck, request: Request) -> Response:
    """Turn texts into vectors, with an embedding model."""
    body = parsed(request, EmbeddingsBody, EMBEDDING)
    texts, model = body.texts(), deck.models.find(body.model)
    keep = seconds(body.keep_alive)
    requester = request.requester("openai", body.priority)
    vectors = (await deck.inference.embed(model, texts, requester, keep_alive_s=keep)).vectors
    data = [
        VectorForm(
            index=index,
            embedding=encoded(shortened(vector.values, body.dimensions), body.encoding_format),
        )
        for index, vector in enumerate(vectors)
    ]
    tokens = sum(vector.tokens for vector in vectors)
    usage = EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens)
    return json_response(
        EmbeddingList(model=public_name(model, deck.state.models), usage=usage, data=data)
    )
