"""The Chat view: a real conversation with a real model in llama.cpp."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual.widgets import Markdown, TextArea

from modeldeck.core.client.client import Client
from modeldeck.core.demo.model_writer import expected
from modeldeck.core.schema import Chunk, InstanceState, LoadOptions
from modeldeck.tui.dashboard.screens.chat.messages import partners, temperature
from modeldeck.tui.dashboard.screens.chat.screen import ChatView
from modeldeck.tui.dashboard.widgets.chat_turns import AnswerTurn, QuestionTurn
from modeldeck.tui.dashboard.widgets.markdown import parser
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
OTHER = "deck/tiny-GGUF:F16"

ROOM = 1 << 16
"""Tokens of context: the model says thousands in a second, and `loop` shall not end by itself."""


@pytest.fixture(scope="module")
def core(shared_core: CoreProcess) -> CoreProcess:
    """One core for all of these tests, with what the ones before left in it."""
    return shared_core


async def fetched(client: Client, *names: str) -> None:
    """Download these to their end."""
    for name in names or (TINY,):
        await client.download(name)
    await client.feed.until(
        lambda s: (
            {j.unique for j in s.downloads.values() if j.state == "completed"}
            >= set(names or (TINY,))
        )
    )


async def unloaded(client: Client, *names: str) -> None:
    """Have models on the disk, and none in memory."""
    await fetched(client, *names)
    await client.unload_all()
    await client.feed.until(lambda s: not s.instances)


async def loaded(client: Client) -> None:
    """Have the tiny model in memory."""
    await fetched(client)
    await client.loaded(TINY, LoadOptions(context_length=ROOM))


def chat(at: Any) -> ChatView:
    found: ChatView = at.app.query_one(ChatView)
    return found


def composer(at: Any) -> TextArea:
    found: TextArea = at.app.query_one("#chat Composer", TextArea)
    return found


def answers(at: Any) -> list[str]:
    return [answer.text for answer in chat(at).query(AnswerTurn)]


def figures(at: Any) -> str:
    return str(list(chat(at).query(AnswerTurn))[-1].query_one(".figures").render())


def said(at: Any) -> list[str]:
    return [message.text for message in at.app.messages]


async def say(at: Any, text: str) -> None:
    """Write and send."""
    await at.write(text)
    await at.press("enter")


async def ended(at: Any, count: int = 1) -> None:
    """Wait until this number of answers have ended."""
    await at.until(
        lambda: sum(a.ended for a in chat(at).query(AnswerTurn)) == count and not chat(at).talking
    )


async def test_without_a_model_it_says_what_to_do(screen: Any) -> None:
    async with screen("chat", before=unloaded) as at:
        await at.sees("No model is loaded", "Load a model in the Catalog")
        await say(at, "hello")
        await at.until(lambda: any("No model is loaded" in text for text in said(at)))
        assert composer(at).text == "hello"


async def test_a_known_answer_with_its_figures(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.sees("tiny", "ready, context 64k")
        await say(at, "count for me")
        await ended(at)
        await at.sees("you", "count for me", expected("count"), "tok/s", "first token", "11 tokens")
        assert composer(at).text == ""
        assert composer(at).has_focus


async def test_a_conversation_remembers_and_can_begin_anew(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await say(at, "count")
        await ended(at)
        await say(at, "json")
        await ended(at, 2)
        assert answers(at) == [expected("count"), expected("json")]
        first, second = (chat(at)._said[:2], chat(at)._said[2:])
        assert [m.role for m in (*first, *second)] == ["user", "assistant"] * 2
        await at.press("escape", "n")
        await at.until(lambda: not chat(at).query(QuestionTurn))
        await at.sees("Nothing is said yet")


async def test_escape_stops_at_once_and_the_engine_is_free(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await say(at, "loop")
        await at.until(lambda: bool(answers(at)) and "Tick" in answers(at)[0])
        await at.press("escape")
        await ended(at)
        assert "stopped" in figures(at)
        await at.until(
            lambda: all(i.state is InstanceState.READY for i in at.state.instances.values())
        )
        assert composer(at).has_focus  # the second escape leaves it
        await at.press("escape")
        assert not composer(at).has_focus


async def test_no_key_is_lost_while_an_answer_streams(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await say(at, "loop")
        await at.until(lambda: bool(answers(at)) and len(answers(at)[0]) > 50)
        length = len(answers(at)[0])
        at.type(*"what was typed meanwhile", "enter")
        await at.until(lambda: composer(at).text == "what was typed meanwhile")
        await at.until(lambda: len(answers(at)[0]) > length)  # it did stream all the while
        await at.until(lambda: any("Still answering" in text for text in said(at)))
        await at.press("escape")
        await ended(at)
        assert composer(at).text == "what was typed meanwhile"


async def test_a_long_answer_scrolls_and_stays_where_one_reads(screen: Any) -> None:
    async with screen("chat", before=loaded, size=(60, 15)) as at:
        turns = at.app.query_one("#chat #turns")
        await say(at, "loop")
        await at.until(lambda: turns.max_scroll_y > 10)
        await at.until(lambda: turns.scroll_y == turns.max_scroll_y)
        await at.press("pageup")
        where = turns.scroll_y
        assert where < turns.max_scroll_y
        length = len(answers(at)[0])
        await at.until(lambda: len(answers(at)[0]) > length + 200)
        assert turns.scroll_y == where
        await at.press("escape")
        await ended(at)
        await at.press("escape", "G")
        await at.until(lambda: turns.scroll_y == turns.max_scroll_y)
        await at.press("g")
        await at.until(lambda: turns.scroll_y == 0)


async def test_copies_the_answer_and_the_conversation(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.press("escape", "y")
        await at.until(lambda: any("nothing to copy" in text for text in said(at)))
        await at.press("i")
        await say(at, "count")
        await ended(at)
        await at.press("escape", "y")
        assert at.app.clipboard == expected("count")
        await at.press("Y")
        assert at.app.clipboard == f"user: count\n\nassistant: {expected('count')}"


async def test_system_prompt_and_temperature_are_at_hand(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.press("escape", "s")
        await at.sees("System prompt")
        await at.press(*"brief", "enter")
        await at.sees("system brief")
        await at.press("t")
        await at.press(*"0.2", "enter")
        await at.sees("temperature 0.2")
        request = chat(at)._request()
        assert request.temperature == 0.2
        assert [(m.role, m.content) for m in request.messages] == [("system", "brief")]
        await at.press("t")
        await at.press("backspace", "backspace", "backspace", *"hot", "enter")
        await at.until(lambda: any("is not a temperature" in text for text in said(at)))
        await at.sees("temperature 0.2")


async def test_a_model_that_is_not_loaded_is_loaded_first(screen: Any) -> None:
    async with screen("chat", before=unloaded) as at:
        await at.sees("No model is loaded")
        await at.press("escape", "m")
        await at.sees("loads when you send")
        await at.press("i")
        await say(at, "count")
        await ended(at)
        assert answers(at) == [expected("count")]
        await at.sees("ready, context")


async def test_goes_round_the_models(screen: Any) -> None:
    async with screen("chat", before=lambda client: unloaded(client, TINY, OTHER)) as at:
        ids = [model.id for model in partners(at.state)]
        assert len(ids) == 2
        await at.press("escape")
        for id in (*ids, ids[0]):
            await at.press("m")
            assert chat(at).model_id == id


async def test_asks_again(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await say(at, "count")
        await ended(at)
        await at.press("escape", "r")
        await ended(at, 2)
        assert answers(at) == [expected("count")] * 2
        assert len(chat(at)._said) == 2


async def test_the_footer_shows_the_keys_that_hold(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.sees("enter send", "ctrl+j new line", "esc keys")
        assert "q quit" not in at.text
        await at.press("escape")
        await at.sees("y copy", "? help")
        await at.press("question_mark")
        await at.sees("While writing", "Send what is written.")


async def test_writes_more_than_one_line(screen: Any) -> None:
    async with screen("chat") as at:
        await at.press("a", "ctrl+j", "b", "1", "question_mark", "q")
        assert composer(at).text == "a\nb1?q"


async def test_leaving_while_an_answer_streams_is_quiet(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await say(at, "loop")
        await at.until(lambda: bool(answers(at)) and "Tick" in answers(at)[0])


HOSTILE = (
    "\x1b]0;owned\x07\x1b[31mred\x1b[0m <script>alert(1)</script> [b]bold[/b] \u202eevil\u202c "
    "&#8238;entity&#x1b;[2J <http://a/%1b%5b2J> [text](http://b/%1b) 模型 👩‍👩‍👧 **strong**"
)


async def test_a_hostile_answer_is_only_text(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        answer = AnswerTurn("na\x1b[31mme\u202e [red]x[/red]", at.app.glyphs)
        await chat(at).query_one("#turns").mount(answer)
        for piece in (HOSTILE[:3], HOSTILE[3:]):
            answer.add(Chunk(text=piece))
        await answer.paint()
        await answer.end(None, "")
        await at.sees("red <script>alert(1)</script> [b]bold[/b] evil", "strong")
        drawn = at.text
        assert "name [red]x[/red]" in drawn
        assert all(c.isprintable() or c in "\n\u200d" for c in drawn)
        assert "**strong**" not in drawn


def test_markdown_makes_no_characters_of_its_own() -> None:
    tokens = parser().parse("&#8238; &amp; <http://a/%1b> http://a/%1b")
    text = "".join(child.content for token in tokens for child in token.children or ())
    assert text == "&#8238; &amp; <http://a/%1b> http://a/%1b"


async def test_a_thought_is_folded_once_the_answer_begins(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        answer = AnswerTurn("m", at.app.glyphs)
        await chat(at).query_one("#turns").mount(answer)
        for piece in ("I pon\x1b[31mder", " 6 times 7."):
            answer.add(Chunk(thought=piece))
        await answer.paint()
        await at.sees("I ponder 6 times 7.", "thinking  2 pieces")
        answer.add(Chunk(text="42"))
        answer._rest_until = 0.0
        await answer.paint()
        await at.sees("thought for 2 tokens", "42")
        assert "I ponder" not in at.text
        await answer.end(Chunk(thought_tokens=5, completion_tokens=6), "")
        await at.sees("thought for 5 tokens", "6 tokens")


async def test_markdown_is_drawn_as_markdown(screen: Any) -> None:
    async with screen("chat") as at:
        answer = AnswerTurn("m", at.app.glyphs)
        await chat(at).query_one("#turns").mount(answer)
        answer.add(Chunk(text="# Head\n\n- one\n- two\n\n```python\nprint(1)\n```\n\n"))
        answer.add(Chunk(text="| a | b |\n|---|---|\n| 1 | 2 |\n"))
        await answer.paint()
        await answer.end(None, "")
        await at.sees("Head", "one", "print(1)")
        assert "```" not in at.text
        assert "# Head" not in at.text
        assert len(answer.query(Markdown)) == 1


@pytest.mark.parametrize(("text", "value"), [("", None), (" 0 ", 0.0), ("0,7", 0.7), ("2", 2.0)])
def test_temperatures(text: str, value: float | None) -> None:
    assert temperature(text) == value


@pytest.mark.parametrize("text", ["-1", "2.1", "nan", "hot", "inf"])
def test_no_temperatures(text: str) -> None:
    with pytest.raises(ValueError, match=text if text != "hot" else "could not convert"):
        temperature(text)


async def test_painting_leaves_time_for_keys() -> None:
    """However long an answer is, painting rests for several times as long as it took."""
    answer = AnswerTurn("m", glyphs=None)  # type: ignore[arg-type] # not drawn
    answer._rest_until = asyncio.get_running_loop().time() + 3600
    answer.add(Chunk(text="x"))
    await answer.paint()
    assert answer._painted == 0
