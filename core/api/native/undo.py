"""Undo routes."""

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
    """An action to undo."""

    id: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    """Id from the list or a receipt; None for the newest action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoList:
    """Actions that can be undone."""

    actions: list[Undoable]
    """Newest first."""


def list_undoable(deck: Deck, request: Request) -> Response:
    """Actions that can be undone."""
    return json_response(UndoList(actions=list(deck.undoable())))


async def undo(deck: Deck, request: Request) -> Response:
    """Undo an action."""
    return json_response(await deck.undo(request.parse(UndoBody).id, request.origin))


ROUTES = (
    Route(
        method="GET",
        template="/deck/undo",
        operation_id="deckUndoable",
        summary="Actions that can be undone",
        tag="core",
        handler=list_undoable,
        answer=UndoList,
    ),
    Route(
        method="POST",
        template="/deck/undo",
        operation_id="deckUndo",
        summary="Undo an action: the newest, or the one named",
        tag="core",
        handler=undo,
        body=UndoBody,
        answer=Undoable,
    ),
)
