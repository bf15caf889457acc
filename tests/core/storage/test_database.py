import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from modeldeck.core.errors import ShuttingDown, StorageFailed
from modeldeck.core.schema import AuditEntry
from modeldeck.core.storage.database import AUDIT_KEPT, Database


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    store = Database(tmp_path / "state" / "db.sqlite3")
    await store.open()
    yield store
    await store.close()


async def test_documents_keep_their_order_and_are_replaced_in_place(store: Database) -> None:
    await store.put("models", "a", b"1")
    await store.put("models", "b", b"2")
    await store.put("models", "first", b"0", position=-1)
    await store.put("models", "a", b"one")
    assert [body for _, body in await store.keyed("models")] == [b"0", b"one", b"2"]
    await store.remove("models", "a")
    await store.remove("models", "never there")
    assert [body for _, body in await store.keyed("models")] == [b"0", b"2"]
    assert await store.keyed("jobs") == []


async def test_everything_is_there_after_a_restart(store: Database, tmp_path: Path) -> None:
    identity = await store.installation_id()
    await store.put("jobs", "j", b"body")
    other = Database(tmp_path / "state" / "db.sqlite3")
    await other.open()
    assert [body for _, body in await other.keyed("jobs")] == [b"body"]
    assert await other.installation_id() == identity
    await other.close()


async def test_the_store_survives_power_loss_and_is_private(
    store: Database, tmp_path: Path
) -> None:
    db = sqlite3.connect(tmp_path / "state" / "db.sqlite3")
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()
    # Of the connection that writes; 2 is FULL (https://sqlite.org/pragma.html#pragma_synchronous).
    assert await store._execute("PRAGMA synchronous") == [(2,)]
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


async def test_the_audit_trail_is_newest_first_and_bounded(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        await store.audit_all([(f"t{n}", "unix uid=0", "load", f"m{n}", "done")])
    assert [row[3] for row in await store.audit_trail(2)] == ["m4", "m3"]
    assert AUDIT_KEPT >= 1000
    monkeypatch.setattr("modeldeck.core.storage.database.AUDIT_KEPT", 3)
    await store.audit_all([("t5", "unix uid=0", "load", "m5", "done")])
    assert [row[3] for row in await store.audit_trail(10)] == ["m5", "m4", "m3"]


async def test_writers_do_not_hold_up_one_another(store: Database) -> None:
    await asyncio.gather(*(store.put("jobs", str(n), b"x") for n in range(200)))
    assert len(await store.keyed("jobs")) == 200


async def test_a_database_of_a_newer_version_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    store = Database(path)
    with pytest.raises(StorageFailed, match="newer modeldeck"):
        await store.open()
    await store.close()


async def test_a_file_that_is_no_database_is_an_error_that_says_where(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    path.write_text("this is not a database, and long enough to be read as one" * 20)
    store = Database(path)
    with pytest.raises(StorageFailed, match=r"db\.sqlite3"):
        await store.open()
    await store.close()


async def test_a_store_that_is_closed_says_that_the_core_ends(tmp_path: Path) -> None:
    store = Database(tmp_path / "db.sqlite3")
    await store.open()
    await store.close()
    with pytest.raises(ShuttingDown):
        await store.put("jobs", "a", b"{}")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"\xff\xfe", b'{"id":1}', b'{"at":"x"}', b"[" * 100_000, b"null", b""],
)
async def test_a_record_that_cannot_be_read_is_left_out_by_name_and_kept(
    store: Database, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    good = msgspec.json.encode(AuditEntry(at="", origin="", action="", target="", outcome=""))
    await store.put("models", "bad", body)
    await store.put("models", "good", good)
    found = await store.records("models", AuditEntry)
    assert [key for key, _ in found] == ["good"]
    (text,) = store.unreadable
    assert "'bad'" in text
    assert "'models'" in text
    assert text in caplog.text
    assert len(await store.keyed("models")) == 2


async def test_a_record_that_its_check_refuses_is_left_out_too(store: Database) -> None:
    def check(entry: AuditEntry) -> None:
        datetime.fromisoformat(entry.at)

    entry = AuditEntry(at="never", origin="", action="", target="", outcome="")
    await store.put("models", "bad", msgspec.json.encode(entry))
    assert await store.records("models", AuditEntry, check) == []
    assert len(store.unreadable) == 1
