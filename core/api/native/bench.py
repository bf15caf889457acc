"""Routes of benchmarks: begin one, stop it, and list what was kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import msgspec

from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.http.router import Query, Route
from modeldeck.core.errors import Conflict, InvalidRequest, NotDownloaded, NotFound
from modeldeck.core.schema import Bench, BenchProgress, BenchWish

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchBody:
    """What to measure."""

    at_once: Annotated[
        list[Annotated[int, msgspec.Meta(ge=1, le=16)]], msgspec.Meta(max_length=4)
    ] = field(default_factory=list)
    """Numbers of requests at once; empty for one, and as many as the model answers up to four."""
    load: bool = False
    """Load the model if it is not loaded; it stays loaded. Otherwise that is a 409."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPage:
    """Benchmarks that were kept."""

    benches: list[Bench]
    """Newest first."""


async def begin_bench(deck: Deck, request: Request) -> Response:
    """Begin a benchmark; its progress, and in the end its figures, are in the state."""
    body = request.parse(BenchBody)
    wish = BenchWish(at_once=tuple(body.at_once), load=body.load)
    return json_response(await deck.benches.start(request.params["model"], wish, request.origin))


async def cancel_bench(deck: Deck, request: Request) -> Response:
    """Stop the benchmark that runs."""
    return json_response(await deck.benches.cancel(request.requester("native")))


def list_benches(deck: Deck, request: Request) -> Response:
    """Benchmarks that were kept on this machine."""
    return json_response(
        BenchPage(benches=list(deck.benches.all(request.query.get("model") or None)))
    )


ROUTES = (
    Route(
        method="POST",
        template="/deck/models/{model}/bench",
        operation_id="deckBench",
        summary="Measure how fast a model is",
        tag="instances",
        handler=begin_bench,
        body=BenchBody,
        answer=BenchProgress,
        raises=(NotFound, NotDownloaded, Conflict, InvalidRequest),
    ),
    Route(
        method="DELETE",
        template="/deck/bench",
        operation_id="deckCancelBench",
        summary="Stop the benchmark that runs",
        tag="instances",
        handler=cancel_bench,
        answer=BenchProgress,
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        template="/deck/benches",
        operation_id="deckBenches",
        summary="Benchmarks that were kept",
        tag="instances",
        handler=list_benches,
        answer=BenchPage,
        query=(Query(name="model", type=str, description="Only of this model."),),
    ),
)
