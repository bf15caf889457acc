"""Downloads from the core of another machine, which serves content by its hash.

The Unix socket leads to that machine while a front end forwards it (`ssh -R`). The other core is
not trusted: content is verified as if it came from the Hub.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx

from modeldeck.core.concurrency import in_thread
from modeldeck.core.downloads.http.responses import FileLocation, RetryableFailure, begins_at
from modeldeck.core.downloads.http.source import CONNECT_S, DownloadSource, Redirect, ResponseBody
from modeldeck.core.downloads.ranges import ByteRange
from modeldeck.core.errors import DeckError, NotFound, ServerUnavailable

GO_ON = "`modeldeck copy` goes on with it; `modeldeck pull` fetches the rest from the Hub."


class PeerSource(DownloadSource):
    """Files of the core at the other end of a Unix socket."""

    def __init__(self, socket: str, stall_s: float) -> None:
        super().__init__("http://peer", lambda: None, stall_s)
        self._socket = socket
        self._timeout = httpx.Timeout(CONNECT_S, read=stall_s)

    @asynccontextmanager
    async def open(
        self,
        location: FileLocation,
        span: ByteRange,
        validator: str = "",
        route: Redirect | None = None,
    ) -> AsyncIterator[ResponseBody]:
        """Request the bytes of `span` of the content with the file's hash.

        Raises RetryableFailure for temporary failures, NotFound where the other machine does not
        have the content.
        """
        url = f"http://peer/deck/blobs/{quote(location.repo, safe='')}/{location.file.blob}"
        headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span[1] > span[0] else {}
        transport = httpx.AsyncHTTPTransport(uds=self._socket)
        try:
            async with (
                httpx.AsyncClient(transport=transport, timeout=self._timeout) as client,
                client.stream("GET", url, headers=headers) as response,
            ):
                if response.status_code not in (200, 206):
                    raise refused(response.status_code, location)
                start = begins_at(response.status_code, response.headers, location, span)
                yield ResponseBody(response, start, confirmed=True, location=location)
        except httpx.TransportError as error:
            raise RetryableFailure(
                ServerUnavailable(
                    f"The machine that {location} is copied from cannot be reached"
                    f" ({str(error) or type(error).__name__}).",
                    GO_ON,
                )
            ) from error


async def existing_peer(peer: str | None) -> str | None:
    """The peer's socket if it exists; else None, for the Hub, which has the same contents."""
    if not peer:
        return None
    is_there: bool = await in_thread(Path(peer).is_socket)
    return peer if is_there else None


def refused(status: int, location: FileLocation) -> DeckError | RetryableFailure:
    """The error for a response without content."""
    if status == 404:
        return NotFound(f"{location} is not on the other machine any more.", GO_ON)
    return RetryableFailure(
        ServerUnavailable(f"The other machine answered {status} to {location}.", GO_ON)
    )
