"""A Hub on loopback: honest HTTP that `hf`, huggingface_hub and modeldeck itself download from.

    async with DemoHub(build(folder)) as hub:
        ...                      # HF_ENDPOINT=hub.url

    with DemoHub.in_thread(build(folder)) as hub:
        hub.rate_bytes_per_s = 1_000_000
        hub.faults.reset(after_bytes=500_000)

It listens on two ports: one is the Hub, the other the storage that large files are redirected to,
because a token that reaches another origin has leaked. What it serves, how fast, and what goes
wrong can be changed while it runs, from any thread.
"""

from __future__ import annotations

import asyncio
import gzip
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, Self

from modeldeck.core.demo.answers import FileBody, HubContext, HubResponse, answer, storage_answer
from modeldeck.core.demo.faults import Fault, Faults
from modeldeck.core.demo.file_sender import FileSender, LoggedExchange, write
from modeldeck.core.demo.repository import DemoRepo
from modeldeck.core.demo.server import HOST, HubConnection, HubRequest, Server

TOKEN = "hf_demo_visitor"  # noqa: S105 - opens the demo's own gated repository, and nothing else
"""The token that may read the gated repository."""

STRANGER = "hf_demo_stranger"
"""A valid token that may not."""

LOG_LIMIT = 10_000
"""Requests the log keeps."""


class DemoHub:
    """A Hub that serves some repositories. Enter it to start it."""

    def __init__(
        self,
        repositories: Sequence[DemoRepo] = (),
        *,
        rate_bytes_per_s: int | None = None,
        port: int = 0,
    ) -> None:
        self._repos: dict[str, tuple[DemoRepo, ...]] = {}
        self._former: dict[str, str] = {}
        self._lock = threading.Lock()
        self._log: deque[LoggedExchange] = deque(maxlen=LOG_LIMIT)
        self._secret = secrets.token_bytes(32)
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hub = Server(self._handle_hub)
        self._storage = Server(self._handle_storage)
        self.url = ""
        """Where it answers: what `HF_ENDPOINT` is set to."""
        self.storage_url = ""
        """The origin of signed URLs."""
        self.faults = Faults(self._notify)
        """The faults to inject."""
        self._files = FileSender(self.faults, rate_bytes_per_s)
        self.link_lifetime_s = 3600.0
        """Seconds that a signed URL is valid."""
        self.latency_s = 0.0
        """Seconds that every answer is delayed."""
        self.ranges = True
        """Whether parts of files are served."""
        self.compressed = ""
        """Suffixes of files that are sent gzipped, though the client accepts only `identity`."""
        for repo in repositories:
            self.publish(repo)

    async def __aenter__(self) -> Self:
        """Start listening. Raises OSError when the port is taken."""
        self._loop = asyncio.get_running_loop()
        self.storage_url = f"http://{HOST}:{await self._storage.start()}"
        try:
            self.url = f"http://{HOST}:{await self._hub.start(self._port)}"
        except OSError:
            await self._storage.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop = None
        await self._hub.stop()
        await self._storage.stop()

    @classmethod
    @contextmanager
    def in_thread(
        cls,
        repositories: Sequence[DemoRepo] = (),
        *,
        rate_bytes_per_s: int | None = None,
        port: int = 0,
    ) -> Iterator[Self]:
        """A running hub with a thread and an event loop of its own."""
        hub = cls(repositories, rate_bytes_per_s=rate_bytes_per_s, port=port)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="demo-hub", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(hub.__aenter__(), loop).result()
            try:
                yield hub
            finally:
                asyncio.run_coroutine_threadsafe(hub.__aexit__(), loop).result()
        finally:
            asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    # What can be changed while it runs

    @property
    def rate_bytes_per_s(self) -> int | None:
        """Bytes per second of each connection; None for no limit."""
        return self._files.rate

    @rate_bytes_per_s.setter
    def rate_bytes_per_s(self, rate: int | None) -> None:
        self._files.rate = rate
        self._notify()

    @property
    def online(self) -> bool:
        """Whether requests are answered; setting it to False resets every connection."""
        return self._hub.online

    @online.setter
    def online(self, online: bool) -> None:
        servers = (self._hub, self._storage)
        for server in servers:
            server.online = online
        if self._loop is not None and not online:
            for server in servers:
                self._loop.call_soon_threadsafe(server.drop_all)

    @property
    def repositories(self) -> tuple[DemoRepo, ...]:
        """What is served: the newest commit of every repository."""
        with self._lock:
            return tuple(commits[-1] for commits in self._repos.values())

    def publish(self, repo: DemoRepo) -> None:
        """Serve a repository, or a new commit of one: `main` is the newest."""
        with self._lock:
            earlier = self._repos.get(repo.repo, ())
            kept = tuple(commit for commit in earlier if commit.revision != repo.revision)
            self._repos[repo.repo] = (*kept, repo)

    def withdraw(self, repo: str) -> None:
        """Stop serving a repository. Raises KeyError when it was not served."""
        with self._lock:
            del self._repos[repo]

    def rename(self, old: str, new: str) -> None:
        """Redirect a name that is not served to a repository that is, as after a renaming."""
        with self._lock:
            self._former[old] = new

    def expire_links(self) -> None:
        """Make every signed URL that was given out invalid from now on."""
        self._secret = secrets.token_bytes(32)

    # The log

    @property
    def log(self) -> tuple[LoggedExchange, ...]:
        """Every request so far, the oldest first, as it stands now."""
        with self._lock:
            return tuple(replace(exchange) for exchange in self._log)

    @property
    def leaks(self) -> tuple[LoggedExchange, ...]:
        """Requests that carried a token to the storage, where none belongs."""
        return tuple(e for e in self.log if e.origin == "storage" and e.authorization)

    def clear_log(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self._log.clear()

    # Serving

    def _notify(self) -> None:
        """Wake every transfer that waits, from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._files.wake)

    def _world(self) -> HubContext:
        with self._lock:
            repos, former = dict(self._repos), dict(self._former)
        return HubContext(
            url=self.url,
            storage_url=self.storage_url,
            repos=repos,
            former=former,
            now=time.time(),
            link_lifetime_s=self.link_lifetime_s,
            secret=self._secret,
            ranges=self.ranges,
            token=TOKEN,
            stranger=STRANGER,
        )

    async def _handle_hub(self, request: HubRequest, connection: HubConnection) -> None:
        await self._respond("hub", answer(self._world(), request), request, connection)

    async def _handle_storage(self, request: HubRequest, connection: HubConnection) -> None:
        await self._respond("storage", storage_answer(self._world(), request), request, connection)

    async def _respond(
        self,
        origin: Literal["hub", "storage"],
        found: HubResponse,
        request: HubRequest,
        connection: HubConnection,
    ) -> None:
        fault = self.faults.take(f"{request.path} {found.file}")
        if fault is not None:
            found = _failure(fault, found.file)
        elif self.compressed and found.file.endswith(self.compressed):
            found = await asyncio.to_thread(_gzipped, found)
        body, headers = found.body, found.headers
        size = len(body) if isinstance(body, bytes) else body.stop - body.start
        silent = request.method == "HEAD" or found.status == 304
        exchange = LoggedExchange(
            origin=origin,
            method=request.method,
            path=request.path,
            range=request.headers.get("range"),
            authorization="authorization" in request.headers,
            status=found.status,
            file=found.file,
            size_bytes=0 if silent else size,
            fault=fault.kind if fault else None,
        )
        with self._lock:
            self._log.append(exchange)
        await asyncio.sleep(self.latency_s)
        await connection.head(found.status, [*headers, ("Content-Length", str(size))])
        if silent:
            return
        if isinstance(body, FileBody):
            await self._files.send(body, exchange, connection)
        else:
            await write(body, exchange, connection)


def _gzipped(found: HubResponse) -> HubResponse:
    """The answer as a proxy that compresses every body sends it on; partial ones as well."""
    if not isinstance(found.body, FileBody):
        return found
    body = found.body.file.read(found.body.start, found.body.stop - found.body.start)
    headers = [*found.headers, ("Content-Encoding", "gzip")]
    return replace(found, body=gzip.compress(body), headers=headers)


def _failure(fault: Fault, file: str) -> HubResponse:
    if fault.kind == "answer":
        return HubResponse(
            status=fault.status, headers=list(fault.headers), body=fault.body, file=file
        )
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    if fault.retry_after_s is not None:
        headers.append(("Retry-After", str(fault.retry_after_s)))
    return HubResponse(status=fault.status, headers=headers, body=b"Made to fail.", file=file)
