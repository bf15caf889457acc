"""Items of what a request goes on from, and answers as they are stored. Pure but for new ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from modeldeck.core.api.http import json_body
from modeldeck.core.api.responses.answer import AnswerObject, new_id
from modeldeck.core.api.responses.generate_request import input_items
from modeldeck.core.api.responses.items import Item, resolved
from modeldeck.core.api.responses.request import ConversationBody
from modeldeck.core.concurrency import in_thread
from modeldeck.core.errors import ConversationNotFound, InvalidRequest, PreviousAnswerNotFound
from modeldeck.core.service.answers.conversations import KeptConversation
from modeldeck.core.service.answers.running import KeptAnswers
from modeldeck.core.service.answers.store import StoredAnswer

StoredItem = tuple[str, bytes]
"""The id of an item, and its JSON."""

_PREFIXES: Mapping[str, str] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}


AT_ONCE_BYTES = 256 << 10
"""Items up to this size are decoded and encoded on the loop, larger ones in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedItems:
    """The items of a request, and of what it goes on from: an answer, or a conversation."""

    earlier: list[Item]
    own: list[Item]
    previous: StoredAnswer | None = None
    conversation: KeptConversation | None = None

    @property
    def all(self) -> list[Item]:
        """The whole conversation."""
        return self.earlier + self.own


async def conversation_so_far(
    answers: KeptAnswers, body: ConversationBody, owner: str
) -> AskedItems:
    """The items of a request, with references replaced by what they refer to.

    Raises PreviousAnswerNotFound, ConversationNotFound, and InvalidRequest for references to items
    that are not kept.
    """
    previous = conversation = None
    earlier: list[Item] = []
    if (key := body.conversation_id()) is not None:
        conversation = kept_conversation(answers, key, owner)
        earlier = await decoded(list(conversation.items.values()))
    elif (id := body.previous_response_id) is not None:
        previous = _previous(answers, id, owner)
        earlier = await decoded(list(previous.items()))
    own = resolved(input_items(body), partial(find_item, answers, owner))
    return AskedItems(earlier=earlier, own=own, previous=previous, conversation=conversation)


def _previous(answers: KeptAnswers, id: str, owner: str) -> StoredAnswer:
    """The answer that a request goes on from. Raises PreviousAnswerNotFound, InvalidRequest."""
    running = answers.running(id, owner)
    if running is not None and not running.ended:
        raise PreviousAnswerNotFound(
            f"The answer {id[:80]!r} is not at its end yet (at `$.previous_response_id`).",
            "Wait for its end, or send the whole conversation.",
        )
    previous = answers.store.find(id, owner)
    if previous is None:
        raise PreviousAnswerNotFound(
            f"No answer with the id {id[:80]!r} is kept (at `$.previous_response_id`).",
            "Send the whole conversation. Answers are kept for a day, and end with the core.",
        )
    if previous.conversation:
        raise InvalidRequest(
            f"The answer {id[:80]!r} was given in a conversation (at `$.previous_response_id`).",
            f"Send conversation: {previous.conversation!r} instead.",
        )
    return previous


def kept_conversation(answers: KeptAnswers, id: str, owner: str) -> KeptConversation:
    """The conversation with this id. Raises ConversationNotFound."""
    found = answers.conversations.find(id, owner)
    if found is None:
        raise ConversationNotFound(
            f"No conversation with the id {id[:80]!r} is kept.",
            "They are kept for a day after their last use, and end with the core.",
        )
    return found


async def decoded(items: Sequence[bytes]) -> list[Item]:
    """Items as they are stored, decoded."""
    if sum(map(len, items)) <= AT_ONCE_BYTES:
        return [msgspec.json.decode(item) for item in items]
    return await in_thread(lambda: [json_body.decode(item) for item in items])


async def encoded(items: Sequence[Item]) -> list[StoredItem]:
    """Items in full form, as they are stored."""

    def work() -> list[StoredItem]:
        return [(str(item["id"]), json_body.encode(item)) for item in items]

    return await in_thread(work) if size_of(items) > AT_ONCE_BYTES else work()


def size_of(value: object) -> int:
    """About how many characters the strings of a value have."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(size_of, value.values()))
    return sum(map(size_of, value)) if isinstance(value, list | tuple) else 0


def find_item(answers: KeptAnswers, owner: str, id: str) -> Item | None:
    """The item with this id of any kept answer or conversation of the owner.

    A conversation has items that no kept answer has: those it was begun with or that were added to
    it, and those of answers that were not stored.
    """
    found = answers.store.find_item(id, owner)
    if found is None:
        found = answers.conversations.find_item(id, owner)
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
    inputs: Sequence[StoredItem],
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
        inputs=tuple(data for _, data in inputs),
        outputs=tuple(encode(item) for item in answer.output),
        item_ids=(*(id for id, _ in inputs), *(item.id for item in answer.output)),
        previous=previous,
        streamed=streamed,
        background=answer.background,
        conversation=answer.conversation.id if answer.conversation is not None else "",
    )
