"""Chats that are kept: list, search, undo, private ones, files, and a store that fails."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modeldeck.core.demo.model_writer import expected
from modeldeck.core.demo.projector import picture
from modeldeck.tui.chats.chat import Chat, ChatOptions, ChatTurn
from modeldeck.tui.chats.file_search import files_below
from modeldeck.tui.chats.store import ChatStore
from modeldeck.tui.dashboard.screens.chat import writing
from modeldeck.tui.dashboard.screens.chat.chat_list import ChatList
from modeldeck.tui.dashboard.screens.chat.keeping import ChatKeeping
from tests.support.process import CoreProcess
from tests.tui.dashboard.screens.chat_hands import (
    asked,
    chat,
    composer,
    ended,
    loaded,
    path,
    said,
    say,
    told,
)

SECRET = "count my hidden treasure"


@pytest.fixture(scope="module")
def core(shared_core: CoreProcess) -> CoreProcess:
    """One core for all of these tests, with what the ones before left in it."""
    return shared_core


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of the front end."""
    return tmp_path / "state"


def store(state: Path) -> ChatStore:
    return ChatStore(state / "chats.db")


def listed(at: Any) -> list[str]:
    """Titles in the list, and its headings."""
    return [
        row.heading or (row.summary.title if row.summary else "private")
        for row in at.app.query_one(ChatList).table.items
    ]


def leaving(at: Any, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Fills once the dashboard would end, which a test outlives."""
    left: list[object] = []
    monkeypatch.setattr(at.app, "exit", lambda *_, **__: left.append(True))
    return left


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def damaged(state: Path) -> bytes:
    """A file that is no database."""
    state.mkdir()
    (state / "chats.db").write_bytes(b"no database at all" * 100)
    return (state / "chats.db").read_bytes()


async def filled(state: Path, *titles: str, at: float = 1.0) -> None:
    """Keep chats with these questions, the last one the newest."""
    kept = store(state)
    for n, title in enumerate(titles):
        turn = ChatTurn(role="user", text=title, at=at + n)
        answer = ChatTurn(role="assistant", text=f"about {title}", parent=turn.id, at=at + n)
        options = ChatOptions(model="deck/tiny-GGUF:Q8_0")
        await kept.save(Chat(options=options).with_turn(turn).with_turn(answer))
    await kept.close()


async def test_a_question_sent_while_the_last_chat_is_read_stays_open(
    monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    begun: list[object] = []

    async def begin(session: object) -> None:
        begun.append(session)

    view: Any = SimpleNamespace(
        session=SimpleNamespace(chat=Chat(), at_stake=False),
        asking=SimpleNamespace(talking=False),
        opened=SimpleNamespace(begin=begin),
    )

    async def load(_: object, number: int) -> Chat:
        view.asking.talking = True  # a question is sent
        return Chat(number=number)

    monkeypatch.setattr(ChatStore, "load", load)
    await ChatKeeping(view, store(state)).open(1, if_empty=True)
    assert not begun


async def test_a_chat_is_there_again_and_goes_and_comes_back(screen: Any, state: Path) -> None:
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await asked(at, "count")
    async with screen("chat", chats=store(state)) as at:
        await at.sees("count", expected("count"), "Chats 1", "today", "saved ")
        await at.press("escape", "c")
        await at.sees("▸ count", "enter open", "x delete")
        await at.press("x")
        await told(at, "Deleted “count”. z brings it back.")
        await at.sees("No chats yet.", "Ask something.")
        await at.press("z")
        await told(at, "“count” is back.")
        await at.sees("▸ count", expected("count"))


async def test_both_forms_of_a_file_hold_both_turns(
    screen: Any, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await asked(at, "count")
        await at.press("escape", "E")
        await at.sees("Export “count”", "◂ Markdown ▸", "~/count.md")
        assert at.app.query_one("#in-path").size.width == 40, "paths are long"
        await at.press("enter")
        await told(at, "Wrote ")
        await at.press("E")
        await at.sees("◂ Markdown ▸")
        await at.press("right")
        await at.sees("◂ JSON ▸", "~/count.json")
        await at.press("enter")
        await at.until(lambda: sum("Wrote " in text for text in said(at)) == 2)
        await at.press("E")
        await at.sees("◂ Markdown ▸")
        await at.press("enter")
        await told(at, "exists already. Choose another name.")
    for name in ("count.md", "count.json"):
        text = (tmp_path / name).read_text()
        assert "count" in text
        assert expected("count") in text


async def test_a_private_chat_is_asked_about_and_is_nowhere(
    screen: Any, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await asked(at, "json")
        await at.press("escape", "N")
        await at.sees("private, not kept", "it is never written")
        await say(at, SECRET)
        await ended(at)
        await at.sees("○ private, not kept", "Chats 2")
        await at.press("escape", "n")
        await at.sees(
            "This chat is private: it is gone once you leave it.", "y leave it  n esc stay in it"
        )
        await at.press("n")
        await at.press("q")
        await at.sees("The open chat is private: it is gone once you leave.")
        left = leaving(at, monkeypatch)
        await at.press("y")
        await at.until(lambda: bool(left))
    kept = b"".join(file.read_bytes() for file in files(state))
    assert b"json" in kept
    assert b"hidden" not in kept
    assert expected("count").encode() not in kept


async def test_quitting_asks_only_for_what_would_be_lost(
    screen: Any, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await asked(at, "count")
        await at.write("half a question")
        await at.press("escape", "q")
        await at.sees("What is written in Chat was not sent.")
        left = leaving(at, monkeypatch)
        await at.press("n", "i", "ctrl+u", "escape", "q")
        await at.until(lambda: bool(left))


async def test_the_list_is_searched_by_title_and_text(screen: Any, state: Path) -> None:
    await filled(state, "Rust lifetimes", "Regex for dates", "Qwen or Gemma?")
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await at.sees("Chats 3", "older", "Qwen or Gemma?")
        await at.press("escape", "slash", *"about ru")
        await at.until(lambda: listed(at) == ["older", "Rust lifetimes"])
        await at.sees("1 match")
        await at.press("enter", "enter")
        await at.until(lambda: path(at) == ["Rust lifetimes", "about Rust lifetimes"])
        await at.press("slash", *"zzz")
        await at.sees("No match.")
        await at.press("escape")
        await at.until(lambda: len(listed(at)) == 4)


async def test_a_chat_is_renamed(screen: Any, state: Path) -> None:
    await filled(state, "Rust lifetimes")
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await at.sees("about Rust lifetimes")
        await at.press("escape", "R")
        await at.sees("Name of the chat", "Rust lifetimes")
        await at.press("ctrl+u", *"borrowing", "enter")
        await at.until(lambda: listed(at) == ["older", "borrowing"])


@pytest.mark.parametrize("size", [(80, 24), (60, 15)])
async def test_a_narrow_list_takes_the_place_of_the_turns(
    screen: Any, state: Path, size: tuple[int, int]
) -> None:
    await filled(state, "Rust lifetimes", "Regex for dates")
    async with screen("chat", before=loaded, chats=store(state), size=size) as at:
        await at.sees("about Regex for dates")
        assert "Chats 2" not in at.text
        await at.press("escape", "c")
        await at.sees("Chats 2", "Rust lifetimes", "enter open")
        assert "about" not in at.text
        await at.press("j", "enter")
        await at.sees("about Rust lifetimes")
        assert "Chats 2" not in at.text


async def test_three_hundred_chats_are_gone_through_at_once(screen: Any, state: Path) -> None:
    await filled(state, *(f"question {n}" for n in range(300)))
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await at.sees("Chats 300", "question 299")
        await at.press("escape", "c", "G")
        await at.sees("▸ question 0")
        await at.press("enter")
        await at.sees("about question 0")


async def test_a_long_chat_opens_at_its_end_and_shows_the_rest_on_demand(
    screen: Any, state: Path
) -> None:
    kept, made = store(state), Chat()
    for n in range(60):
        role = "assistant" if n % 2 else "user"
        turn = ChatTurn(role=role, text=f"turn {n}.", parent=made.leaf, at=n + 1.0)  # type: ignore[arg-type] # one of two
        made = made.with_turn(turn)
    await kept.save(made)
    await kept.close()
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await at.sees("turn 59.")
        await at.press("escape", "g")
        await at.sees("turn 0.")


async def test_a_store_that_fails_is_told_and_the_chat_goes_on(screen: Any, state: Path) -> None:
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await asked(at, "count")
        holder = sqlite3.connect(state / "chats.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        await say(at, "json")
        await told(at, "This chat goes on, but it is not saved. Another program holds")
        await ended(at, 2)
        await at.sees("! not saved")
        assert path(at)[2:] == ["json", expected("json")]
        await at.press("escape", "q")
        await at.sees("The open chat is not saved")
        await at.press("n")
        holder.execute("ROLLBACK")
        holder.close()
        await at.press("i")
        await say(at, "count again")
        await ended(at, 3)
        await at.sees("saved ")
    kept = store(state)
    assert len((await kept.load(1)).path()) == 6
    await kept.close()


async def test_a_damaged_store_is_told_and_left_alone(screen: Any, state: Path) -> None:
    before = damaged(state)
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await told(at, "is damaged")
        await asked(at, "count")
        await at.sees("! not saved", expected("count"))
    assert (state / "chats.db").read_bytes() == before


# Files

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 1280, 720) + b"\x08\x02\0\0\0"


async def test_a_text_file_goes_with_the_question(
    screen: Any, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.md").write_text("please count\n")
    (tmp_path / "other.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modeldeck.tui.chats.file_search.SCAN_LIMIT_S", 60.0)
    async with screen("chat", before=loaded, chats=store(state)) as at:
        await at.press("at", *"not")
        await at.sees("▸ notes.md", "enter attach", "tab complete")
        await at.press("tab")
        await at.until(lambda: composer(at).text == "@notes.md")
        await at.press("enter")
        await at.sees("notes.md ~4 tokens", "ctrl+x removes the last")
        assert composer(at).text == ""
        await at.press("at", *"oth", "enter")
        await at.sees("other.txt ~1 tokens")
        await at.press("ctrl+x")
        await at.until(lambda: [file.name for file in chat(at).files] == ["notes.md"])
        await say(at, "do it")
        await ended(at)
        await at.sees("notes.md   ~4 tokens", expected("count"))
        request = await chat(at).asking.request(
            chat(at).session.chat, chat(at).session.chat.turns[0]
        )
        assert request.messages[0].content == "`notes.md`:\n```md\nplease count\n```\n\ndo it"


async def test_a_file_is_picked_before_the_folder_was_read(
    screen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chart.txt").write_text("x")
    (tmp_path / "cat.txt").write_text("y")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modeldeck.tui.chats.file_search.SCAN_LIMIT_S", 60.0)
    read = asyncio.Event()

    async def files_once_read(folder: str) -> list[str]:
        await read.wait()
        return await files_below(folder)

    monkeypatch.setattr(writing, "files_below", files_once_read)
    async with screen("chat", before=loaded) as at:
        at.type("at", *"cha", "enter")
        await at.until(lambda: chat(at).composer.mention == "cha")
        await at.pilot.pause()
        assert chat(at).files == ()
        read.set()
        await at.until(lambda: [file.name for file in chat(at).files] == ["chart.txt"])
        assert composer(at).text == ""
        assert not [text for text in said(at) if "No file matches" in text]


async def test_a_model_that_sees_nothing_is_sent_no_picture(
    screen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chart.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modeldeck.tui.chats.file_search.SCAN_LIMIT_S", 60.0)
    async with screen("chat", before=loaded) as at:
        await at.press("at", *"cha", "enter")
        await told(at, "tiny Q8_0 sees no images, and no other model on this machine does.")
        assert chat(at).files == ()
        view = chat(at)
        model = view.partner.model
        assert model is not None
        seeing = replace(model, id="x", name="Eye", capabilities=("vision",), downloaded=True)
        view.set_reactive(
            type(view).state, replace(at.state, models={model.id: model, "x": seeing})
        )
        await view.written.add(str(tmp_path / "chart.png"))
        await told(at, "tiny Q8_0 sees no images; m chooses another (1 here does).")


async def test_the_question_is_written_in_the_editor(
    screen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "editor"
    script.write_text('#!/bin/sh\nprintf "count from the editor" > "$1"\n')
    script.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(script))
    async with screen("chat", before=loaded) as at:
        await at.press(*"draft", "ctrl+g")
        if os.name == "posix":
            await at.until(
                lambda: (
                    composer(at).text == "count from the editor"
                    or any("cannot be given" in message.text for message in at.app.messages)
                )
            )


SEER = "deck/tiny-see-GGUF:F16"


async def test_a_model_that_sees_is_sent_the_picture_and_it_is_kept(
    screen: Any, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = picture("red", 3)
    (tmp_path / "a chart.png").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    async with screen("chat", before=lambda c: loaded(c, SEER), chats=store(state)) as at:
        await at.pilot.resize_terminal(60, 15)
        await at.press("escape", "m")
        await at.sees("Which model answers?", "tiny-see F16", " context, sees images")
        await at.press("enter", "i")
        await chat(at).written.paste(f"'{tmp_path}/a chart.png'")
        await at.sees("a chart.png ", "ctrl+x removes the last")
        await say(at, "what is it?")
        await ended(at)
        await at.sees("a chart.png   ", "3 red squares", "tok/s")
        view = chat(at)
        assert view.partner.model is not None
        blind = replace(view.partner.model, capabilities=())
        view.set_reactive(type(view).state, replace(at.state, models={blind.id: blind}))
        view.written.again()  # the picture would be sent again
        await told(at, "tiny-see F16 sees no images, and no other model on this machine does.")
        assert len(view.session.chat.turns) == 2
    kept = store(state)
    turn = (await kept.load(1)).turns[0]
    await kept.close()
    assert turn.attachments[0].data == data
