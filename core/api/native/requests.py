"""Routes of the requests to models: who asks, how far each is, and what cancels it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.errors import Conflict, NotFound
from modeldeck.core.schema import RequestInfo

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestList:
    """Requests to models."""

    requests: list[RequestInfo]
    """Those that run or wait and the last 50 that ended, in the order of their arrival."""


def list_requests(deck: Deck, request: Request) -> Response:
    """Requests to models, without what they say."""
    return json_response(RequestList(requests=list(deck.requests())))


async def cancel_request(deck: Deck, request: Request) -> Response:
    """Cancel a request to a model; its client gets an error that names who cancelled it."""
    key = request.params["request"]
    return json_response(await deck.cancel_request(key, request.requester("native")))


ROUTES = (
    Route(
        method="GET",
        template="/deck/requests",
        operation_id="deckRequests",
        summary="Requests to models: who asks, and how far each is",
        tag="instances",
        handler=list_requests,
        answer=RequestList,
    ),
    Route(
        method="POST",
        template="/deck/requests/{request}/cancel",
        operation_id="deckCancelRequest",
        summary="Cancel a request to a model",
        tag="instances",
        handler=cancel_request,
        answer=RequestInfo,
        raises=(NotFound, Conflict),
    ),
)
