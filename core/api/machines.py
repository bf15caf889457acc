"""What machines ask of each other, and status bars of their machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.api.router import Route
from core.api.wire import Request, Response, json_response
from core.schema import Summary
from core.summary import summary

if TYPE_CHECKING:
    from core.deck import Deck


async def get_summary(deck: Deck, request: Request) -> Response:
    """The machine in a few numbers, with memory no older than a second."""
    return json_response(summary(await deck.refresh()))


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        template="/deck/summary",
        operation_id="deckGetSummary",
        summary="The machine in a few numbers, and what protocol it speaks",
        tag="core",
        handler=get_summary,
        answer=Summary,
    ),
)
