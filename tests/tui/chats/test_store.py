"""The file of conversations: search, bin, crashes, and what keeps it from being written."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from modeldeck.core.config.config import ChatSettings
from modeldeck.core.errors import NotEnoughDisk, NotFound, StorageFailed
from modeldeck.tui.chats import store as module
from modeldeck.tui.chats.chat import Chat, ChatAttachment, ChatOptions, ChatTurn
from modeldeck.tui.chats.search import ChatFilter
from modeldeck.tui.chats.session import ChatSession
from modeldeck.tui.chats.store import ChatStore, SystemPreset


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ChatStore]:
    store = ChatStore(tmp_path / "state" / "chats.db")
    yield store
    await store.close()


def asked(text: str, parent: str | None = None, at: float = 1.0, **more: object) -> ChatTurn:
    return ChatTurn(role="user", text=text, parent=parent, at=at, **more)  # type: ignore[arg-type] # what a test sets


def answered(text: str, parent: str | None, at: float = 2.0) -> ChatTurn:
    return ChatTurn(role="assistant", text=text, parent=parent, at=at, model="Tiny")


async def kept(store: ChatStore, *texts: str, model: str = "deck/tiny", at: float = 0) -> int:
    """A conversation of a question and an answer each."""
    session = ChatSession(store, Chat(options=ChatOptions(model=model)))
    for text in texts:
        question = asked(text, session.chat.leaf, at or time.time())
        assert await session.add(question)
        assert await session.add(answered(f"about {text}", question.id, at or time.time()))
    assert session.chat.number is not None
    return session.chat.number


async def titles(store: ChatStore, words: str = "") -> list[str]:
    return [chat.title for chat in await store.summaries(words)]


async def test_a_conversation_comes_back_as_it_was(store: ChatStore) -> None:
    picture = ChatAttachment(name="p.png", kind="image", data=b"\x00png", width=4, height=2)
    session = ChatSession(store, Chat(options=ChatOptions(system="brief")))
    question = asked("why?", attachments=(picture, ChatAttachment(name="a.txt", text="x")))
    await session.add(question)
    await session.add(replace(answered("so", question.id), thought="hm", ended="stopped"))
    await session.add(asked("edited", at=3.0))
    number = session.chat.number
    assert number is not None
    assert await store.load(number) == session.chat
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(p.stat().st_mode) for p in store.path.parent.iterdir()} == {0o600}
    assert [(s.number, s.branches) for s in await store.summaries()] == [(number, 2)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", ["Größe of kernels", "Rust lifetimes", "Regex for dates"]),
        ("RUST", ["Rust lifetimes"]),
        ("grösse", []),
        ("GRÖSSE", []),
        ("größe", ["Größe of kernels"]),
        ("about dates", ["Regex for dates"]),
        ("borrow", ["Rust lifetimes"]),
        ("for -regex", ["Größe of kernels"]),
        ("model:qwen", ["Regex for dates"]),
        ("-model:qwen about", ["Größe of kernels", "Rust lifetimes"]),
        ("50% _", []),
        ("foo:bar", []),
    ],
)
async def test_search_finds_titles_and_text(store: ChatStore, words: str, found: list[str]) -> None:
    await kept(store, "Regex for dates", model="Qwen/Qwen3-8B", at=1)
    await kept(store, "Rust lifetimes", "and the borrow checker", at=2)
    await kept(store, "Größe of kernels", "what for", at=3)
    if words.casefold() == "grösse":  # ß folds to ss, on both sides
        found = ["Größe of kernels"]
    assert await titles(store, words) == found


def test_marked_words_are_those_that_were_asked_for() -> None:
    assert ChatFilter.of("Rust -old model:q").marked == ("rust",)


async def test_the_bin_gives_back_for_thirty_days(
    store: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await kept(store, "one", at=1)
    await store.delete(number)
    await store.purge()
    assert await titles(store) == []
    assert await store.prompts() == []
    restored = await store.restore()
    assert restored is not None
    assert restored.number == number
    assert await titles(store) == ["one"]
    assert await store.restore() is None
    await store.delete(number)
    late = time.time() + 31 * module.DAY_S
    monkeypatch.setattr("modeldeck.tui.chats.store.time.time", lambda: late)
    await store.purge()
    with pytest.raises(NotFound):
        await store.load(number)
    await store.close()
    assert b"about one" not in b"".join(p.read_bytes() for p in store.path.parent.iterdir())


async def test_old_ones_go_where_that_is_set(store: ChatStore) -> None:
    await kept(store, "old", at=time.time() - 8 * module.DAY_S)
    await kept(store, "new")
    await store.purge()
    assert await titles(store) == ["new", "old"]
    week = ChatStore(store.path, ChatSettings(keep_days=7))
    await week.purge()
    await week.close()
    assert await titles(store) == ["new"]


async def test_earlier_questions_of_all_chats_once_each(store: ChatStore) -> None:
    await kept(store, "one", "two", at=1)
    await kept(store, "three", "one", at=2)
    assert sorted(await store.prompts()) == ["one", "three", "two"]
    assert (await store.prompts())[-1] == "two"


async def test_system_prompts_are_saved_under_names(store: ChatStore) -> None:
    for text in ("old", "Review code."):
        await store.save_preset(SystemPreset(name="review", text=text))
    assert await store.presets() == [SystemPreset(name="review", text="Review code.")]
    await store.delete_preset("review")
    assert await store.presets() == []


async def test_private_and_unkept_chats_are_not_written(store: ChatStore, tmp_path: Path) -> None:
    for session in (
        ChatSession(store, Chat(private=True)),
        ChatSession(ChatStore(store.path, ChatSettings(keep=False))),
    ):
        await session.add(asked("a secret"))
        assert session.at_stake
    await ChatSession(store).save()  # without a question
    assert not store.path.exists()


async def test_two_dashboards_write_one_chat(store: ChatStore) -> None:
    other = ChatStore(store.path)
    number = await kept(store, "one")
    first, second = ChatSession(store, await store.load(number)), None
    second = ChatSession(other, await other.load(number))
    leaf = first.chat.leaf
    await asyncio.gather(
        *(
            s.add(asked(f"{n}{i}", leaf, 9))
            for i in range(10)
            for n, s in (("a", first), ("b", second))
        )
    )
    await other.close()
    chat = await store.load(number)
    assert {t.text for t in chat.children(leaf)} == {f"{n}{i}" for n in "ab" for i in range(10)}


async def test_what_is_written_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    code = f"""
import asyncio
from pathlib import Path
from modeldeck.tui.chats.chat import ChatTurn
from modeldeck.tui.chats.session import ChatSession
from modeldeck.tui.chats.store import ChatStore

async def main():
    session = ChatSession(ChatStore(Path({str(path)!r})))
    for n in range(100000):
        turn = ChatTurn(role="user", text=str(n), at=n + 1.0, parent=session.chat.leaf)
        assert await session.add(turn)
        print(n, flush=True)

asyncio.run(main())
"""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    for _ in range(20):
        last = int(await child.stdout.readline())
    child.kill()
    await child.communicate()
    store = ChatStore(path)
    chat = await store.load(1)
    assert len(chat.path()) >= last + 1
    await store.close()


async def test_a_full_disk_leaves_the_chat_unsaved_until_there_is_room(store: ChatStore) -> None:
    session = ChatSession(store)
    await session.add(asked("one"))
    db = store._db
    assert db is not None
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count={pages}")  # SQLite's own way to be full
    question = asked("x" * 100_000, session.chat.leaf)
    assert not await session.add(question)
    assert isinstance(session.problem, NotEnoughDisk)
    assert session.at_stake
    db.execute("PRAGMA max_page_count=1000000")
    assert await session.add(answered("so", question.id))
    assert not session.at_stake
    number = session.chat.number
    assert number is not None
    assert await store.load(number) == session.chat


async def test_a_locked_file_leaves_the_chat_unsaved_until_it_is_free(
    store: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCKED_S", 0.05)
    await kept(store, "before")
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    session = ChatSession(store)
    assert not await session.add(asked("meanwhile"))
    assert "Another program holds" in str(session.problem)
    assert await titles(store) == ["before"]  # reading goes on
    holder.execute("ROLLBACK")
    holder.close()
    assert await session.save()
    assert session.problem is None
    assert sorted(await titles(store)) == ["before", "meanwhile"]


async def test_a_damaged_file_is_left_alone_and_said(store: ChatStore) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"not a database, and of more than a hundred bytes" * 100)
    before = store.path.read_bytes()
    session = ChatSession(store)
    assert not await session.add(asked("one"))
    assert "is damaged" in str(session.problem)
    assert "Move it away" in str(session.problem)
    assert store.path.read_bytes() == before
    store.path.rename(store.path.with_suffix(".old"))
    assert await session.save()
    assert await titles(store) == ["one"]


async def test_a_newer_file_is_refused(store: ChatStore) -> None:
    await kept(store, "one")
    await store.close()
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StorageFailed, match="newer modeldeck"):
        await store.summaries()


async def test_a_folder_that_cannot_be_written_is_said(store: ChatStore) -> None:
    store.path.parent.write_text("a file where the folder should be")
    with pytest.raises(StorageFailed, match="cannot be read or written"):
        await store.summaries()


async def test_a_write_goes_on_where_its_caller_is_cancelled(store: ChatStore) -> None:
    session = ChatSession(store)
    await session.add(asked("one"))
    task = asyncio.create_task(session.add(answered("so", session.chat.leaf)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.close()
    number = session.chat.number
    assert number is not None
    assert [t.text for t in (await store.load(number)).path()] == ["one", "so"]


async def test_three_hundred_chats_are_listed_at_once(store: ChatStore) -> None:
    for n in range(300):
        chat = Chat()
        parent = None
        for m in range(4):
            turn = asked(f"question {n} {m}", parent, n * 10 + m + 1)
            chat, parent = chat.with_turn(turn), turn.id
        await store.save(chat)
    assert len(await store.summaries()) == 300
    assert len(await store.summaries("question 7 3")) >= 1
    await store.close()
