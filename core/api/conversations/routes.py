"""OpenAI's Conversations API under `/v1/conversations`.

Source: https://platform.openai.com/docs/api-reference/conversations
"""

from __future__ import annotations

from typing import Any

from modeldeck.core.api.conversations.handlers import (
    add_items,
    create,
    forget,
    list_items,
    remove_item,
    retrieve,
    retrieve_item,
    update,
)
from modeldeck.core.api.conversations.schema import (
    ConversationObject,
    ForgottenConversation,
    MetadataBody,
    NewConversationBody,
    NewItemsBody,
)
from modeldeck.core.api.http.router import Handler, Route
from modeldeck.core.api.responses.kept import ItemList
from modeldeck.core.api.responses.routes import PAGE
from modeldeck.core.errors import ConversationNotFound, InvalidRequest


def _route(method: str, path: str, handler: Handler, summary: str, **more: Any) -> Route:
    raises = (InvalidRequest, *((ConversationNotFound,) if path else ()))
    return Route(
        method=method,
        template=f"/v1/conversations{path}",
        handler=handler,
        summary=summary,
        error_style="openai",
        raises=raises,
        tag="openai",
        **more,
    )


_ONE = "/{conversation}"
_ITEM = "/{conversation}/items/{item}"
_LARGE: dict[str, Any] = {"asks": True}
"""Of a route whose body may hold images."""

ROUTES: tuple[Route, ...] = (
    _route("POST", "", create, "Begin a conversation that answers go on from",
           operation_id="conversationsCreate", body=NewConversationBody,
           answer=ConversationObject, **_LARGE),
    _route("GET", _ONE, retrieve, "A conversation, without its items",
           operation_id="conversationsRetrieve", answer=ConversationObject),
    _route("POST", _ONE, update, "Give a conversation other metadata",
           operation_id="conversationsUpdate", body=MetadataBody, body_required=True,
           answer=ConversationObject),
    _route("DELETE", _ONE, forget, "Forget a conversation with its items",
           operation_id="conversationsDelete", answer=ForgottenConversation),
    _route("POST", f"{_ONE}/items", add_items, "Add items to a conversation",
           operation_id="conversationsAddItems", body=NewItemsBody, body_required=True,
           answer=ItemList, **_LARGE),
    _route("GET", f"{_ONE}/items", list_items, "The items of a conversation",
           operation_id="conversationsItems", query=PAGE, answer=ItemList),
    _route("GET", _ITEM, retrieve_item, "An item of a conversation",
           operation_id="conversationsItem", answer=dict[str, Any]),
    _route("DELETE", _ITEM, remove_item, "Remove an item from a conversation",
           operation_id="conversationsRemoveItem", answer=ConversationObject),
)  # fmt: skip
