"""Routes of the requests to models: who asks, how far each is, and what cancels it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import msgspec

from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.errors import Conflict, NotFound
from modeldeck.core.schema import RecordedText, Recording, RequestInfo

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestList:
    """Requests to models."""

    requests: list[RequestInfo]
    """Those that run or wait and the last 50 that ended, in the order of their arrival."""


MOST_S = 3600.0
"""Longest recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingBody:
    """A recording of what requests say and what is answered, in the core's memory only."""

    seconds: Annotated[float, msgspec.Meta(ge=1, le=MOST_S)] = 300.0
    models: Annotated[list[str], msgspec.Meta(max_length=100)] = field(default_factory=list)
    """Only requests to these; empty for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDocument:
    """One request to a model."""

    request: RequestInfo
    text: RecordedText | None = None
    """What it says and what was answered; None where that is not recorded."""


def get_request(deck: Deck, request: Request) -> Response:
    """A request to a model; with its text while that is recorded."""
    found, text = deck.requests.get(request.params["request"])
    return json_response(RequestDocument(request=found, text=text))


async def record(deck: Deck, request: Request) -> Response:
    """Record what requests say and what is answered, for some time."""
    body = request.parse(RecordingBody)
    requester = request.requester("native")
    return json_response(await deck.requests.record(body.seconds, body.models, requester))


async def stop_recording(deck: Deck, request: Request) -> Response:
    """End the recording, and drop what it has."""
    await deck.requests.stop_recording(request.origin)
    return Response(status=204, content_type=None)


def list_requests(deck: Deck, request: Request) -> Response:
    """Requests to models, without what they say."""
    return json_response(RequestList(requests=list(deck.requests.all())))


async def cancel_request(deck: Deck, request: Request) -> Response:
    """Cancel a request to a model; its client gets an error that names who cancelled it."""
    key = request.params["request"]
    return json_response(await deck.requests.cancel(key, request.requester("native")))


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
    Route(
        method="GET",
        template="/deck/requests/{request}",
        operation_id="deckGetRequest",
        summary="A request to a model, with its text while that is recorded",
        tag="instances",
        handler=get_request,
        answer=RequestDocument,
        raises=(NotFound,),
        need="manage",
    ),
    Route(
        method="PUT",
        template="/deck/recording",
        operation_id="deckRecord",
        summary="Record what requests say, for some minutes and in memory only",
        tag="instances",
        handler=record,
        body=RecordingBody,
        answer=Recording,
        raises=(NotFound,),
    ),
    Route(
        method="DELETE",
        template="/deck/recording",
        operation_id="deckStopRecording",
        summary="End the recording, and drop what it has",
        tag="instances",
        handler=stop_recording,
        status=204,
    ),
)
