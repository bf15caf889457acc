"""The SQLite database (WAL) of a core: models, download journal, measurements, audit trail.

Records are JSON documents with a key and a position. All access goes through one thread, so the
event loop never waits for the disk, and writes stay in order. With `synchronous=FULL` a write that
returned survives a power loss, which the download journal needs.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from modeldeck.core.errors import DeckError, NotEnoughDisk, ShuttingDown, StorageFailed
from modeldeck.core.storage.files import is_disk_full, make_private
from modeldeck.core.storage.installation import update_command

logger = logging.getLogger(__name__)

T = TypeVar("T")

Table = Literal[
    "models",
    "jobs",
    "measurements",
    "tokens",
    "options",
    "calibrations",
    "renamed",
    "defaults",
    "updates",
    "benches",
]
"""Tables of documents: added models, the download journal, the load history, API tokens, last load
options of each model, memory overhead of engines, former names of repositories of the Hub, load
options saved as defaults, newer files on the Hub as last asked, benchmarks."""

AuditRow = tuple[str, str, str, str, str]
"""Time, origin, action, target and outcome."""

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
    """
    CREATE TABLE defaults
        (id TEXT PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    """,
    """
    CREATE TABLE updates
        (id TEXT PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE benches
        (id TEXT PRIMARY KEY, position INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
    """,
)
"""One script per version of the schema; `PRAGMA user_version` is the number of those that ran."""

UNREADABLE = (msgspec.MsgspecError, DeckError, ValueError, TypeError, RecursionError)
"""Exceptions of decoding and checking an invalid record."""

AUDIT_KEPT = 10_000
"""Number of entries of the audit trail; older ones are deleted."""


class Database:
    """The database of one core. Every method runs in its own thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "store")
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self.unreadable: list[str] = []
        """Messages about records that `records` left out."""
        self._pending: dict[object, float] = {}

    async def open(self) -> None:
        """Open the database, creating or migrating it. Raises StorageFailed."""
        await self._run(self._open)

    def _open(self) -> None:
        make_private(self._path.parent)
        self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(SCHEMA):
            raise StorageFailed(
                f"{self._path} was written by a newer modeldeck.",
                f"Update modeldeck: {update_command()}.",
            )
        for number, script in enumerate(SCHEMA[version:], version + 1):
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version={number}; COMMIT;")

    async def close(self) -> None:
        """Close the database after all earlier writes; later calls raise ShuttingDown."""
        await self._run(self._close)
        self._closed = True
        self._thread.shutdown()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    async def _run(self, action: Callable[[], T]) -> T:
        if self._closed:
            raise ShuttingDown("The core is about to end.", "Start it again.")
        key = object()
        self._pending[key] = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, action)
        except (sqlite3.Error, OSError) as error:
            if is_full(error):
                raise NotEnoughDisk(
                    f"The disk is full: {self._path} cannot grow.",
                    "Make room, then do it again; what downloads wait for goes on by itself.",
                ) from error
            raise StorageFailed(
                f"The state in {self._path} cannot be read or written: {error}.",
                "Check the disk and the permissions; MODELDECK_STATE_DIR moves the state.",
            ) from error
        finally:
            del self._pending[key]

    @property
    def waiting_s(self) -> float:
        """Age in seconds of the oldest unfinished action; 0 when there is none."""
        oldest = next(iter(self._pending.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    async def _execute(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        def action() -> list[tuple[object, ...]]:
            return self._connection.execute(sql, values).fetchall()

        return await self._run(action)

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._db is not None, "the store is not open"
        return self._db

    async def put(self, table: Table, key: str, body: bytes, position: int = 0) -> None:
        """Write a document, replacing one with the same key. Durable when it returns."""
        await self.put_all(table, [(key, body, position)])

    async def put_all(self, table: Table, documents: Sequence[tuple[str, bytes, int]]) -> None:
        """Write documents, each with key and position: all of them, or none if it raises."""

        def action() -> None:
            with self._connection as db:
                db.execute("BEGIN IMMEDIATE")
                db.executemany(
                    f"INSERT INTO {table} VALUES (?, ?, ?)"  # noqa: S608 (Table is closed)
                    " ON CONFLICT (id)"
                    " DO UPDATE SET position = excluded.position, body = excluded.body",
                    [(key, position, body) for key, body, position in documents],
                )

        await self._run(action)

    async def remove(self, table: Table, key: str) -> None:
        """Remove a document, if it exists."""
        await self._execute(f"DELETE FROM {table} WHERE id = ?", key)  # noqa: S608 (Table is closed)

    async def keyed(self, table: Table) -> list[tuple[str, bytes]]:
        """Return all documents of a table with their keys, by position, then by age."""
        rows = await self._execute(
            f"SELECT id, body FROM {table} ORDER BY position, rowid"  # noqa: S608 (Table is closed)
        )
        return [(str(key), body) for key, body in rows if isinstance(body, bytes)]

    async def records(
        self, table: Table, kind: type[T], check: Callable[[T], object] = lambda _: None
    ) -> list[tuple[str, T]]:
        """Return all documents of a table as in `keyed`, decoded as `kind`.

        A document that cannot be decoded, or that `check` rejects, is left out and stays in
        the database: it is logged, and named in `unreadable`.
        """
        found = []
        for key, body in await self.keyed(table):
            try:
                record = msgspec.json.decode(body, type=kind)
                check(record)
            except UNREADABLE as error:
                text = f"The record {key!r} of table {table!r} in {self._path} is left out: {error}"
                logger.warning("%s", text)
                self.unreadable.append(text)
            else:
                found.append((key, record))
        return found

    async def installation_id(self) -> str:
        """Return the UUID of this installation, which is created on the first call."""
        await self._execute(
            "INSERT OR IGNORE INTO meta VALUES ('installation_id', ?)", str(uuid.uuid4())
        )
        rows = await self._execute("SELECT value FROM meta WHERE name = 'installation_id'")
        return str(rows[0][0])

    async def audit_all(self, entries: Sequence[AuditRow]) -> None:
        """Add entries to the audit trail, all of them or none, and delete the oldest."""

        def action() -> None:
            with self._connection as db:
                db.execute("BEGIN IMMEDIATE")
                db.executemany(
                    "INSERT INTO audit (at, origin, action, target, outcome)"
                    " VALUES (?, ?, ?, ?, ?)",
                    entries,
                )
                db.execute(
                    "DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - ?",
                    (AUDIT_KEPT,),
                )

        await self._run(action)

    async def audit_trail(self, limit: int) -> list[AuditRow]:
        """Return the newest entries, newest first: time, origin, action, target, outcome."""
        rows = await self._execute(
            "SELECT at, origin, action, target, outcome FROM audit ORDER BY seq DESC LIMIT ?", limit
        )
        return [(str(a), str(b), str(c), str(d), str(e)) for a, b, c, d, e in rows]


def is_full(error: Exception) -> bool:
    """Whether the disk was full, by SQLite's or the system's error code."""
    return is_disk_full(error) or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
