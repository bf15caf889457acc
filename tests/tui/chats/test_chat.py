"""The tree of a conversation: which path is shown, and how branches are gone through."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from modeldeck.tui.chats.chat import Chat, ChatAttachment, ChatOptions, ChatTurn, title_of, walked
from modeldeck.tui.chats.export import as_json, as_markdown, file_name
from modeldeck.tui.chats.requests import message_of, quoted, request_of
from modeldeck.tui.chats.sampling import ChatSampling, from_texts, with_field


def turn(id: str, parent: str | None, text: str = "") -> ChatTurn:
    """A turn; ids of questions begin with q."""
    role: Literal["user", "assistant"] = "user" if id.startswith("q") else "assistant"
    return ChatTurn(id=id, parent=parent, role=role, text=text or id, at=float(id[1:]))


def tree(*turns: tuple[str, str | None]) -> Chat:
    chat = Chat()
    for id, parent in turns:
        chat = chat.with_turn(turn(id, parent))
    return chat


FORK = tree(("q1", None), ("a2", "q1"), ("q3", "a2"), ("a4", "q3"), ("q5", "a2"), ("a6", "q5"))
"""A conversation whose second question was edited."""


def shown(chat: Chat) -> str:
    return " ".join(turn.id for turn in chat.path())


def test_the_newest_turn_is_shown_with_those_above() -> None:
    assert shown(FORK) == "q1 a2 q5 a6"
    assert [t.id for t in FORK.path("q3")] == ["q1", "a2", "q3"]
    assert FORK.title == "q1"
    assert (FORK.created, FORK.changed) == (1.0, 6.0)


@pytest.mark.parametrize(
    ("at", "by", "path"),
    [
        ("q5", -1, "q1 a2 q3 a4"),
        ("q5", 1, "q1 a2 q5 a6"),  # the last one
        ("q3", 1, "q1 a2 q5 a6"),
        ("q1", -1, "q1 a2 q5 a6"),  # alone
        ("nothing", 1, "q1 a2 q5 a6"),
    ],
)
def test_siblings_are_gone_through(at: str, by: int, path: str) -> None:
    assert shown(FORK.turned(at, by)) == path


def test_an_answer_that_was_asked_for_again_is_a_sibling() -> None:
    chat = FORK.with_turn(turn("a7", "q5"))
    assert shown(chat) == "q1 a2 q5 a7"
    assert chat.branch("a7") == (2, 2)
    assert chat.branch("q5") == (2, 2)
    assert chat.branch("a2") == (1, 1)
    assert chat.branching() == "a7"
    assert chat.branching("q5") == "q5"
    assert shown(chat.turned("a7", -1).turned("q5", -1).turned("q3", 1)) == "q1 a2 q5 a7"


def test_a_turn_that_is_known_is_replaced() -> None:
    done = replace(turn("a2", "q1"), text="whole")
    chat = tree(("q1", None), ("a2", "q1")).with_turn(done)
    assert [t.text for t in chat.turns] == ["q1", "whole"]


def test_a_circle_ends() -> None:
    broken = Chat(turns=(turn("q1", "a2"), turn("a2", "q1")), leaf="a2")
    assert len(broken.path()) == 2
    assert shown(broken.turned("q1", 0))
    assert list(walked(broken)) == []


def test_the_tree_is_walked_parents_first() -> None:
    assert [f"{depth}{t.id}" for depth, t in walked(FORK)] == [
        *("0q1", "1a2", "2q3", "3a4", "2q5", "3a6")
    ]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Rust  lifetimes,\nonce more", "Rust lifetimes, once more"),
        ("word " * 30, ("word " * 12).strip() + "…"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("x" * 100, "x" * 60 + "…"),
    ],
)
def test_titles_are_first_words(text: str, title: str) -> None:
    assert title_of(turn("q1", None, text)) == title


def test_a_name_that_was_chosen_stays() -> None:
    chat = replace(Chat(), title="mine", named=True).with_turn(turn("q1", None))
    assert chat.title == "mine"


# What is sent

TEXT = ChatAttachment(name="a.py", text="print('```')\n", tokens=3)
PICTURE = ChatAttachment(name="p.png", kind="image", data=b"png", width=4, height=2)


def test_files_go_before_the_words() -> None:
    question = replace(turn("q1", None, "why?"), attachments=(TEXT, PICTURE))
    message = message_of(question)
    assert message.content == "`a.py`:\n````py\nprint('```')\n````\n\nwhy?"
    assert [(m.kind, m.data, m.at) for m in message.media] == [("image", b"png", 0)]
    assert quoted(ChatAttachment(name="Makefile", text="all:")) == "`Makefile`:\n```\nall:\n```"


def test_a_request_has_the_path_the_system_prompt_and_the_sampling() -> None:
    options = ChatOptions(
        system=" brief ", thinking="low", sampling=ChatSampling(temperature=0.5, stop=("END",))
    )
    request = request_of(replace(FORK, options=options), asked=FORK.turn("q3"))
    assert [(m.role, m.content) for m in request.messages] == [
        *(("system", "brief"), ("user", "q1"), ("assistant", "a2"), ("user", "q3"))
    ]
    assert (request.temperature, request.stop, request.top_k) == (0.5, ("END",), None)
    assert (request.thinking, request.thinking_effort) == (True, "low")
    assert request_of(FORK).thinking is None


def test_a_wrong_value_names_its_field_and_the_others_stand() -> None:
    sampling, errors = from_texts(
        {"temperature": "0,2", "top_p": "1.5", "top_k": "many", "seed": "7", "stop": "END, \\n"}
    )
    assert sampling == ChatSampling(temperature=0.2, seed=7, stop=("END", "\n"))
    assert errors == {
        "top_p": "must be a number, 0 to 1",
        "top_k": "must be a whole number, 0 to 1,000,000",
    }
    assert with_field(sampling, "temperature", "").temperature is None


@pytest.mark.parametrize("text", ["-1", "2.1", "nan", "hot", "inf"])
def test_no_temperatures(text: str) -> None:
    assert from_texts({"temperature": text})[1]


# What is exported


def test_markdown_has_what_is_shown_and_json_the_whole_tree() -> None:
    text = as_markdown(FORK)
    assert text.startswith("# q1\n\n## you, ")
    assert [word in text for word in ("q5", "a6", "q3")] == [True, True, False]
    assert [f'"{id}"' in as_json(FORK) for id in ("q3", "a4", "q5", "a6")] == [True] * 4


@pytest.mark.parametrize(
    ("title", "name"),
    [("Rust lifetimes, once!", "rust-lifetimes-once.md"), ("../..", "chat.md"), ("", "chat.md")],
)
def test_files_are_named_after_the_title(title: str, name: str) -> None:
    assert file_name(Chat(title=title), "markdown") == name
