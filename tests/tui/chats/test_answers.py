"""An answer while it comes."""

from __future__ import annotations

import pytest

from modeldeck.core.errors import CoreUnreachable, DeckError, EngineFailed, NotDownloaded
from modeldeck.core.schema import Chunk
from modeldeck.tui.chats.answers import AnswerRecorder, broken, ended, why_stopped
from modeldeck.tui.chats.chat import Chat, ChatFigures, ChatTurn, next_question


def test_pieces_become_a_turn_with_figures() -> None:
    clock = iter([10.0, 11.0, 12.0, 13.0, 14.0])
    parts = AnswerRecorder(lambda: next(clock))
    for chunk in (Chunk(thought="hm"), Chunk(thought="m"), Chunk(text="a\x1b[31mb")):
        parts.add(chunk)
    assert parts.add(Chunk(text="\x07c", finish_reason="stop", completion_tokens=7)) == "c"
    turn = parts.turned(ChatTurn(role="assistant"))
    assert (turn.text, turn.thought) == ("abc", "hmm")
    assert turn.figures == ChatFigures(
        first_token_s=3.0, completion_tokens=7, thought_tokens=2, thought_s=2.0
    )


@pytest.mark.parametrize(
    ("error", "text", "how"),
    [
        (CoreUnreachable("gone"), "", "cut"),
        (EngineFailed("died"), "", "cut"),
        (NotDownloaded("no file"), "some", "cut"),
        (NotDownloaded("no file"), "", "failed"),
    ],
)
def test_an_error_cuts_what_came(error: DeckError, text: str, how: str) -> None:
    assert broken(error, text) == how


def test_how_an_answer_ended_is_in_its_last_piece() -> None:
    assert ended(Chunk(finish_reason="length")) == "length"
    assert ended(Chunk(finish_reason="cancelled")) == "stopped"
    assert (ended(Chunk(finish_reason="stop")), ended(None)) == ("", "")


@pytest.mark.parametrize(
    ("last", "most", "why"),
    [
        (None, None, ""),
        (Chunk(finish_reason="stop", completion_tokens=9), 9, ""),
        (Chunk(finish_reason="length", completion_tokens=9), 9, "at 9 tokens, as set"),
        (Chunk(finish_reason="length", completion_tokens=9), 10, "the context is full"),
        (Chunk(finish_reason="length", completion_tokens=9), None, "the context is full"),
        (Chunk(finish_reason="length", looped=True), 2048, "it repeated itself without end"),
    ],
)
def test_why_an_answer_went_no_further(last: Chunk | None, most: int | None, why: str) -> None:
    assert why_stopped(last, most) == why


def test_a_question_without_an_answer_is_replaced() -> None:
    chat = Chat().with_turn(ChatTurn(role="user", text="one", id="q"))
    assert next_question(chat, "two").parent is None
    answered = chat.with_turn(ChatTurn(role="assistant", parent="q", id="a", text="x"))
    assert next_question(answered, "two").parent == "a"
    assert next_question(answered, "two", editing="q").parent is None
