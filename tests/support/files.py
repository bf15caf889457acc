"""A plain file server on loopback: what stands behind a URL that is not the Hub's.

    with FileServer.in_thread({"m.gguf": path}) as files:
        files.url("m.gguf")

It says as much of its files as it is told to: an ETag, a date, a digest, ranges, or nothing at all.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from modeldeck.core.demo.server import HOST, HubConnection, HubRequest, Server

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_STEP_BYTES = 64 << 10


class FileServer:
    """Serves files by their names. What it says of them may be changed while it runs."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(files)
        self.etag = '"v1"'
        """Empty for none."""
        self.modified = ""
        """`Last-Modified`; empty for none."""
        self.digest = ""
        """Name of the header that the SHA-256 goes into: `Repr-Digest`, `Digest`, or empty."""
        self.ranges = True
        self.length = True
        """Whether it says how long an answer is."""
        self.redirects: dict[str, str] = {}
        """Where some names lead instead."""
        self.status = 200
        """Another one refuses everything."""
        self.pause_at: int | None = None
        """Offset at which every body stops until this is None."""
        self.asked: list[tuple[str, str, str]] = []
        """Of every request: name, `Range` and `If-Range`."""
        self.tokens: list[str] = []
        """Every `Authorization` that came."""
        self._server = Server(self._handle)
        self._origin = ""

    def url(self, name: str) -> str:
        """Where a file is."""
        return f"{self._origin}/{name}"

    @classmethod
    @contextmanager
    def in_thread(cls, files: Mapping[str, Path]) -> Iterator[Self]:
        """A running server with a thread and an event loop of its own."""
        served = cls(files)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="demo-files", daemon=True)
        thread.start()
        try:
            port = asyncio.run_coroutine_threadsafe(served._server.start(), loop).result()
            served._origin = f"http://{HOST}:{port}"
            try:
                yield served
            finally:
                asyncio.run_coroutine_threadsafe(served._server.stop(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _handle(self, request: HubRequest, connection: HubConnection) -> None:
        name = "/".join(request.segments)
        asked = request.headers.get("range", "")
        self.asked.append((name, asked, request.headers.get("if-range", "")))
        if token := request.headers.get("authorization"):
            self.tokens.append(token)
        if (target := self.redirects.get(name)) is not None:
            await connection.head(302, [("Location", target), ("Content-Length", "0")])
        elif self.status != 200 or name not in self.files:
            status = self.status if self.status != 200 else 404
            await connection.head(status, [("Content-Length", "0")])
        else:
            await self._send(self.files[name], asked, request, connection)

    async def _send(
        self, path: Path, asked: str, request: HubRequest, connection: HubConnection
    ) -> None:
        data = await asyncio.to_thread(path.read_bytes)
        match = _RANGE.fullmatch(asked)
        same = request.headers.get("if-range", "") in ("", self.etag, self.modified)
        headers = self._about(data)
        start, end, status = 0, len(data), 200
        if match and same and self.ranges:
            start, end, status = int(match[1]), min(int(match[2]) + 1, len(data)), 206
            headers.append(("Content-Range", f"bytes {start}-{end - 1}/{len(data)}"))
        if self.length:
            headers.append(("Content-Length", str(end - start)))
        else:
            headers.append(("Connection", "close"))
        await connection.head(status, headers)
        for at in range(start, end, _STEP_BYTES):
            while self.pause_at is not None and at >= self.pause_at:  # noqa: ASYNC110 - set from any thread
                await asyncio.sleep(0.01)
            await connection.write(data[at : min(at + _STEP_BYTES, end)])
        if not self.length:
            connection.close()

    def _about(self, data: bytes) -> list[tuple[str, str]]:
        headers = []
        if self.etag:
            headers.append(("ETag", self.etag))
        if self.modified:
            headers.append(("Last-Modified", self.modified))
        if self.digest:
            digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
            if self.digest.lower() == "repr-digest":
                digest = f":{digest}:"
            headers.append((self.digest, f"sha-256={digest}"))
        return headers
