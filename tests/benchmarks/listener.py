"""Compares the listener with aiohttp and uvicorn (httptools): a polled list, and the feed.

    python -m tests.benchmarks.listener [--rounds 3] [--seconds 4] [--subscribers 200]

Needs wrk, and `pip install -e .[bench]`. All servers send the same 20 kB at `/models` and frames of
one size on a WebSocket: modeldeck from a whole core, through its router, checks, metrics and log;
the others from the least code they allow. The list is polled while nothing changes, and while the
state changes ten times a second; the others then encode their list again as often. Figures are the
median of interleaved rounds: requests a second, the 99th percentile of their time, and processor
time of the server for each request. Absolute figures depend on the machine; compare the ratios.
Exits with 1 where the listener answers less than `BAR` times as many requests as the better one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import psutil

from tests.benchmarks.processes import settle

NAMES = ("modeldeck", "aiohttp", "uvicorn")
LIST_BYTES = 20_000
FRAME_BYTES = 900
CHANGES_PER_S = 10
CONNECTIONS = (16, 64)
BAR = 1.2
"""Requests a second of modeldeck, in times those of the better of the others, at least."""

# Servers


def _download(seq: int) -> Any:
    """The record of a running download, different for each `seq`."""
    from modeldeck.core.schema import Download

    return Download(
        id="5f1d6a3e-8c4b-4d2e-9a77-000000000001",
        model_id="6c1e7c5a-1f4e-5d7f-8c11-000000000002",
        unique="Qwen/Qwen3-0.6B-GGUF:Q8_0",
        repo="Qwen/Qwen3-0.6B-GGUF",
        revision="main",
        state="downloading",
        received_bytes=seq * 4096,
        total_bytes=1 << 40,
        rate_bytes_per_s=40960.0,
        eta_s=1234.5,
    )


async def serve_modeldeck(changing: bool) -> None:
    """A whole core as `core.server` runs it, with its list cut to `LIST_BYTES`, and a download."""
    from modeldeck.core.api.listener import Listener
    from modeldeck.core.config.config import Api, Config
    from modeldeck.core.config.paths import locate
    from modeldeck.core.schema.state import DownloadChanged, ModelRemoved
    from modeldeck.core.server import freeze_loaded_modules
    from modeldeck.core.service.deck import Deck

    settings = Config(api=Api(port=0, socket=False))
    async with Deck(locate(), settings) as deck:
        listener = Listener(deck, settings.api, deck.paths)
        addresses = await listener.start()
        while not deck.state.runtimes:  # noqa: ASYNC110 (from then on the list does not change by itself)
            await asyncio.sleep(0.05)
        async with _fetched(addresses.port) as body:
            each = len(body) / max(1, len(deck.state.models))
        for model in list(deck.state.models)[int(LIST_BYTES / each) :]:
            deck.feed.commit(ModelRemoved, id=model)
        freeze_loaded_modules()
        print(addresses.port, flush=True)
        seq = 0
        try:
            while True:
                await asyncio.sleep(1 / CHANGES_PER_S)
                seq += 1
                if changing:
                    deck.feed.commit(DownloadChanged, download=_download(seq))
        finally:
            await listener.stop()


@asynccontextmanager
async def _fetched(port: int) -> AsyncIterator[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    yield (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()


class Content:
    """Content of the other servers: a list encoded again after a change, and WebSocket frames."""

    def __init__(self, changing: bool) -> None:
        self._list = {"iterable": [{"id": f"{n:036}", "name": "x" * 200} for n in range(77)]}
        self._changing = changing
        self._body = b""
        self._queues: set[asyncio.Queue[str]] = set()

    def body(self) -> bytes:
        """The encoded list."""
        if not self._body:
            self._body = msgspec.json.encode(self._list)
        return self._body

    @contextmanager
    def subscribed(self) -> Iterator[asyncio.Queue[str]]:
        """A queue that gets every frame."""
        queue: asyncio.Queue[str] = asyncio.Queue(100)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    async def change(self) -> None:
        """Change the list and queue one frame for all subscribers, encoded once."""
        seq = 0
        while True:
            await asyncio.sleep(1 / CHANGES_PER_S)
            if self._changing:
                seq += 1
                self._body = b""
                text = msgspec.json.encode({"seq": seq, "download": _download(seq)}).decode()
                for queue in self._queues:
                    with contextlib.suppress(asyncio.QueueFull):
                        queue.put_nowait(text)


async def serve_aiohttp(changing: bool) -> None:
    """aiohttp.web, without its access log."""
    from aiohttp import web

    content = Content(changing)

    async def models(request: web.Request) -> web.Response:
        return web.Response(body=content.body(), content_type="application/json")

    async def feed(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with content.subscribed() as queue:
            while True:
                await socket.send_str(await queue.get())

    app = web.Application()
    app.add_routes([web.get("/models", models), web.get("/deck/feed", feed)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await content.change()


async def serve_uvicorn(changing: bool) -> None:
    """uvicorn with httptools and a bare ASGI application."""
    import uvicorn

    content = Content(changing)
    kind = [(b"content-type", b"application/json")]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            with content.subscribed() as queue:
                while True:
                    await send({"type": "websocket.send", "text": await queue.get()})
        body = content.body()
        length = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": kind + length})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(
        app, port=0, http="httptools", loop="asyncio", lifespan="off", access_log=False,
        log_level="critical", ws="websockets-sansio",
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (it has no event for that)
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await asyncio.gather(serving, content.change())


# Measurements


@contextmanager
def server(name: str, *, changing: bool) -> Iterator[tuple[psutil.Process, int]]:
    """One server in its own process; gives the process and its port."""
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        environ = {
            **os.environ,
            "MODELDECK_HOME": folder,
            "HF_HOME": f"{folder}/hf",
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "MODELDECK_RUNTIME_CALIBRATE": "false",  # done once on each machine, before that
        }
        words = ["--serve", name, *(["--changing"] if changing else [])]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.listener", *words],
            stdout=subprocess.PIPE, env=environ, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            settle(psutil.Process(process.pid))
            yield psutil.Process(process.pid), port
        finally:
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Results of one run."""

    per_s: float
    p99_ms: float
    cpu_us: float
    """Processor time of the server for each request: depends little on other load."""


def wrk(process: psutil.Process, port: int, connections: int, seconds: int) -> Figure:
    """Request the list as fast as the server answers."""
    before = process.cpu_times()
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    url = f"http://127.0.0.1:{port}/models"
    output = subprocess.run([*words, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"wrk met errors:\n{output}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    assert rate is not None
    assert late is not None
    count = re.search(r"(\d+) requests in", output)
    assert count is not None
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}[late[2]]
    return Figure(
        per_s=float(rate[1]), p99_ms=float(late[1]) * unit, cpu_us=used / int(count[1]) * 1e6
    )


class Subscriber(asyncio.Protocol):
    """Opens a WebSocket and counts the bytes it receives."""

    HANDSHAKE = (
        b"GET /deck/feed HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    def __init__(self) -> None:
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the opening handshake."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        """Count."""
        self.received += len(data)


async def fan_out(process: psutil.Process, port: int, subscribers: int, seconds: float) -> float:
    """Processor time of the server for one subscriber, in microseconds a second."""
    loop = asyncio.get_running_loop()
    peers = [
        (await loop.create_connection(Subscriber, "127.0.0.1", port))[1] for _ in range(subscribers)
    ]
    await asyncio.sleep(1)
    before, seen = process.cpu_times(), [peer.received for peer in peers]
    await asyncio.sleep(seconds)
    after = process.cpu_times()
    if any(peer.received <= was for peer, was in zip(peers, seen, strict=True)):
        raise SystemExit("a subscriber got nothing")
    used = after.user + after.system - before.user - before.system
    return used / seconds / subscribers * 1e6


def _row(label: str, cells: Sequence[str]) -> None:
    print(f"{label:<28}" + "".join(f"{cell:>26}" for cell in cells), flush=True)


def polled(rounds: int, seconds: int, connections: int, *, changing: bool) -> bool:
    """Print a row: requests a second, p99 and processor time. Returns whether `BAR` is reached."""
    found: dict[str, list[Figure]] = {name: [] for name in NAMES}
    for _ in range(rounds):
        for name in NAMES:
            with server(name, changing=changing) as (process, port):
                wrk(process, port, connections, 1)
                found[name].append(wrk(process, port, connections, seconds))
    rates = {n: statistics.median(f.per_s for f in figures) for n, figures in found.items()}
    late = {n: statistics.median(f.p99_ms for f in figures) for n, figures in found.items()}
    costs = {n: statistics.median(f.cpu_us for f in figures) for n, figures in found.items()}
    best = max(rates[name] for name in NAMES[1:])
    when = "changing" if changing else "still"
    cells = [f"{rates[n]:,.0f}/s {late[n]:.1f} ms {costs[n]:.0f} us" for n in NAMES]
    ratio = rates[NAMES[0]] / best
    _row(f"{connections} connections, {when}", [*cells, f"{ratio:.2f} times"])
    return ratio >= BAR


def followed(rounds: int, seconds: float, subscribers: int) -> None:
    """Print a row: processor time for each subscriber of the feed."""
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(rounds):
        for name in NAMES:
            with server(name, changing=True) as (process, port):
                found[name].append(asyncio.run(fan_out(process, port, subscribers, seconds)))
    costs = {name: statistics.median(figures) for name, figures in found.items()}
    best = min(costs[name] for name in NAMES[1:])
    cells = [f"{costs[name]:,.0f} us/s" for name in NAMES]
    _row(f"feed, {subscribers} subscribers", [*cells, f"{costs[NAMES[0]] / best:.2f} times"])


def main() -> None:
    """Measure, or with `--serve` run one server for a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--serve", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--changing", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(globals()[f"serve_{given.serve}"](given.changing))
        return
    _row("", [*NAMES, "to the better"])
    reached = [
        polled(given.rounds, given.seconds, connections, changing=changing)
        for changing in (False, True)
        for connections in CONNECTIONS
    ]
    followed(given.rounds, given.seconds, given.subscribers)
    if not all(reached):
        raise SystemExit(f"The listener is below {BAR} times the better of the others.")


if __name__ == "__main__":
    main()
