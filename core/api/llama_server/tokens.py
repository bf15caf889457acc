"""`/tokenize`, `/detokenize`, `/apply-template` and the count of a chat's tokens.

`model` may be left out while exactly one model is loaded: llama-server itself has only one.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from modeldeck.core.api.http.messages import Request, Response, convert, json_response
from modeldeck.core.api.media_input import with_media
from modeldeck.core.api.openai.chat_request import ChatBody, generate_request
from modeldeck.core.api.openai.field_table import CHAT, FieldTable
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import GenerateRequest, TokenizedText, TokenQuery
from modeldeck.core.schema.summary import LOADED

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeBody:
    """A text to turn into tokens."""

    model: str = ""
    """May be left out while exactly one model is loaded."""
    content: str
    add_special: bool = False
    """Whether to add the tokens that the model expects at the beginning of a text."""
    parse_special: bool = True
    """Whether names of special tokens in the text become those tokens."""
    with_pieces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceForm:
    """A token and its text."""

    id: int
    piece: str | list[int]
    """The text, or its bytes where they are only a part of a character."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTokens:
    """Tokens of a text."""

    tokens: list[int | PieceForm]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeBody:
    """Tokens to turn into text."""

    model: str = ""
    """May be left out while exactly one model is loaded."""
    tokens: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainContent:
    """The text of tokens."""

    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenPrompt:
    """A conversation as the model reads it."""

    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTokens:
    """The tokens of a conversation."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


async def tokenize(deck: Deck, request: Request) -> Response:
    """Turn a text into tokens."""
    body = _parsed(deck, request, TokenizeBody)
    query = TokenQuery(text=body.content, begin=body.add_special, names=body.parse_special)
    found = await _asked(deck, body.model, query, request)
    if not body.with_pieces:
        return json_response(TextTokens(tokens=list(found.tokens)))
    pairs = zip(found.tokens, found.pieces, strict=True)
    return json_response(
        TextTokens(tokens=[PieceForm(id=token, piece=_shown(data)) for token, data in pairs])
    )


def _shown(data: bytes) -> str | list[int]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


async def detokenize(deck: Deck, request: Request) -> Response:
    """Turn tokens into text."""
    body = _parsed(deck, request, DetokenizeBody)
    query = TokenQuery(tokens=tuple(body.tokens))
    found = await _asked(deck, body.model, query, request)
    return json_response(PlainContent(content=found.text))


async def apply_template(deck: Deck, request: Request) -> Response:
    """Write a conversation by the model's chat template, without answering it."""
    body = _parsed(deck, request, ChatBody, CHAT)
    asked = await _read(deck, body, request)
    found = await _asked(deck, body.model, TokenQuery(request=asked), request)
    return json_response(WrittenPrompt(prompt=found.text))


async def count_chat(deck: Deck, request: Request) -> Response:
    """Count the tokens of a conversation, without answering it."""
    body = _parsed(deck, request, ChatBody, CHAT)
    asked = await _read(deck, body, request)
    query = TokenQuery(request=asked, count_only=True)
    found = await _asked(deck, body.model, query, request)
    return json_response(InputTokens(input_tokens=found.count))


async def _read(deck: Deck, body: ChatBody, request: Request) -> GenerateRequest:
    """The conversation with the bytes of its images."""
    requester = request.requester("llama-server")
    return await with_media(deck, deck.models.find(body.model), generate_request(body), requester)


async def _asked(deck: Deck, name: str, query: TokenQuery, request: Request) -> TokenizedText:
    return await deck.inference.tokenize(
        deck.models.find(name), query, request.requester("llama-server")
    )


def _parsed(deck: Deck, request: Request, type_: type[B], table: FieldTable | None = None) -> B:
    """The body, with the loaded model where it names none.

    Raises InvalidRequest, for refused fields as well: a prompt without the beginning of an answer,
    say, would be another one.
    """
    value: Any = request.json()
    if table is not None:
        table.check(value)
    value = {} if value is None else value
    if isinstance(value, dict) and not value.get("model"):
        value = {**value, "model": _only_model(deck)}
    return convert(value, type_, "The body")


def _only_model(deck: Deck) -> str:
    """The id of the model that is loaded. Raises InvalidRequest where it is not exactly one."""
    loaded = [i.model_id for i in deck.state.instances.values() if i.state in LOADED]
    if len(loaded) != 1:
        raise InvalidRequest(
            f"The request names no model, and {len(loaded)} are loaded.",
            "Name one in the field `model`; GET /v1/models lists them.",
        )
    return loaded[0]
