"""Conversations that are too long lose their oldest turns."""

from __future__ import annotations

from modeldeck.core.api.truncation import shorter
from modeldeck.core.errors import ContextExceeded
from modeldeck.core.schema import GenerateRequest, Media, Message, ToolCall


def turn(name: str) -> list[Message]:
    call = ToolCall(id=name, name="f", arguments="{}")
    return [
        Message(role="user", content=name * 50),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="x" * 50, tool_call_id=name),
    ]


def test_a_conversation_loses_its_oldest_turns_first() -> None:
    system = Message(role="system", content="s")
    whole = GenerateRequest(messages=(system, *turn("a"), *turn("b"), *turn("c")))
    once = shorter(whole, ContextExceeded.of(470, 400))
    assert once is not None
    assert once.messages == (system, *turn("b"), *turn("c"))
    twice = shorter(once, ContextExceeded("Too long."))
    assert twice is not None
    assert twice.messages == (system, *turn("c"))
    assert shorter(twice, ContextExceeded.of(9, 8)) is None
    much = shorter(whole, ContextExceeded.of(4000, 10))
    assert much is not None
    assert much.messages == (system, *turn("c"))


def test_images_count_where_the_oldest_messages_are_left_out() -> None:
    image = Media(kind="image", data=b"x", at=0)
    old = Message(role="user", content="x" * 100, media=(image,) * 4)
    turns = (
        old,
        Message(role="assistant", content="y"),
        Message(role="user", content="z" * 3000),
        Message(role="assistant", content="y"),
        Message(role="user", content="last"),
    )
    less = shorter(GenerateRequest(messages=turns), ContextExceeded.of(3000, 1500))
    assert less is not None
    assert less.messages == turns[2:]
