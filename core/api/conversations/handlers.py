"""Conversations: make one, add to it, read it, forget it.

Only what a conversation has is kept: `conversation` in a request for an answer goes on from it, and
adds the request and the answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from modeldeck.core.api.conversations.schema import (
    ConversationObject,
    ForgottenConversation,
    MetadataBody,
    NewConversationBody,
    NewItemsBody,
)
from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.responses.answer import new_id
from modeldeck.core.api.responses.history import (
    StoredItem,
    decoded,
    encoded,
    find_item,
    kept_conversation,
    listed,
)
from modeldeck.core.api.responses.items import messages_of, resolved
from modeldeck.core.api.responses.kept import ItemList, page
from modeldeck.core.errors import ConversationNotFound
from modeldeck.core.service.answers.conversations import KeptConversation

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


async def create(deck: Deck, request: Request) -> Response:
    """Begin a conversation, which is kept in memory for a day after its last use."""
    body = request.parse(NewConversationBody)
    items = await _new(deck, request, body.items or ())
    metadata = body.metadata or {}
    made = KeptConversation.begun(new_id("conv"), request.owner, int(time.time()), metadata)
    store = deck.answers.conversations
    store.check(made, items)
    store.keep(made)
    store.add(made, items)
    return json_response(ConversationObject.of(made))


async def _new(
    deck: Deck, request: Request, items: Sequence[dict[str, Any]]
) -> Sequence[StoredItem]:
    """New items as they are stored. Raises InvalidRequest for what no model could be given."""
    find = partial(find_item, deck.answers, request.owner)
    whole = resolved(items, find, place="items")
    messages_of(whole, place="items")
    return await encoded(listed(whole))


def retrieve(deck: Deck, request: Request) -> Response:
    """A conversation, without its items."""
    return json_response(ConversationObject.of(_found(deck, request)))


def update(deck: Deck, request: Request) -> Response:
    """Give a conversation other metadata."""
    kept = _found(deck, request)
    deck.answers.conversations.describe(kept, request.parse(MetadataBody).metadata or {})
    return json_response(ConversationObject.of(kept))


def forget(deck: Deck, request: Request) -> Response:
    """Forget a conversation with its items; answers that were given in it stay."""
    kept = _found(deck, request)
    deck.answers.conversations.forget(kept)
    return json_response(ForgottenConversation(id=kept.id))


async def add_items(deck: Deck, request: Request) -> Response:
    """Add up to 20 items at the end of a conversation; answers with them."""
    _found(deck, request)
    items = await _new(deck, request, request.parse(NewItemsBody).items)
    kept = _found(deck, request)  # it may be gone by now, or have some of them
    deck.answers.conversations.check(kept, items)
    deck.answers.conversations.add(kept, items)
    return json_response(_item_list(await decoded([data for _, data in items])))


def _item_list(items: Sequence[Any]) -> ItemList:
    ids = [item["id"] for item in items]
    return ItemList(
        data=list(items),
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
    )


async def list_items(deck: Deck, request: Request) -> Response:
    """The items of a conversation, the newest first unless `order` is `asc`."""
    items = await decoded(list(_found(deck, request).items.values()))
    return json_response(page(items, request))


def retrieve_item(deck: Deck, request: Request) -> Response:
    """An item of a conversation."""
    id = request.params["item"]
    item = _found(deck, request).items.get(id)
    if item is None:
        raise _no_item(id)
    return Response(body=item)


def remove_item(deck: Deck, request: Request) -> Response:
    """Remove an item from a conversation; answers with the conversation."""
    kept, id = _found(deck, request), request.params["item"]
    if not deck.answers.conversations.remove(kept, id):
        raise _no_item(id)
    return json_response(ConversationObject.of(kept))


def _no_item(id: str) -> ConversationNotFound:
    return ConversationNotFound(
        f"The conversation has no item {id[:80]!r}.", "Its items tell their ids."
    )


def _found(deck: Deck, request: Request) -> KeptConversation:
    """The conversation that a route names. Raises ConversationNotFound."""
    return kept_conversation(deck.answers, request.params["conversation"], request.owner)
