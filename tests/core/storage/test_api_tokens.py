from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from modeldeck.core.errors import Conflict, InvalidRequest, NotFound
from modeldeck.core.schema import TOKEN_SECRET, Token
from modeldeck.core.storage.api_tokens import MOST, ApiTokens
from modeldeck.core.storage.database import Database


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    store = Database(tmp_path / "db.sqlite3")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def tokens(store: Database) -> ApiTokens:
    tokens = ApiTokens(store)
    await tokens.open()
    return tokens


async def test_a_token_is_found_by_its_secret_and_by_nothing_else(tokens: ApiTokens) -> None:
    assert not tokens.usable
    made = await tokens.create("laptop", ["manage", "read", "manage"])
    assert TOKEN_SECRET.fullmatch(made.secret)
    assert made.token.scopes == ("manage", "read")
    assert tokens.usable
    found = tokens.find(made.secret)
    assert found is not None
    assert found.id == made.token.id
    for wrong in ("", "laptop", made.token.id, made.secret[:-1], f"{made.secret} ", "\udcff"):
        assert tokens.find(wrong) is None


async def test_without_scopes_it_may_look_and_ask(tokens: ApiTokens) -> None:
    assert (await tokens.create("a", [])).token.scopes == ("read", "infer")


async def test_they_outlast_a_restart_and_tell_when_they_were_used(
    tokens: ApiTokens, store: Database
) -> None:
    made = await tokens.create("laptop", [])
    assert tokens.all()[0].last_used_at is None
    tokens.find(made.secret)
    used_at = tokens.all()[0].last_used_at
    assert used_at is not None
    await tokens.close()
    after = ApiTokens(store)
    await after.open()
    assert [token.last_used_at for token in after.all()] == [used_at]
    assert after.find(made.secret) is not None


async def test_the_store_never_sees_the_secret(
    tokens: ApiTokens, store: Database, tmp_path: Path
) -> None:
    secret = (await tokens.create("laptop", [])).secret
    for file in list(tmp_path.iterdir()):  # noqa: ASYNC240 (a few small files)
        assert secret.encode() not in file.read_bytes()
        assert secret.removeprefix("mdk_").encode() not in file.read_bytes()


async def test_revoking_takes_it_away_at_once_and_tells(tokens: ApiTokens, store: Database) -> None:
    told: list[Token] = []
    tokens.on_revoked(told.append)
    first = await tokens.create("first", [])
    second = await tokens.create("second", [])
    await tokens.revoke("first")
    await tokens.revoke(second.token.id)
    assert tokens.find(first.secret) is None
    assert [token.name for token in told] == ["first", "second"]
    assert await store.keyed("tokens") == []
    with pytest.raises(NotFound, match="token list"):
        await tokens.revoke("first")


async def test_an_expired_one_is_listed_and_opens_nothing(store: Database) -> None:
    late = [False]

    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=61 if late[0] else 0)

    tokens = ApiTokens(store, clock)
    made = await tokens.create("short", [], 60)
    assert made.token.expires_at is not None
    assert tokens.find(made.secret) is not None
    late[0] = True
    assert tokens.find(made.secret) is None
    assert not tokens.usable
    assert [token.name for token in tokens.all()] == ["short"]


@pytest.mark.parametrize(
    "name", ["", " ", "-a", "a b", "a\nb", "é", "x" * 64, "../a", "a=b", "token=x who=root"]
)
async def test_a_name_is_fit_for_a_log(tokens: ApiTokens, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        await tokens.create(name, [])


@pytest.mark.parametrize("expires_s", [0.5, 1e12, float("nan")])
async def test_a_time_that_makes_no_sense_is_refused(tokens: ApiTokens, expires_s: float) -> None:
    with pytest.raises(InvalidRequest, match="years"):
        await tokens.create("a", [], expires_s)


async def test_names_are_told_apart_and_there_is_an_end(tokens: ApiTokens) -> None:
    await tokens.create("a", [])
    with pytest.raises(Conflict, match="already"):
        await tokens.create("a", [])
    for number in range(MOST - 1):
        await tokens.create(f"t{number}", [])
    with pytest.raises(Conflict, match="Revoke"):
        await tokens.create("one-more", [])


async def test_two_that_are_made_at_once_have_two_names(tokens: ApiTokens, store: Database) -> None:
    both = await asyncio.gather(
        tokens.create("a", []), tokens.create("a", []), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in both) == ["Conflict", "NewToken"]
    assert len(await store.keyed("tokens")) == 1
    gone = await asyncio.gather(tokens.revoke("a"), tokens.revoke("a"), return_exceptions=True)
    assert sorted(type(one).__name__ for one in gone) == ["NotFound", "Token"]


async def test_all_of_one_name_are_revoked(tokens: ApiTokens, store: Database) -> None:
    made = await tokens.create("a", [])
    ((_, body),) = await store.keyed("tokens")
    twin = made.token.id[::-1] + "x"
    await store.put("tokens", twin, body.replace(made.token.id.encode(), twin.encode()))
    again = ApiTokens(store)
    await again.open()
    assert len(again.all()) == 2
    await again.revoke("a")
    assert again.all() == []
    assert await store.keyed("tokens") == []


async def test_a_caller_that_goes_away_leaves_memory_and_store_the_same(
    tokens: ApiTokens, store: Database
) -> None:
    for rounds in range(4):
        call = asyncio.create_task(tokens.create(f"t{rounds}", []))
        for _ in range(rounds + 1):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        await asyncio.gather(*(t for t in asyncio.all_tasks() if t is not asyncio.current_task()))
        assert len(tokens.all()) == len(await store.keyed("tokens"))


async def test_one_that_ends_at_no_time_of_this_world_is_left_out(
    tokens: ApiTokens, store: Database
) -> None:
    await tokens.create("a", [], 60)
    ((_, body),) = await store.keyed("tokens")
    for number, end in enumerate((b"soon", b"2030-01-01T00:00:00")):
        other = re.sub(rb'"expires_at":"[^"]*"', b'"expires_at":"' + end + b'"', body)
        await store.put("tokens", str(number), other)
    again = ApiTokens(store)
    await again.open()
    assert len(again.all()) == 1
    assert again.usable
