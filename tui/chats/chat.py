"""A conversation as a tree of turns, of which one path is shown. Pure, but for the clock.

Turns are never changed or removed: an edited question, or a question that is asked again, becomes a
sibling, so that both versions stay. `leaf` is the last turn of the path that is shown.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from modeldeck.core.remote.printable import clean
from modeldeck.tui.chats.sampling import ChatSampling

TITLE_CHARS = 60
"""Most characters of a title that is made of the first question."""

Ended = Literal["", "length", "stopped", "cut", "failed"]
"""How an answer ended: by itself, at a limit of tokens, by the user, by the loss of the core or the
model, by an error."""

Thinking = Literal["auto", "off", "low", "high"]
"""How much a model thinks before it answers; `auto` leaves it to the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAttachment:
    """A file that belongs to a question."""

    name: str
    """Name of the file, without its folder."""
    kind: Literal["text", "image", "audio"] = "text"
    text: str = ""
    """Content of a text file."""
    data: bytes = b""
    """Content of a picture or a recording, as it is in the file."""
    width: int | None = None
    """Of a picture, in pixels; None where its header does not tell."""
    height: int | None = None
    tokens: int | None = None
    """Tokens of a text, estimated from its length; None for other kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFigures:
    """Measurements of an answer; None where the core sent none."""

    tokens_per_s: float | None = None
    first_token_s: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    """Tokens of thought and answer."""
    thought_tokens: int | None = None
    thought_s: float | None = None
    """Seconds from the first piece of the thought to the first piece of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTurn:
    """A question or an answer."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    parent: str | None = None
    """The turn before; None for a first question."""
    role: Literal["user", "assistant"]
    text: str = ""
    thought: str = ""
    """What the model thought before it answered."""
    model: str = ""
    """Short name of the model that answered."""
    at: float = 0.0
    """When it was asked or answered, in seconds since the epoch."""
    attachments: tuple[ChatAttachment, ...] = ()
    ended: Ended = ""
    error: str = ""
    """Why it failed or was cut, in a sentence."""
    figures: ChatFigures = field(default_factory=ChatFigures)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How a conversation is asked."""

    model: str = ""
    """Unique name of the model; empty before one was chosen."""
    system: str = ""
    """System prompt; empty for none."""
    preset: str = ""
    """Name of the saved system prompt that `system` came from; empty for none."""
    sampling: ChatSampling = field(default_factory=ChatSampling)
    thinking: Thinking = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation."""

    number: int | None = None
    """Its number in the store; None before it was written for the first time."""
    title: str = ""
    named: bool = False
    """Whether the user chose the title, so that it is not made of the first question."""
    private: bool = False
    """Whether it is never written."""
    created: float = 0.0
    """In seconds since the epoch, as `changed`."""
    changed: float = 0.0
    options: ChatOptions = field(default_factory=ChatOptions)
    turns: tuple[ChatTurn, ...] = ()
    """In the order in which they were made."""
    leaf: str | None = None
    """Id of the last turn that is shown; None before the first question."""

    def turn(self, id: str | None) -> ChatTurn | None:
        """The turn with this id, if there is one."""
        return next((turn for turn in self.turns if turn.id == id), None)

    def path(self, id: str | None = None) -> tuple[ChatTurn, ...]:
        """Turns from the first question to this turn, by default to the last one shown."""
        by_id = {turn.id: turn for turn in self.turns}
        found: list[ChatTurn] = []
        at = self.leaf if id is None else id
        while (turn := by_id.pop(at or "", None)) is not None:  # popped: a circle ends
            found.append(turn)
            at = turn.parent
        return tuple(reversed(found))

    def children(self, id: str | None) -> tuple[ChatTurn, ...]:
        """Turns that follow this one; of None the first questions."""
        return tuple(turn for turn in self.turns if turn.parent == id)

    def branch(self, id: str) -> tuple[int, int]:
        """Place of a turn among its siblings, from 1, and their number."""
        turn = self.turn(id)
        siblings = self.children(turn.parent) if turn else ()
        return next((n for n, s in enumerate(siblings, 1) if s.id == id), 1), max(1, len(siblings))

    def with_turn(self, turn: ChatTurn) -> Chat:
        """The chat with a turn added, or replaced where its id is known; it is shown."""
        kept = tuple(turn if known.id == turn.id else known for known in self.turns)
        turns = kept if self.turn(turn.id) else (*self.turns, turn)
        title = self.title if self.named or self.title else title_of(turn)
        created = self.created or turn.at
        return replace(
            self, turns=turns, leaf=turn.id, title=title, created=created, changed=turn.at
        )

    def turned(self, id: str, by: int) -> Chat:
        """Show a sibling of this turn, and the newest turns below it; the ends do not wrap."""
        turn = self.turn(id)
        if turn is None:
            return self
        siblings = self.children(turn.parent)
        at = [sibling.id for sibling in siblings].index(id) + by
        if not 0 <= at < len(siblings):
            return self
        return replace(self, leaf=self._newest_below(siblings[at].id))

    def _newest_below(self, id: str) -> str:
        seen = {id}
        while (below := self.children(id)) and below[-1].id not in seen:
            id = below[-1].id
            seen.add(id)
        return id

    def branching(self, id: str | None = None) -> str | None:
        """The turn whose siblings `[` and `]` go through: this one, or the last that has some."""
        for turn in reversed(self.path(id)):
            if self.branch(turn.id)[1] > 1:
                return turn.id
        return None

    def last(self, role: Literal["user", "assistant"]) -> ChatTurn | None:
        """The last question or answer that is shown."""
        return next((turn for turn in reversed(self.path()) if turn.role == role), None)


def next_question(
    chat: Chat,
    text: str,
    attachments: tuple[ChatAttachment, ...] = (),
    editing: str | None = None,
) -> ChatTurn:
    """A new question: below the last answer, or a sibling of the one that is edited.

    It also replaces a question that got no answer: the roles must alternate.
    """
    parent = chat.leaf
    replaced = chat.turn(editing) or chat.turn(parent)
    if replaced is not None and replaced.role == "user":
        parent = replaced.parent
    return ChatTurn(parent=parent, role="user", text=text, at=time.time(), attachments=attachments)


def title_of(turn: ChatTurn) -> str:
    """A title from the first words of a question, or the name of its first file."""
    words = " ".join(clean(turn.text).split())
    if not words:
        return next((clean(file.name) for file in turn.attachments), "")
    if len(words) <= TITLE_CHARS:
        return words
    head = words[:TITLE_CHARS]
    return (head.rpartition(" ")[0] or head) + "…"


def walked(chat: Chat) -> Iterator[tuple[int, ChatTurn]]:
    """Every turn with its depth, parents before children, siblings in order."""
    below: dict[str | None, list[ChatTurn]] = {}
    for turn in chat.turns:
        below.setdefault(turn.parent, []).append(turn)
    stack = [(0, turn) for turn in reversed(below.get(None, []))]
    while stack:
        depth, turn = stack.pop()
        yield depth, turn
        stack += [(depth + 1, child) for child in reversed(below.pop(turn.id, []))]
