"""The database of conversations: `chats.db` in the state folder of the front end (SQLite, WAL).

Turns are only added, so that two dashboards may write the same conversation at once: both branches
are there afterwards. All access runs in one thread at a time, off the event loop, and in order.
With `synchronous=FULL` what was written survives a crash and a power loss; with `secure_delete`
what was deleted is overwritten. Private conversations never come here.

Every method raises StorageFailed: where the file is damaged, held by another program, written by a
newer modeldeck, or not accessible, and NotEnoughDisk where the disk is full. Each call tries anew,
so that writing goes on once the cause is gone.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from modeldeck.core.concurrency import DaemonThreadPool, TimeLimitExceeded, TooManyStuck
from modeldeck.core.config.config import ChatSettings
from modeldeck.core.errors import NotEnoughDisk, NotFound, StorageFailed
from modeldeck.core.storage.files import OWNER_ONLY, is_disk_full, make_private
from modeldeck.tui.chats.chat import Chat, ChatOptions, ChatTurn
from modeldeck.tui.chats.search import ChatFilter, folded

T = TypeVar("T")

BIN_DAYS = 30
"""Days that a deleted conversation can be brought back."""
DAY_S = 86400.0

LOCKED_S = 3.0
"""Seconds to wait for another program that writes: a write takes milliseconds."""
LIMIT_S = 15.0
"""Seconds that the disk may take over one action."""

SCHEMA = (
    """
    CREATE TABLE chats
        (number INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, named INTEGER NOT NULL,
         folded TEXT NOT NULL, created REAL NOT NULL, changed REAL NOT NULL, deleted REAL,
         leaf TEXT, model TEXT NOT NULL, options BLOB NOT NULL) STRICT;
    CREATE TABLE turns
        (id TEXT PRIMARY KEY, chat INTEGER NOT NULL REFERENCES chats (number) ON DELETE CASCADE,
         place INTEGER NOT NULL, parent TEXT, at REAL NOT NULL, question INTEGER NOT NULL,
         folded TEXT NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE INDEX turns_of_chat ON turns (chat, place);
    CREATE INDEX questions_by_time ON turns (question, at);
    CREATE TABLE files
        (turn TEXT NOT NULL REFERENCES turns (id) ON DELETE CASCADE, place INTEGER NOT NULL,
         data BLOB NOT NULL, PRIMARY KEY (turn, place)) STRICT;
    CREATE TABLE presets
        (name TEXT PRIMARY KEY, text TEXT NOT NULL, changed REAL NOT NULL) STRICT;
    """,
)
"""One script per version of the schema; `PRAGMA user_version` is the number of those that ran."""

_SUMMARIES = """
    SELECT number, title, changed, model, 1 + coalesce(
        (SELECT sum(n - 1) FROM (SELECT count(*) AS n FROM turns WHERE chat = number
                                 GROUP BY parent)), 0)
    FROM chats WHERE deleted IS NULL"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSummary:
    """One conversation in a list."""

    number: int
    title: str
    changed: float
    """In seconds since the epoch."""
    model: str
    """Unique name of the model that was asked last."""
    branches: int
    """Number of its branches: 1 for a conversation without alternatives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPreset:
    """A system prompt that was saved under a name."""

    name: str
    text: str


class ChatStore:
    """The conversations of one person on one machine. Nothing is opened before the first call."""

    def __init__(self, path: Path, settings: ChatSettings | None = None) -> None:
        """`settings` is the `[chat]` table of the configuration."""
        self.path = path
        self.settings = settings or ChatSettings()
        self._pool = DaemonThreadPool(1, "chats", limit_s=LIMIT_S, most_stuck=1)
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._running: set[asyncio.Task[Any]] = set()

    # Conversations

    async def save(self, chat: Chat, turns: frozenset[str] | None = None) -> int:
        """Write a conversation: these of its turns, by default all; return its number.

        One that lies in the bin comes back, and so does one that was removed for good.
        """
        return await self._run(partial(self._save, chat, turns))

    def _save(self, chat: Chat, turns: frozenset[str] | None) -> int:
        with self._transaction() as db:
            number, is_new = _write_chat(db, chat)
            for place, turn in enumerate(chat.turns):
                if turns is None or is_new or turn.id in turns:
                    _write_turn(db, number, place, turn)
        return number

    async def load(self, number: int) -> Chat:
        """Return a conversation with all its turns and files. Raises NotFound."""
        return await self._run(partial(self._load, number))

    def _load(self, number: int) -> Chat:
        db = self._opened()
        row = db.execute(
            "SELECT title, named, created, changed, leaf, options FROM chats WHERE number = ?",
            (number,),
        ).fetchone()
        if row is None:
            raise NotFound(f"There is no chat {number}.", "`modeldeck chat` lists them by /chats.")
        title, named, created, changed, leaf, options = row
        turns = db.execute(
            "SELECT id, body FROM turns WHERE chat = ? ORDER BY place, at", (number,)
        ).fetchall()
        files = {id: _files(db, id) for id, _ in turns}
        try:
            read = tuple(_read_turn(body, files[id]) for id, body in turns)
            chosen = msgspec.json.decode(options, type=ChatOptions)
        except msgspec.MsgspecError as error:
            raise StorageFailed(
                f"Chat {number} in {self.path} cannot be read: {error}.",
                "A newer modeldeck may have written it: update this one.",
            ) from error
        return Chat(
            number=number,
            title=title,
            named=bool(named),
            created=created,
            changed=changed,
            options=chosen,
            turns=read,
            leaf=leaf,
        )

    async def summaries(self, words: str = "") -> list[ChatSummary]:
        """Return the conversations that match a filter (`ChatFilter`), the newest first."""
        return await self._run(partial(self._summaries, ChatFilter.of(words)))

    def _summaries(self, wanted: ChatFilter) -> list[ChatSummary]:
        condition, values = wanted.condition()
        query = f"{_SUMMARIES} AND {condition} ORDER BY changed DESC, number DESC"
        rows = self._opened().execute(query, values)
        return [
            ChatSummary(number=number, title=title, changed=changed, model=model, branches=branches)
            for number, title, changed, model, branches in rows
        ]

    async def delete(self, number: int) -> None:
        """Move a conversation to the bin, where it stays for `BIN_DAYS`."""
        await self._change("UPDATE chats SET deleted = ? WHERE number = ?", time.time(), number)

    async def restore(self) -> Chat | None:
        """Bring back the conversation that was deleted last; None where the bin is empty."""
        return await self._run(self._restore)

    def _restore(self) -> Chat | None:
        with self._transaction() as db:
            row = db.execute(
                "UPDATE chats SET deleted = NULL WHERE number = (SELECT number FROM chats"
                " WHERE deleted IS NOT NULL ORDER BY deleted DESC LIMIT 1) RETURNING number"
            ).fetchone()
        return self._load(row[0]) if row else None

    async def purge(self) -> None:
        """Remove for good what was in the bin for `BIN_DAYS`, or is older than `keep_days`."""
        now, keep_days = time.time(), self.settings.keep_days
        oldest = now - keep_days * DAY_S if keep_days else 0.0
        await self._change(
            "DELETE FROM chats WHERE deleted < ? OR changed < ?", now - BIN_DAYS * DAY_S, oldest
        )

    async def prompts(self, limit: int = 500) -> list[str]:
        """Return the latest questions of all conversations, the newest first, each text once."""
        return await self._run(partial(self._prompts, limit))

    def _prompts(self, limit: int) -> list[str]:
        rows = self._opened().execute(
            "SELECT json_extract(CAST(body AS TEXT), '$.text') FROM turns, chats"
            " WHERE chat = number AND deleted IS NULL AND question"
            " ORDER BY turns.at DESC LIMIT ?",
            (limit,),
        )
        return list(dict.fromkeys(text for (text,) in rows if text))

    # System prompts

    async def presets(self) -> list[SystemPreset]:
        """Return the saved system prompts by name."""
        rows = await self._run(
            lambda: (
                self._opened().execute("SELECT name, text FROM presets ORDER BY name").fetchall()
            )
        )
        return [SystemPreset(name=name, text=text) for name, text in rows]

    async def save_preset(self, preset: SystemPreset) -> None:
        """Save a system prompt, replacing one of the same name."""
        await self._change(
            "INSERT INTO presets VALUES (?, ?, ?) ON CONFLICT (name)"
            " DO UPDATE SET text = excluded.text, changed = excluded.changed",
            *(preset.name, preset.text, time.time()),
        )

    async def delete_preset(self, name: str) -> None:
        """Remove a saved system prompt."""
        await self._change("DELETE FROM presets WHERE name = ?", name)

    # Access

    async def close(self) -> None:
        """Close the database after all earlier writes, also of callers that were cancelled."""
        while self._running:
            await asyncio.wait(self._running)
        if self._db is not None:
            await self._run(self._close)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    async def _change(self, sql: str, *values: object) -> None:
        def action() -> None:
            with self._transaction() as db:
                db.execute(sql, values)

        await self._run(action)

    async def _run(self, action: Callable[[], T]) -> T:
        """Run an action in the thread. It is carried out also where the caller is cancelled."""
        work = asyncio.ensure_future(self._pool.run(partial(self._guarded, action), key="chats"))
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        # The error of work that lost its caller has no reader.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(work)
        except (TimeLimitExceeded, TooManyStuck):
            raise StorageFailed(
                f"The disk does not answer: {self.path}.", "Check the disk or the network mount."
            ) from None
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def _guarded(self, action: Callable[[], T]) -> T:
        with self._lock:
            try:
                return action()
            except sqlite3.DatabaseError as error:
                if _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    self._close()  # the file may be replaced by then
                raise

    def _failure(self, error: Exception) -> StorageFailed:
        code = _code(error)
        if is_disk_full(error) or code == sqlite3.SQLITE_FULL:
            return NotEnoughDisk(f"The disk is full: {self.path} cannot grow.", "Free some space.")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StorageFailed(f"Another program holds {self.path}.", "End it, or wait for it.")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StorageFailed(
                f"{self.path} is damaged: {error}.", "Move it away; then a new one is begun."
            )
        return StorageFailed(
            f"{self.path} cannot be read or written: {error}.",
            "Check the disk and the permissions; MODELDECK_STATE_DIR moves the state.",
        )

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            make_private(self.path.parent)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
            os.close(os.open(self.path, flags, OWNER_ONLY))  # the files beside it get its mode
            db = sqlite3.connect(
                self.path, timeout=LOCKED_S, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(db, self.path)
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _transaction(self) -> _Transaction:
        return _Transaction(self._opened())


class _Transaction:
    """A write: all of it, or none where the block raises."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> sqlite3.Connection:
        self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
                return
            except sqlite3.Error:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # a full disk rolls back by itself
            self._db.execute("ROLLBACK")


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Set up a connection, and create or migrate the tables."""
    path.chmod(OWNER_ONLY)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA foreign_keys=ON")
    db.execute("PRAGMA secure_delete=ON")
    with _Transaction(db):  # of two dashboards that begin at once, one waits here
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(SCHEMA):
            raise StorageFailed(
                f"{path} was written by a newer modeldeck.", "Update this modeldeck to read it."
            )
        for script in SCHEMA[version:]:
            for statement in script.split(";"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version={len(SCHEMA)}")


def _code(error: Exception) -> int:
    """SQLite's error code without its details; 0 for other errors."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _write_chat(db: sqlite3.Connection, chat: Chat) -> tuple[int, bool]:
    """Write the row of a conversation; return its number, and whether it was not there."""
    values = (
        *(chat.title, chat.named, folded(chat.title), chat.created, chat.changed),
        *(chat.leaf, chat.options.model, msgspec.json.encode(chat.options)),
    )
    if chat.number is not None:
        done = db.execute(
            "UPDATE chats SET title = ?, named = ?, folded = ?, created = ?, changed = ?,"
            " leaf = ?, model = ?, options = ?, deleted = NULL WHERE number = ?",
            (*values, chat.number),
        )
        if done.rowcount:
            return chat.number, False
    done = db.execute(
        "INSERT INTO chats (number, title, named, folded, created, changed, leaf, model, options)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (chat.number, *values),
    )
    assert done.lastrowid is not None
    return done.lastrowid, True


def _write_turn(db: sqlite3.Connection, chat: int, place: int, turn: ChatTurn) -> None:
    bare = tuple(replace(file, data=b"") for file in turn.attachments)
    names = [file.name for file in turn.attachments]
    found = folded("\n".join([turn.text, *names]))
    body = msgspec.json.encode(replace(turn, attachments=bare))
    db.execute(
        "INSERT INTO turns (id, chat, place, parent, at, question, folded, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id)"
        " DO UPDATE SET at = excluded.at, folded = excluded.folded, body = excluded.body",
        (turn.id, chat, place, turn.parent, turn.at, turn.role == "user", found, body),
    )
    db.executemany(
        "INSERT OR REPLACE INTO files VALUES (?, ?, ?)",
        [(turn.id, n, file.data) for n, file in enumerate(turn.attachments) if file.data],
    )


def _files(db: sqlite3.Connection, turn: str) -> dict[int, bytes]:
    rows = db.execute("SELECT place, data FROM files WHERE turn = ?", (turn,))
    return dict(rows.fetchall())


def _read_turn(body: bytes, files: dict[int, bytes]) -> ChatTurn:
    turn = msgspec.json.decode(body, type=ChatTurn)
    whole = (replace(file, data=files.get(n, b"")) for n, file in enumerate(turn.attachments))
    return replace(turn, attachments=tuple(whole))
