"""Content that another machine has already: its core serves it by what it is, over a Unix socket.

The socket leads to that machine for as long as a front end carries it there (`ssh -R`). What comes
is verified as if it came from the Hub; what serves it is not trusted to be right.
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
    """The files of a core at the other end of a socket."""

    def __init__(self, socket: str, stall_s: float) -> None:
        super().__init__("http://peer", lambda: None, stall_s)
        self._socket = socket
        self._timeout = httpx.Timeout(CONNECT_S, read=stall_s)

    @asynccontextmanager
    async def open(
        self,
        place: FileLocation,
        span: ByteRange,
        validator: str = "",
        route: Redirect | None = None,
    ) -> AsyncIterator[ResponseBody]:
        """Ask for the bytes of `span`; a content is named by its hash, so it is never another one.

        Raises Setback for what may pass, NotFound for what the other machine does not have.
        """
        url = f"http://peer/deck/blobs/{quote(place.repo, safe='')}/{place.file.blob}"
        headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span[1] > span[0] else {}
        transport = httpx.AsyncHTTPTransport(uds=self._socket)
        try:
            async with (
                httpx.AsyncClient(transport=transport, timeout=self._timeout) as client,
                client.stream("GET", url, headers=headers) as response,
            ):
                if response.status_code not in (200, 206):
                    raise refused(response.status_code, place)
                start = begins_at(response.status_code, response.headers, place, span)
                yield ResponseBody(response, start, confirmed=True, place=place)
        except httpx.TransportError as error:
            raise RetryableFailure(
                ServerUnavailable(
                    f"The machine that {place} is copied from cannot be reached"
                    f" ({str(error) or type(error).__name__}).",
                    GO_ON,
                )
            ) from error


async def still_there(peer: str | None) -> str | None:
    """The socket, if it is there; None for the Hub, which has the same contents."""
    if not peer:
        return None
    is_there: bool = await in_thread(Path(peer).is_socket)
    return peer if is_there else None


def refused(status: int, place: FileLocation) -> DeckError | RetryableFailure:
    """What an answer without content means."""
    if status == 404:
        return NotFound(f"{place} is not on the other machine any more.", GO_ON)
    return RetryableFailure(
        ServerUnavailable(f"The other machine answered {status} to {place}.", GO_ON)
    )
