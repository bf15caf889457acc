"""Items of earlier answers, and answers as they are stored. Pure but for new ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from modeldeck.core.api.responses.answer import AnswerObject, new_id
from modeldeck.core.api.responses.conversation import input_items
from modeldeck.core.api.responses.items import Item, resolved
from modeldeck.core.api.responses.request_schema import QuestionBody
from modeldeck.core.errors import PreviousAnswerNotFound
from modeldeck.core.service.answers.store import AnswerStore, StoredAnswer

_PREFIXES: Mapping[str, str] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}


def conversation_so_far(
    store: AnswerStore, body: QuestionBody, owner: str
) -> tuple[list[Item], list[Item], StoredAnswer | None]:
    """The items of earlier answers, those of the request, and the answer that it goes on from.

    References are replaced by what they refer to. Raises PreviousAnswerNotFound, and InvalidRequest
    for references to items that are not kept.
    """
    previous = None
    earlier: list[Item] = []
    if (id := body.previous_response_id) is not None:
        previous = store.find(id, owner)
        if previous is None:
            raise PreviousAnswerNotFound(
                f"No answer with the id {id[:80]!r} is kept (at `$.previous_response_id`).",
                "Send the whole conversation. Answers are kept for a day, and end with the core.",
            )
        earlier = [msgspec.json.decode(item) for item in previous.items()]
    return earlier, resolved(input_items(body), partial(_find, store, owner)), previous


def _find(store: AnswerStore, owner: str, id: str) -> Item | None:
    found = store.find_item(id, owner)
    item: Item | None = msgspec.json.decode(found) if found is not None else None
    return item


def listed(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The items of a request in full form: with a type, an id, and parts."""
    return [_in_full(item) for item in items]


def _in_full(item: Item) -> dict[str, Any]:
    kind = str(item.get("type") or "message")
    whole = {**item, "type": kind}
    id = item.get("id")
    whole["id"] = id if isinstance(id, str) and id else new_id(_PREFIXES.get(kind, "item"))
    if kind == "message":
        whole.setdefault("status", "completed")
        if isinstance(content := item.get("content"), str):
            whole["content"] = [_part(content, item.get("role") == "assistant")]
    elif kind in ("function_call", "function_call_output"):
        whole.setdefault("status", "completed")
    return whole


def _part(text: str, is_answer: bool) -> dict[str, Any]:
    if is_answer:
        return {"type": "output_text", "text": text, "annotations": []}
    return {"type": "input_text", "text": text}


def stored(
    answer: AnswerObject,
    inputs: Sequence[Mapping[str, Any]],
    owner: str,
    previous: StoredAnswer | None,
    *,
    streamed: bool,
) -> StoredAnswer:
    """An answer as it is stored."""
    encode = msgspec.json.encode
    return StoredAnswer(
        id=answer.id,
        owner=owner,
        response=encode(answer),
        inputs=tuple(encode(item) for item in inputs),
        outputs=tuple(encode(item) for item in answer.output),
        item_ids=(*(str(item["id"]) for item in inputs), *(item.id for item in answer.output)),
        previous=previous,
        streamed=streamed,
    )
