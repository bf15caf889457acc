"""Readers of an answer's events: from any number on, at any time, and never too far behind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from modeldeck.core.errors import EngineFailed, InvalidRequest
from modeldeck.core.service.answers.event_log import BEHIND_BYTES, EventLog


def event(number: int, size: int = 0) -> bytes:
    return b"data: %d%b\n\n" % (number, b"x" * size)


def logged(count: int, size: int = 0, limit_bytes: int = 1 << 20) -> EventLog:
    log = EventLog(limit_bytes)
    for number in range(count):
        log.add(event(number, size))
    return log


async def rest(log: EventLog, after: int) -> bytes:
    return b"".join([data async for data in log.read(after)])


async def test_a_reader_gets_what_follows_its_number() -> None:
    log = EventLog()
    log.add(event(0) + event(1) + event(2))
    log.end()
    assert (log.count, log.bytes) == (3, len(event(0)) * 3)
    assert await rest(log, -1) == event(0) + event(1) + event(2)
    assert await rest(log, 1) == event(2)
    assert await rest(log, 2) == b""
    for wrong in (3, 99):
        with pytest.raises(InvalidRequest, match="no event with the number"):
            log.check(wrong)


async def test_a_reader_waits_for_what_comes() -> None:
    log = logged(1)
    async with aclosing(log.read(-1)) as events:
        assert await anext(events) == event(0)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert log.is_read
        log.add(event(1))
        assert await waiting == event(1)
    assert not log.is_read


async def test_the_oldest_events_go() -> None:
    log = logged(100, size=100, limit_bytes=2000)
    log.end()
    assert log.bytes <= 2000
    with pytest.raises(InvalidRequest, match="no longer kept"):
        log.check(0)
    assert (await rest(log, 97)) == event(98, 100) + event(99, 100)


async def test_the_maker_waits_for_a_reader_that_is_far_behind() -> None:
    log = EventLog()
    log.add(event(0))
    async with aclosing(log.read(-1)) as events:
        await anext(events)
        for number in range(1, 40):
            log.add(event(number, BEHIND_BYTES // 20))
        room = asyncio.ensure_future(log.room())
        await asyncio.sleep(0)
        assert not room.done()
        while not room.done():
            await anext(events)
            await asyncio.sleep(0)
    await log.room()


async def test_without_a_reader_nothing_waits() -> None:
    log = logged(50, size=BEHIND_BYTES // 10, limit_bytes=8 * BEHIND_BYTES)
    await log.room()


async def test_an_answer_that_broke_off_has_no_end() -> None:
    log = logged(1)
    log.end(broken=True)
    with pytest.raises(EngineFailed, match="broke off"):
        await rest(log, -1)


async def test_events_that_come_at_once_reach_a_reader_whatever_the_limit() -> None:
    log = logged(1, limit_bytes=1000)
    async with aclosing(log.read(-1)) as events:
        assert await anext(events) == event(0)
        end = b"".join(event(number, 900) for number in range(1, 6))
        log.add(end)
        log.end()
        assert b"".join([data async for data in events]) == end
    assert log.bytes <= 1000
