"""Bodies and answers of conversations, as they go over the wire.

Source: https://platform.openai.com/docs/api-reference/conversations
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from modeldeck.core.service.answers.conversations import KeptConversation

NewItems = Annotated[list[dict[str, Any]], msgspec.Meta(max_length=20)]
"""At most 20 at a time: OpenAI's number."""


ConversationMetadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConversationBody:
    """What a conversation begins with."""

    items: NewItems | None = None
    """Messages, calls and their outputs, thoughts: the items of a request for an answer."""
    metadata: ConversationMetadata | None = None
    """Handed back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataBody:
    """New metadata of a conversation, in place of the old."""

    metadata: ConversationMetadata | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItemsBody:
    """Items for the end of a conversation."""

    items: NewItems


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationObject:
    """A conversation, without its items."""

    id: str
    created_at: int
    """Seconds since the epoch."""
    metadata: dict[str, str] = field(default_factory=dict)
    object: Literal["conversation"] = "conversation"

    @classmethod
    def of(cls, kept: KeptConversation) -> ConversationObject:
        """A conversation as it is told."""
        return cls(id=kept.id, created_at=kept.created_at, metadata=dict(kept.metadata))


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenConversation:
    """That a conversation was forgotten."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True
