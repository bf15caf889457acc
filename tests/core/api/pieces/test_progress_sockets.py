"""Sockets that are told the progress of a download."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.api.http.websocket_frames import TextFrame
from modeldeck.core.api.pieces import progress
from modeldeck.core.api.pieces.progress import ProgressSockets
from modeldeck.core.schema import Memory
from modeldeck.core.schema.state import (
    DownloadChanged,
    MemoryChanged,
    ModelRemoved,
)
from modeldeck.core.service.feed import LIMIT, Feed
from tests.core.api.pieces.test_progress import CANCELED, INITIALIZED, JOB, at, ended, state_of


class FakeSocket:
    """A peer in memory: implements `modeldeck.core.api.http.messages.WebSocket`."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.accepted = False
        self.closed: int | None = None
        self.reads = asyncio.Event()
        self.reads.set()

    async def accept(self, *, receives: bool = False) -> None:
        self.accepted = True

    async def send(self, text: TextFrame | bytes | str) -> None:
        self.frames.append(json.loads(text.text if isinstance(text, TextFrame) else text))
        await self.reads.wait()

    def post(self, message: TextFrame) -> bool:
        return False

    async def receive(self) -> str | bytes:
        raise AssertionError("nothing is said here")

    def ping(self, answered: Callable[[], None]) -> None:
        answered()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = code


@pytest.fixture(autouse=True)
def _time_to_hand_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is soon over on a machine under load."""
    monkeypatch.setattr(progress, "HANDOVER_S", 60.0)


async def settle(feed: Feed, followers: ProgressSockets) -> None:
    await followers.wait_sent("m", feed.state.seq)


async def test_what_happened_is_sent_before_an_operation_is_answered() -> None:
    feed, followers, socket = Feed(state_of(seq=0)), ProgressSockets(), FakeSocket()
    with followers.join("m", socket) as follower:
        task = asyncio.ensure_future(follower.run(feed))
        feed.commit(MemoryChanged, memory=Memory())
        await settle(feed, followers)
        assert socket.accepted
        feed.commit(DownloadChanged, download=JOB)
        await settle(feed, followers)
        assert socket.frames == [INITIALIZED, at(0.0)]
        feed.commit(ModelRemoved, id="m")
        await task
    assert socket.frames[2:] == [CANCELED]
    assert socket.closed == 1000
    assert not feed.subscribers


async def test_what_happens_while_a_socket_is_accepted_is_not_missed() -> None:
    feed, followers, socket = Feed(state_of(seq=0)), ProgressSockets(), FakeSocket()

    class Slow(FakeSocket):
        async def accept(self, *, receives: bool = False) -> None:
            feed.commit(DownloadChanged, download=JOB)

    socket = Slow()
    with followers.join("m", socket) as follower:
        task = asyncio.ensure_future(follower.run(feed))
        await asyncio.sleep(0)  # so that the task is at `accept`
        await settle(feed, followers)
        assert socket.frames == [INITIALIZED, at(0.0)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_peer_that_does_not_read_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    feed, followers, socket = Feed(state_of(seq=0)), ProgressSockets(), FakeSocket()
    with followers.join("m", socket) as follower:
        task = asyncio.ensure_future(follower.run(feed))
        await asyncio.sleep(0)  # so that the task has begun
        socket.reads.clear()
        feed.commit(DownloadChanged, download=JOB)
        with monkeypatch.context() as patch:
            patch.setattr(progress, "HANDOVER_S", 0.05)
            await settle(feed, followers)
        for n in range(LIMIT + 10):
            feed.commit(DownloadChanged, download=replace(JOB, received_bytes=n))
        feed.commit(DownloadChanged, download=ended("canceled", received_bytes=9))
        socket.reads.set()
        await settle(feed, followers)
        assert socket.frames == [INITIALIZED, at(0.0), CANCELED]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_who_waits_for_a_socket_that_leaves_is_let_go() -> None:
    feed, followers, socket = Feed(state_of(seq=0)), ProgressSockets(), FakeSocket()
    with followers.join("m", socket) as follower:
        feed.commit(MemoryChanged, memory=Memory())
        waiting = asyncio.ensure_future(follower.reached(feed.state.seq))
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting
