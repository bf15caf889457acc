"""The Chat view: a real conversation with a real model in llama.cpp."""

# ruff: noqa: RUF001 (signs of a branch)

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.model_writer import expected
from modeldeck.core.schema import InstanceState
from modeldeck.tui.chats.chat import ChatTurn
from modeldeck.tui.chats.models import partners
from modeldeck.tui.chats.sampling import FIELDS, from_texts
from modeldeck.tui.chats.session import ChatSession
from modeldeck.tui.chats.store import ChatStore
from modeldeck.tui.dashboard.screens.chat.open_chat import OpenChat
from modeldeck.tui.dashboard.screens.chat.sheet import SheetBody
from modeldeck.tui.dashboard.screens.chat.turns import QuestionTurn
from tests.support.process import CoreProcess
from tests.tui.dashboard.screens.chat_hands import (
    OTHER,
    THINKER,
    TINY,
    answers,
    asked,
    chat,
    composer,
    ended,
    figures,
    loaded,
    path,
    said,
    say,
    told,
    unloaded,
)


@pytest.fixture(scope="module")
def core(shared_core: CoreProcess) -> CoreProcess:
    """One core for all of these tests, with what the ones before left in it."""
    return shared_core


async def test_without_a_model_it_says_what_to_do(screen: Any) -> None:
    async with screen("chat", before=unloaded) as at:
        await at.sees("no model", "No model is loaded. esc, then m chooses one")
        await say(at, "hello")
        await told(at, "No model is loaded. esc, then m chooses one that loads when you send.")
        assert composer(at).text == "hello"


async def test_a_known_answer_with_its_figures(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.sees("● tiny Q8_0 [m]", "0 of 64k", "no system prompt [s]", "temp default [t]")
        await at.sees("Ask something. Chats are saved on this machine; N begins a private one.")
        await say(at, "count for me")
        await ended(at)
        await at.sees("you", "count for me", expected("count"), "tok/s", "first token", "11 tokens")
        await at.sees("saved ")
        assert composer(at).text == ""
        assert composer(at).has_focus


async def test_a_conversation_remembers_and_a_new_one_leaves_it_as_it_is(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await asked(at, "count", "json")
        assert path(at) == ["count", expected("count"), "json", expected("json")]
        await at.press("escape", "n")
        await at.until(lambda: not chat(at).query(QuestionTurn))
        await at.sees("Ask something", "Chats 1", "today", "count")
        assert composer(at).has_focus


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
        assert [turn.ended for turn in chat(at).session.chat.path()] == ["", "stopped"]
        assert composer(at).has_focus  # the second escape leaves it
        await at.press("escape")
        assert not composer(at).has_focus


async def test_a_question_that_is_stopped_while_it_is_kept_is_shown(
    screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with screen("chat", before=loaded) as at:
        began = asyncio.Event()

        async def save(*_: object) -> int:
            began.set()
            await asyncio.Event().wait()
            return 0

        monkeypatch.setattr(ChatStore, "save", save)
        await say(at, "count")
        await at.until(began.is_set)
        await at.press("escape")
        await at.until(lambda: not chat(at).asking.talking)
        await at.until(lambda: len(chat(at).query(QuestionTurn)) == 1)
        assert path(at) == ["count"]


async def test_no_key_is_lost_while_an_answer_streams(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await say(at, "loop")
        await at.until(lambda: bool(answers(at)) and len(answers(at)[0]) > 50)
        length = len(answers(at)[0])
        at.type(*"what was typed meanwhile", "enter")
        await at.until(lambda: composer(at).text == "what was typed meanwhile")
        await at.until(lambda: len(answers(at)[0]) > length)  # it did stream all the while
        await told(at, "Still answering: esc stops it. Your text stays.")
        await at.sees("writing   ", "tok/s", "esc stops")
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
        await at.sees("lines below   ctrl+end follows again")
        await at.press("ctrl+end")
        await at.until(lambda: turns.scroll_y == turns.max_scroll_y)
        # Several lines: while more is drawn there may be a line less for a moment.
        await at.press(*["ctrl+up"] * 5, "ctrl+down")
        assert turns.scroll_y < turns.max_scroll_y
        await at.sees("below   ctrl+end follows again")
        await at.pilot.click("#chat #turns", offset=(10, 3))
        await at.sees("below   G follows again")
        await at.press("i", "escape")
        await ended(at)
        await at.press("escape", "G")
        await at.until(lambda: turns.scroll_y == turns.max_scroll_y)
        assert "lines below" not in at.text
        await at.press("g")
        await at.until(lambda: turns.scroll_y == 0)


async def test_copies_the_answer_the_marked_turn_and_the_conversation(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.press("escape", "y")
        await told(at, "Nothing to copy yet.")
        await at.press("i")
        await asked(at, "count")
        await at.press("escape", "y")
        assert at.app.clipboard == expected("count")
        await at.press("K", "K")
        await at.sees("▸you")
        await at.press("y")
        assert at.app.clipboard == "count"
        await at.press("Y")
        assert at.app.clipboard == f"you: count\n\ntiny Q8_0: {expected('count')}"


async def test_an_edited_question_is_a_branch_beside_the_old_one(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await asked(at, "count", "json")
        await at.press("escape", "e")
        assert composer(at).text == "json"
        await at.press("ctrl+u", *"llama", "enter")
        await at.sees("‹ 2 of 2 › [ ]", expected("llama"))
        await ended(at, 2)
        assert path(at)[2:] == ["llama", expected("llama")]
        await at.press("escape", "left_square_bracket")
        await at.sees("‹ 1 of 2 ›", expected("json"))
        assert path(at)[2:] == ["json", expected("json")]
        await at.press("left_square_bracket")
        await told(at, "First branch: 1 of 2.")
        await at.press("right_square_bracket")
        await at.until(lambda: path(at)[2:] == ["llama", expected("llama")])
        await at.press("e", "escape")  # the question stays as it was
        assert composer(at).text == ""


async def test_an_answer_is_asked_for_again_as_a_sibling(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await asked(at, "count")
        await at.press("escape", "r")
        await at.sees("‹ 2 of 2 › [ ]")
        await ended(at)
        assert [turn.role for turn in chat(at).session.chat.turns] == ["user", *["assistant"] * 2]
        await at.press("left_square_bracket")
        await at.sees("‹ 1 of 2 › [ ]")


async def test_a_wrong_value_stays_in_its_field_with_the_reason(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.press("escape", "t")
        await at.sees("Sampling", "▸ temperature", "JSON schema", "enter set")
        await at.press(*"hot", "tab", *"0.9", "enter")
        await at.sees("✗ must be a number, 0 to 2", "hot", "0.9")
        await at.press("ctrl+u", *"0.2", "enter")
        await at.sees("temp 0.2, top_p 0.9 [t]")
        sampling = chat(at).session.chat.options.sampling
        assert (sampling.temperature, sampling.top_p) == (0.2, 0.9)
        request = await chat(at).asking.request(chat(at).session.chat, ChatTurn(role="user"))
        assert (request.temperature, request.top_p) == (0.2, 0.9)


async def test_it_follows_still_after_the_terminal_was_low(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.sees("Ask something. Chats are saved")
        for size in ((60, 15), (40, 8), (80, 24)):
            await at.pilot.resize_terminal(*size)
            await at.press("escape", "t")
            await at.until(lambda: at.app.question is not None)
            await at.press("escape")
            await at.until(lambda: at.app.question is None)
        assert chat(at).pane.scroll.following
        await at.sees("Ask something. Chats are saved")
        assert "below" not in at.text


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 15), (60, 10)])
async def test_hints_and_errors_of_the_sheet_are_whole(screen: Any, size: tuple[int, int]) -> None:
    async with screen("chat", size=size, before=loaded) as at:
        await at.press("escape", "t")
        for field in FIELDS:
            await at.sees(f"▸ {field.label}", field.hint)
            await at.press("tab")
        await at.press(*["x", "tab"] * 6, "enter")
        wrong = from_texts({field.name: "x" for field in FIELDS})[1]
        assert len(wrong) == 6
        for field in FIELDS[:6]:
            await at.sees(f"▸ {field.label}", f"✗ {wrong[field.name]}", "enter set")
            await at.press("tab")


async def test_the_field_is_in_sight_after_moves_between_two_pictures(screen: Any) -> None:
    """A scroll that waits for the next picture must not undo what a later move needs."""
    async with screen("chat", size=(60, 10), before=loaded) as at:
        await at.press("escape", "t")
        await at.sees(f"▸ {FIELDS[0].label}")
        sheet = at.app.screen.query_one(SheetBody)
        for there in range(2, len(FIELDS)):
            sheet.move(there)
            sheet.move(-there)
            await at.pilot.pause()
            await at.sees(f"▸ {FIELDS[0].label}")


async def test_one_may_leave_while_a_question_is_asked(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.press("escape", "t")
        await at.sees("Sampling", "enter set")
    assert at.app.return_code is None, "it ended by no failure"


async def test_a_system_prompt_is_written_saved_and_used_again(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.press("escape", "s")
        await at.sees("System prompt", "▸ new…", "none")
        await at.press("enter")
        await at.press(*"be brief", "enter")
        await at.sees("system be brief [s]")
        await at.press("s")
        await at.sees("ctrl+s save the current")
        await at.press("ctrl+s")
        await at.sees("Name of the prompt")
        await at.press(*"short", "enter")
        await at.sees("system short [s]")
        await at.press("n", "escape")
        await at.sees("i write")
        await at.press("s")
        await at.sees("▸ short", "be brief", "x delete")
        await at.press("j", "j", "enter")
        await at.sees("no system prompt [s]")
        await at.press("s")
        await at.sees("▸ short")
        await at.press("enter")
        await at.until(lambda: chat(at).session.chat.options.system == "be brief")
        await at.press("s")
        await at.sees("x delete")
        await at.press("x")
        await told(at, "Deleted “short”.")


@pytest.mark.parametrize("key", ["n", "N"])
async def test_a_new_chat_that_is_slow_to_begin_leaves_the_focus_where_later_keys_put_it(
    screen: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    async with screen("chat", before=loaded) as at:
        begins, escaped, begin = asyncio.Event(), asyncio.Event(), OpenChat.begin

        async def slow(opened: OpenChat, session: ChatSession) -> None:
            begins.set()
            await escaped.wait()
            await begin(opened, session)

        await at.press("escape")
        monkeypatch.setattr(OpenChat, "begin", slow)
        before = chat(at).session
        await at.press(key)
        await begins.wait()
        assert chat(at).composer.has_focus
        await at.press("escape")
        await at.sees("i write")
        escaped.set()
        await at.until(lambda: chat(at).session is not before)
        await at.until(lambda: all(work.group != "chats" for work in at.app.workers))
        assert not chat(at).composer.has_focus


async def test_a_model_is_chosen_from_a_list(screen: Any) -> None:
    async with screen("chat", before=lambda client: unloaded(client, TINY, OTHER)) as at:
        await at.sees("No model is loaded")
        models = partners(at.state)
        await at.press("escape", "m")
        await at.sees("Which model answers?", "1  tiny", "2  tiny", "loads when you send")
        await at.press("2")
        await at.until(lambda: chat(at).partner.model_id == models[1].id)
        await at.press("i")
        await asked(at, "count")
        assert answers(at) == [expected("count")]
        await at.sees("● tiny ")


async def test_thoughts_are_one_line_until_they_are_opened(screen: Any) -> None:
    async with screen("chat", before=lambda client: loaded(client, THINKER)) as at:
        await at.press("escape", "m", "1")
        await at.sees("thinking auto [T]")
        await at.press("i")
        await asked(at, "count")
        await at.sees("> thought for", "tokens   o opens", expected("count"))
        thought = chat(at).session.chat.path()[-1].thought
        assert thought.strip()
        assert "<think>" not in at.text
        first = thought.strip().splitlines()[0]
        assert first not in at.text
        await at.press("escape", "o")
        await at.sees("v thought for", "o folds", first)
        await at.press("O")
        await at.until(lambda: first not in at.text)
        await at.press("T")
        await at.sees("thinking off [T]")
        await at.press("i")
        await say(at, "json")
        await ended(at, 2)
        assert not chat(at).session.chat.path()[-1].thought
        await at.press("escape", "o")
        await at.sees("o folds", first)


async def test_up_brings_earlier_questions_of_all_chats(screen: Any, tmp_path: Path) -> None:
    store = ChatStore(tmp_path / "chats.db")
    async with screen("chat", before=loaded, chats=store) as at:
        await asked(at, "count", "json")
    again = ChatStore(tmp_path / "chats.db")
    async with screen("chat", chats=again) as at:
        await at.sees(expected("json"))
        await at.press(*"draft", "up")
        await at.until(lambda: composer(at).text == "json")
        await at.press("up")
        await at.until(lambda: composer(at).text == "count")
        for _ in range(2):
            await at.press("down")
        await at.until(lambda: composer(at).text == "draft")


async def test_the_footer_shows_the_keys_that_hold(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.sees("enter send", "ctrl+j new line", "esc commands", "@ attach", "up earlier")
        assert "q quit" not in at.text
        await at.press("escape")
        await at.sees("c chats", "n new", "? help")
        await at.press("question_mark", "ctrl+d")
        await at.sees("While writing", "Send what is written.")


async def test_writes_more_than_one_line(screen: Any) -> None:
    async with screen("chat") as at:
        await at.press("a", "ctrl+j", "b", "1", "question_mark", "q")
        assert composer(at).text == "a\nb1?q"


async def test_leaving_while_an_answer_streams_keeps_what_came(screen: Any, tmp_path: Path) -> None:
    store = ChatStore(tmp_path / "chats.db")
    async with screen("chat", before=loaded, chats=store, cuts=True) as at:
        await say(at, "loop")
        await at.until(lambda: bool(answers(at)) and "Tick" in answers(at)[0])
    kept = ChatStore(tmp_path / "chats.db")
    turns = (await kept.load(1)).path()
    await kept.close()
    assert [turn.ended for turn in turns] == ["", "stopped"]
    assert "Tick" in turns[1].text


async def visited(at: Any) -> None:
    """Wait until the chats were read, after which nothing is taken off the screen."""
    await at.until(lambda: chat(at).query_one("#nothing").display)


async def test_said_is_short(screen: Any) -> None:
    async with screen("chat", before=loaded) as at:
        await at.press("escape", "b")
        await told(at, "No block of code in this answer.")
        await at.press("left_square_bracket")
        await told(at, "No other branch here: e or r makes one.")
        assert not [text for text in said(at) if "Traceback" in text]
