"""Token routes: for the owner of the core only, over the Unix socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.schema import NewToken, Priority, Scope, Token

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBody:
    """A token to create."""

    name: Annotated[str, msgspec.Meta(max_length=100)]
    """Name in the audit trail."""
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(max_length=10)] = ()
    """Empty for `read` and `infer`."""
    expires_s: Annotated[float, msgspec.Meta(gt=0, le=1e9)] | None = None
    """Seconds from now; None for a token that does not expire."""
    priority: Priority = "interactive"
    """`batch` for programs whose requests come after the interactive ones of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenList:
    """All tokens, without their secrets."""

    tokens: list[Token]


async def create_token(deck: Deck, request: Request) -> Response:
    """Create a token; only this response has its secret."""
    body = request.parse(TokenBody)
    made = await deck.create_token(
        body.name, body.scopes, body.expires_s, request.origin, priority=body.priority
    )
    return json_response(made)


def list_tokens(deck: Deck, request: Request) -> Response:
    """All tokens, oldest first."""
    return json_response(TokenList(tokens=deck.tokens.all()))


async def revoke_token(deck: Deck, request: Request) -> Response:
    """Revoke a token; connections that use it are dropped at once."""
    return json_response(await deck.revoke_token(request.params["token"], request.origin))


ROUTES = (
    Route(
        method="POST",
        template="/deck/tokens",
        operation_id="deckCreateToken",
        summary="Make a token (over the Unix socket only)",
        tag="core",
        handler=create_token,
        need="owner",
        body=TokenBody,
        body_required=True,
        answer=NewToken,
    ),
    Route(
        method="GET",
        template="/deck/tokens",
        operation_id="deckTokens",
        summary="The tokens (over the Unix socket only)",
        tag="core",
        handler=list_tokens,
        need="owner",
        answer=TokenList,
    ),
    Route(
        method="DELETE",
        template="/deck/tokens/{token}",
        operation_id="deckRevokeToken",
        summary="Revoke a token (over the Unix socket only)",
        tag="core",
        handler=revoke_token,
        need="owner",
        answer=Token,
    ),
)
