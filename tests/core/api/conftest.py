"""A listener with routes of a test's own, and a client that sends exactly the bytes it is given."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.router import Route
from modeldeck.core.api.listener import Addresses, Listener
from modeldeck.core.config.config import Api
from modeldeck.core.config.paths import Paths, locate
from tests.core.api.responses.scripted import ScriptedDeck

PATIENCE_S = 60
"""Before a test gives a thing up; nothing waits that long when it works."""


@dataclass
class Answer:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class RawClient:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(PATIENCE_S):
            block = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = block.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in headers.items()}

    async def answer(self, *, head_only: bool = False) -> Answer:
        status, headers = await self.head()
        body = b""
        async with asyncio.timeout(PATIENCE_S):
            if head_only or status in (100, 101, 204, 304):
                pass
            elif "chunked" in headers.get("transfer-encoding", ""):
                body = await self._chunks()
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self.reader.read()
        return Answer(status, headers, body)

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    async def ended(self) -> bytes:
        """What still comes before the server ends the connection."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.reader.read()
        except ConnectionResetError:
            return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


@dataclass
class Served:
    """A listener that runs."""

    listener: Listener
    addresses: Addresses
    clients: list[RawClient] = field(default_factory=list)

    async def connect(self, first: bytes = b"", *, unix: bool = False) -> RawClient:
        """A new connection; `first` lies there before the server accepts it.

        So no time limit of the server runs out before a client that is slow itself has sent it.
        """
        with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as plug:
            plug.settimeout(PATIENCE_S)
            address = self.addresses.socket if unix else ("127.0.0.1", self.addresses.port)
            assert address
            plug.connect(address)
            plug.setblocking(False)
            sent = plug.send(first) if first else 0
            reader, writer = await asyncio.open_connection(sock=plug.dup())
        client = RawClient(reader, writer)
        self.clients.append(client)
        await client.send(first[sent:])
        return client

    async def ask(self, data: bytes, *, unix: bool = False) -> Answer:
        client = await self.connect(data, unix=unix)
        return await client.answer(head_only=data.startswith(b"HEAD"))


Serve = Callable[..., Any]
Start = Callable[..., Awaitable[tuple[ScriptedDeck, httpx.AsyncClient]]]


@pytest.fixture
def paths() -> Iterator[Paths]:
    """Folders of a test's own, at a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        yield locate({"MODELDECK_HOME": folder, "HF_HOME": str(Path(folder) / "hf")})


@pytest.fixture
async def serve(paths: Paths) -> AsyncIterator[Serve]:
    """Starts a listener: `await serve(routes, deck=..., limits=..., **settings)`."""
    running: list[Served] = []

    async def start(
        routes: tuple[Route, ...] | None = None,
        *,
        deck: Any = None,
        limits: ConnectionLimits | None = None,
        **settings: Any,
    ) -> Served:
        service: Any = SimpleNamespace() if deck is None else deck
        api = Api(**{"port": 0, "socket": False, **settings})
        listener = Listener(service, api, paths, routes=routes, limits=limits)
        served = Served(listener, await listener.start())
        running.append(served)
        return served

    yield start
    for served in running:
        for client in served.clients:
            await client.close()
        await served.listener.stop()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Waits until a condition holds."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # conditions of all kinds have no event
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
async def start(serve: Serve) -> AsyncIterator[Start]:
    """Starts a listener on a service that answers as it is told, and a client of it."""
    open_: list[tuple[ScriptedDeck, httpx.AsyncClient]] = []

    async def begin(
        *answers: Any, answerer: Any = None, **settings: Any
    ) -> tuple[ScriptedDeck, httpx.AsyncClient]:
        deck = ScriptedDeck(*answers, answerer=answerer)
        served = await serve(deck=deck, **settings)
        client = httpx.AsyncClient(base_url=f"{served.addresses.url}/v1", timeout=PATIENCE_S)
        open_.append((deck, client))
        return deck, client

    yield begin
    for deck, client in open_:
        await client.aclose()
        await deck.close()
