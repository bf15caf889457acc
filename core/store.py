"""SQLite (WAL): custom models, the download journal, measurements, the audit trail.

Records are kept as JSON documents with the columns that are asked for beside them. All access goes
through one thread, so the event loop never waits for the disk, and writes are in order. With
`synchronous=FULL` a write that returned survives a power loss, which the download journal needs.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from core.errors import NotEnoughDisk, StorageFailed
from core.paths import make_private

T = TypeVar("T")

Table = Literal["models", "jobs", "measurements", "tokens", "options", "calibrations", "renamed"]
"""Tables of documents: entries that a person or the Hub added, the journal, the memory ledger, who
may use the API, how each model was last loaded, what engines take besides their models, what
repositories of the Hub were called before they were renamed."""

SCHEMA = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE models (id TEXT PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE jobs (id TEXT PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE measurements
        (id TEXT PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE audit (seq INTEGER PRIMARY KEY, at TEXT NOT NULL, origin TEXT NOT NULL,
                        action TEXT NOT NULL, target TEXT NOT NULL, outcome TEXT NOT NULL) STRICT;
    """,
    """
    CREATE TABLE tokens (id TEXT PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    """,
    """
    CREATE TABLE options
        (id TEXT PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE calibrations
        (id TEXT PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    """,
    """
    CREATE TABLE renamed
        (id TEXT PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    """,
)
"""One script per version of the schema; `PRAGMA user_version` counts those that ran."""

AUDIT_KEPT = 10_000
"""Entries of the audit trail; older ones are dropped."""


class Store:
    """The database of one core. Every method runs in the store's own thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "store")
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the database, making or migrating it. Raises StorageFailed, saying what to do."""
        await self._run(self._open)

    def _open(self) -> None:
        make_private(self._path.parent)
        self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(SCHEMA):
            raise StorageFailed(
                f"{self._path} was written by a newer modeldeck.", "Update modeldeck."
            )
        for number, script in enumerate(SCHEMA[version:], version + 1):
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version={number}; COMMIT;")

    async def close(self) -> None:
        """Close the database once everything before is written."""
        await self._run(self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    async def _run(self, action: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, action)
        except (sqlite3.Error, OSError) as error:
            if is_full(error):
                raise NotEnoughDisk(
                    f"The disk is full: {self._path} cannot grow.",
                    "Make room: what waits for it goes on by itself.",
                ) from error
            raise StorageFailed(
                f"The state in {self._path} cannot be read or written: {error}.",
                "Check the disk and the permissions; MODELDECK_STATE_DIR moves the state.",
            ) from error

    async def _execute(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        def action() -> list[tuple[object, ...]]:
            assert self._db is not None, "the store is not open"
            return self._db.execute(sql, values).fetchall()

        return await self._run(action)

    async def put(self, table: Table, key: str, body: bytes, position: int = 0) -> None:
        """Write one document, replacing the one with this key. Durable when it returns."""
        await self._execute(
            f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT (id)"  # noqa: S608 (Table is closed)
            " DO UPDATE SET position = excluded.position, body = excluded.body",
            key,
            position,
            body,
        )

    async def remove(self, table: Table, key: str) -> None:
        """Remove one document; nothing happens when there is none."""
        await self._execute(f"DELETE FROM {table} WHERE id = ?", key)  # noqa: S608 (Table is closed)

    async def documents(self, table: Table) -> list[bytes]:
        """All documents of a table, by position and then by age."""
        rows = await self._execute(
            f"SELECT body FROM {table} ORDER BY position, rowid"  # noqa: S608 (Table is closed)
        )
        return [body for (body,) in rows if isinstance(body, bytes)]

    async def keyed(self, table: Table) -> list[tuple[str, bytes]]:
        """All documents of a table with their keys, by position and then by age."""
        rows = await self._execute(
            f"SELECT id, body FROM {table} ORDER BY position, rowid"  # noqa: S608 (Table is closed)
        )
        return [(str(key), body) for key, body in rows if isinstance(body, bytes)]

    async def installation_id(self) -> str:
        """A UUID of this installation, made the first time it is asked for."""
        await self._execute(
            "INSERT OR IGNORE INTO meta VALUES ('installation_id', ?)", str(uuid.uuid4())
        )
        rows = await self._execute("SELECT value FROM meta WHERE name = 'installation_id'")
        return str(rows[0][0])

    async def audit(self, at: str, origin: str, action: str, target: str, outcome: str) -> None:
        """Add an entry to the audit trail."""
        await self._execute(
            "INSERT INTO audit (at, origin, action, target, outcome) VALUES (?, ?, ?, ?, ?)",
            *(at, origin, action, target, outcome),
        )
        await self._execute(
            "DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - ?", AUDIT_KEPT
        )

    async def audit_trail(self, limit: int) -> list[tuple[str, str, str, str, str]]:
        """The newest entries, newest first: time, origin, action, target, outcome."""
        rows = await self._execute(
            "SELECT at, origin, action, target, outcome FROM audit ORDER BY seq DESC LIMIT ?", limit
        )
        return [(str(a), str(b), str(c), str(d), str(e)) for a, b, c, d, e in rows]


def is_full(error: Exception) -> bool:
    """Whether the disk was full (`SQLITE_FULL`, or as the system says it)."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
