"""How the Chat view draws an answer: Markdown, code, thoughts, and text that means harm."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from textual.widgets import Markdown

from modeldeck.core.schema import Chunk
from modeldeck.tui.chats.chat import ChatFigures, ChatTurn
from modeldeck.tui.dashboard.screens.chat.turns import AnswerTurn
from modeldeck.tui.dashboard.widgets.markdown import code_blocks, parser
from tests.support.process import CoreProcess
from tests.tui.dashboard.screens.chat_hands import (
    chat,
    loaded,
)


@pytest.fixture(scope="module")
def core(shared_core: CoreProcess) -> CoreProcess:
    """One core for all of these tests, with what the ones before left in it."""
    return shared_core


HOSTILE = (
    "\x1b]0;owned\x07\x1b[31mred\x1b[0m <script>alert(1)</script> [b]bold[/b] \u202eevil\u202c "
    "&#8238;entity&#x1b;[2J <http://a/%1b%5b2J> [text](http://b/%1b) 模型 👩‍👩‍👧 **strong**"
)


async def visited(at: Any) -> None:
    """Wait until the chats were read, after which nothing is taken off the screen."""
    await at.until(lambda: chat(at).query_one("#nothing").display)


def live(at: Any, name: str = "m") -> AnswerTurn:
    """An answer that is still to come."""
    turn = ChatTurn(role="assistant", model=name)
    return AnswerTurn(turn, at.app.glyphs, at.app.key_of, live=True)


async def test_a_hostile_answer_is_only_text(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await visited(at)
        answer = live(at, "na\x1b[31mme\u202e [red]x[/red]")
        await chat(at).query_one("#turns").mount(answer)
        for piece in (HOSTILE[:3], HOSTILE[3:]):
            answer.add(Chunk(text=piece))
        await answer.paint()
        await answer.end(answer.turned(answer.turn))
        await at.sees("red <script>alert(1)</script> [b]bold[/b] evil", "strong")
        drawn = at.text
        assert "name [red]x[/red]" in drawn
        assert all(c.isprintable() or c in "\n\u200d" for c in drawn)
        assert "**strong**" not in drawn


def test_markdown_makes_no_characters_of_its_own() -> None:
    tokens = parser().parse("&#8238; &amp; <http://a/%1b> http://a/%1b")
    text = "".join(child.content for token in tokens for child in token.children or ())
    assert text == "&#8238; &amp; <http://a/%1b> http://a/%1b"


async def test_a_thought_is_counted_while_it_comes(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await visited(at)
        answer = live(at)
        await chat(at).query_one("#turns").mount(answer)
        for piece in ("I pon\x1b[31mder", " 6 times 7."):
            answer.add(Chunk(thought=piece))
        await answer.paint()
        await at.sees("thinking ", ", 2 tokens")
        assert "I ponder" not in at.text
        answer.open_thought(opened=True)
        await at.sees("I ponder 6 times 7.")
        answer.add(Chunk(text="42"))
        answer._rest_until = 0.0
        await answer.paint()
        await at.sees("thought for", "42")
        answer.add(Chunk(thought_tokens=5, completion_tokens=6, finish_reason="stop"))
        await answer.end(answer.turned(answer.turn))
        await at.sees("5 tokens   o folds", "6 tokens")


async def test_why_an_answer_ended_has_a_line_of_its_own_where_it_is_narrow(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        view = chat(at)
        question = ChatTurn(role="user", text="long?", at=1)
        await view.session.add(question)
        figures = ChatFigures(tokens_per_s=31.4, first_token_s=0.4, completion_tokens=188)
        await view.session.add(
            ChatTurn(
                role="assistant",
                parent=question.id,
                text="x",
                at=2,
                ended="length",
                figures=figures,
            )
        )
        await view.opened.show()
        for width in (120, 100, 80, 60, 50):
            await at.pilot.resize_terminal(width, 24)
            await at.sees("31.4 tok/s", "188 tokens")
            await at.until(lambda: not re.search("· *[│┃]?$", at.text, re.M))


CODE = "# Head\n\n- one\n- two\n\n```python\nprint(1)\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"


async def test_markdown_is_drawn_as_markdown_with_code_in_boxes(screen: Any) -> None:
    async with screen("chat") as at:
        await visited(at)
        answer = live(at)
        await chat(at).query_one("#turns").mount(answer)
        for at_char in range(0, len(CODE), 7):
            answer.add(Chunk(text=CODE[at_char : at_char + 7]))
            answer._rest_until = 0.0
            await answer.paint()
        await answer.end(answer.turned(answer.turn))
        await at.sees("Head", "one", "┌ python ──", " b copies ┐", "│ print(1)", "└───")
        assert "```" not in at.text
        assert "# Head" not in at.text
        assert len(answer.query(Markdown)) == 1


def test_blocks_of_code_are_found() -> None:
    text = f"{CODE}\n~~~\nplain\n~~~\n\n- in a list\n\n  ```sh\n  ls\n  ```\n"
    assert code_blocks(text) == [("python", "print(1)\n"), ("", "plain\n"), ("sh", "ls\n")]


async def test_a_block_of_code_is_copied_by_its_number(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await visited(at)
        view = chat(at)
        question = ChatTurn(role="user", text="code?", at=1)
        await view.session.add(question)
        text = f"{CODE}\n```sh\nls\n```\n"
        await view.session.add(
            ChatTurn(role="assistant", parent=question.id, text=text, model="tiny", at=2)
        )
        await view.opened.show()
        await at.sees("b 1 copies", "b 2 copies")
        await at.press("escape", "b")
        await at.sees("Copy which block?", "1  python", "2  sh")
        await at.press("2")
        await at.until(lambda: at.app.clipboard == "ls\n")


async def test_painting_leaves_time_for_keys() -> None:
    """However long an answer is, painting rests for several times as long as it took."""
    turn = ChatTurn(role="assistant")
    answer = AnswerTurn(turn, glyphs=None, key_of=str, live=True)  # type: ignore[arg-type] # not drawn
    answer._rest_until = asyncio.get_running_loop().time() + 3600
    answer.add(Chunk(text="x"))
    await answer.paint()
    assert answer._painted == 0
