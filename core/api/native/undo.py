"""The routes that take actions back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.schema import Undoable

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoBody:
    """What to take back."""

    id: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    """From the list, or a receipt; None for the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoList:
    """What can be taken back."""

    actions: list[Undoable]
    """Newest first."""


def list_undoable(deck: Deck, request: Request) -> Response:
    """What can be taken back at no cost."""
    return json_response(UndoList(actions=list(deck.undoable())))


async def undo(deck: Deck, request: Request) -> Response:
    """Take an action back."""
    return json_response(await deck.undo(request.parse(UndoBody).id, request.origin))


ROUTES = (
    Route(
        method="GET",
        template="/deck/undo",
        operation_id="deckUndoable",
        summary="What can be taken back at no cost",
        tag="core",
        handler=list_undoable,
        answer=UndoList,
    ),
    Route(
        method="POST",
        template="/deck/undo",
        operation_id="deckUndo",
        summary="Take an action back, the newest unless one is named",
        tag="core",
        handler=undo,
        body=UndoBody,
        answer=Undoable,
    ),
)
