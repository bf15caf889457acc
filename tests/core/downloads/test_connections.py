"""Connections of a file: how many, and what they do when servers misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest

from modeldeck.core.network.transport import ConnectionPool
from modeldeck.core.schema import Download
from tests.support.stream_server import serving

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

PADDED = "deck/padded-GGUF"
NAME = "padded-F16.gguf"
MLX = "deck/tiny-mlx"
MIB = 1 << 20


def has_more(least: int, job: Download) -> bool:
    return job.received_bytes > least


async def most_at_once(rig: Rig, job: Download) -> int:
    """How many answers were under way at one time until the job completed."""
    most = 0
    ended = asyncio.create_task(rig.ended(job.id))
    while not ended.done():
        most = max(most, sum(not e.finished for e in rig.hub.log if e.file))
        await asyncio.wait([ended], timeout=0.01)
    done = ended.result()
    assert (done.state, done.error) == ("completed", None)
    return most


async def whole(rig: Rig, job: Download) -> None:
    """Assert that the padded model is completed, and right."""
    done = await rig.ended(job.id)
    assert (done.state, done.error) == ("completed", None)
    file = rig.files(PADDED)[0]
    content = await asyncio.to_thread(rig.cache.blob(PADDED, file.blob).read_bytes)
    assert hashlib.sha256(content).hexdigest() == file.blob


async def test_connections_that_are_held_back_become_many(rig: Rig) -> None:
    rig.hub.rate_bytes_per_s = 2_000_000
    job = await rig.start(PADDED)
    assert await most_at_once(rig, job) >= 4
    await whole(rig, job)


async def test_no_more_than_are_allowed(rig: Rig) -> None:
    await rig.reopen(connections=2)
    rig.hub.rate_bytes_per_s = 12_000_000
    job = await rig.start(PADDED)
    # One that was ended early counts until the hub notices.
    assert await most_at_once(rig, job) <= 3


async def test_one_signed_url_serves_all_parts(rig: Rig) -> None:
    await whole(rig, await rig.start(PADDED))
    hops = [e.origin for e in rig.hub.log if e.file.endswith(NAME)]
    assert hops.count("hub") == 1
    assert hops.count("storage") > 1


async def test_small_files_come_side_by_side(rig: Rig) -> None:
    rig.hub.faults.stall(0, times=100)
    _, files = rig.repo(MLX)
    assert len(files) > 3
    job = await rig.start(MLX, files)
    async with asyncio.timeout(60):
        while sum(not e.finished for e in rig.hub.log if e.file) < 3:  # noqa: ASYNC110 - in a thread
            await asyncio.sleep(0.01)
    rig.hub.faults.clear()
    done = await rig.ended(job.id)
    assert (done.state, done.error) == ("completed", None)
    await rig.hub_agrees(MLX)


@pytest.mark.parametrize("at", [MIB, 20 * MIB])
async def test_a_connection_that_brings_a_byte_now_and_then_is_given_up(rig: Rig, at: int) -> None:
    await rig.reopen(stall_s=0.5)
    rig.hub.faults.trickle(MIB, path=NAME)
    if at > MIB:
        rig.hub.rate_bytes_per_s = 8_000_000
    job = await rig.start(PADDED)
    await whole(rig, job)
    slow = [e for e in rig.hub.log if e.fault == "trickle"]
    assert slow
    assert not slow[0].finished


async def test_every_connection_of_a_file_may_break(rig: Rig) -> None:
    rig.hub.rate_bytes_per_s = 16_000_000
    rig.hub.faults.reset(MIB, times=6, path=NAME)
    await whole(rig, await rig.start(PADDED))
    assert rig.sent(NAME) < rig.files(PADDED)[0].size_bytes * 3 // 2


@pytest.mark.parametrize("status", [429, 503])
async def test_a_storm_of_refusals_ends_no_job(rig: Rig, status: int) -> None:
    rig.hub.rate_bytes_per_s = 16_000_000
    rig.hub.faults.status(status, times=12, retry_after_s=0, path=NAME)
    await whole(rig, await rig.start(PADDED))


async def test_a_server_that_says_when_is_not_asked_before(rig: Rig) -> None:
    rig.hub.faults.status(503, retry_after_s=1, path=NAME)
    began = time.monotonic()
    await whole(rig, await rig.start(PADDED))
    assert time.monotonic() - began >= 1


async def test_links_that_expire_all_the_time_are_asked_for_anew(rig: Rig) -> None:
    rig.hub.rate_bytes_per_s = 4_000_000
    job = await rig.start(PADDED)
    for part in (1, 2, 3):
        await rig.until(job.id, partial(has_more, part * 6 * MIB))
        rig.hub.expire_links()
    await whole(rig, job)
    assert not rig.hub.leaks


# The transport by itself

ANSWERS: list[tuple[bytes, bytes | None]] = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    (b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"hello",
    ),
    (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello", None),
    (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", None),
    (b"220 mail.example ESMTP\r\n", None),
    (b"", None),
]


async def answering(answer: bytes, ask: Callable[[str], Awaitable[None]]) -> None:
    """Run a client against a server that always says the same, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with serving(serve) as port:
        await ask(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(("answer", "content"), ANSWERS)
async def test_what_servers_say_is_read_or_refused(answer: bytes, content: bytes | None) -> None:
    async def ask(url: str) -> None:
        async with httpx.AsyncClient(
            transport=ConnectionPool(ssl.create_default_context)
        ) as client:
            if content is not None:
                assert (await client.get(url)).content == content
            else:
                with pytest.raises(httpx.TransportError):
                    await client.get(url)

    await answering(answer, ask)


async def test_a_connection_is_used_again_and_one_that_died_is_replaced(rig: Rig) -> None:
    pool = ConnectionPool(ssl.create_default_context)
    async with httpx.AsyncClient(transport=pool) as client:
        for _ in range(3):
            answer = await client.get(f"{rig.hub.url}/api/models")
            assert answer.status_code == 200
        assert len(pool._idle) == 1
        rig.hub.online = False
        rig.hub.online = True
        assert (await client.get(f"{rig.hub.url}/api/models")).status_code == 200
