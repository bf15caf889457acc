"""Where the bytes come from: the endpoint, or a URL, and the hosts that they send us to.

Redirects are followed hop by hop, and the token goes to the endpoint's own origin only. A signed
URL serves all parts of a file until it is refused; then whoever gave it is asked anew. What a
person's own URL leads to is looked at by its address, hop by hop as well (`addresses`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import quote, urlsplit

import httpx

from modeldeck.core import __version__
from modeldeck.core.concurrency import in_own_thread, in_thread
from modeldeck.core.downloads.http.responses import (
    REDIRECTS,
    FileLocation,
    RetryableFailure,
    begins_at,
    lost,
    mark,
    names_blob,
    promised,
    refusal,
    undecodable,
    web_refusal,
)
from modeldeck.core.downloads.http.url_file import MAGIC, UrlFile, first, offered
from modeldeck.core.downloads.ranges import ByteRange
from modeldeck.core.errors import DeckError, HubUnavailable, ServerUnavailable
from modeldeck.core.network.address_policy import check_url, is_exempt, next_hop, origin
from modeldeck.core.network.connection import GATHER_S
from modeldeck.core.network.encoding import BodyDecoder, Undecodable, encoding_of
from modeldeck.core.network.failures import host_of, shown
from modeldeck.core.network.proxy_selector import ProxySelector, build
from modeldeck.core.network.transport import BUFFER_BYTES, PUBLIC, BodyStream, Sink, fill

MAX_HOPS = 5
"""Redirects followed; the Hub makes one."""

CONNECT_S = 10.0

QUESTION_S = 120.0
"""For one question about a URL, redirects included: 4 MiB at most."""

HEADERS = {
    "User-Agent": f"modeldeck/{__version__}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Connection": "keep-alive",
}


@dataclass(slots=True)
class Redirect:
    """Where the endpoint sent us for a file, shared by its connections; empty until it did."""

    url: str = ""
    confirmed: bool = False
    """Whether the endpoint named the very blob that was asked for when it did."""


class ResponseBody:
    """An answer whose content is about to come."""

    def __init__(
        self, response: httpx.Response, start: int, confirmed: bool, place: FileLocation
    ) -> None:
        self._response = response
        self._place = place
        self.start = start
        """Offset of the first byte: 0 where the server ignores ranges, whatever was asked for."""
        self.is_whole = response.status_code == 200
        """Whether all of the file comes, whatever was asked for."""
        self.confirmed = confirmed
        """Whether the endpoint named the very blob that was asked for."""
        self._encoding = encoding_of(response.headers)
        # The mark of a compressed form is not that of the content (RFC 9110, 8.8.3.3).
        self.validator = "" if self._encoding else mark(response.headers)
        """The server's own ETag of the content, or its date; empty where neither is to rely on."""

    async def pour(self, sink: Sink) -> None:
        """Let the content flow into a sink, to its end or until the sink wants no more.

        Raises Setback when the connection breaks or stalls; what the sink raises is passed on.
        """
        stream = self._response.extensions.get("network_stream")
        try:
            if isinstance(stream, BodyStream) and stream.can_pour and not self._encoding:
                await stream.pour(sink)
            else:
                await self._hand(sink)
        except Undecodable as error:
            raise RetryableFailure(undecodable(self._place, str(error))) from error
        except httpx.TransportError as error:
            raise lost(self._response.url.host, error) from error

    async def _hand(self, sink: Sink) -> None:
        """The same, for bodies that are compressed, come through a proxy, or of unknown length."""
        decoder = BodyDecoder(self._encoding)

        def hand(data: bytearray) -> bool:
            """Whether the sink wants more. Blocks, and never holds more than a piece."""
            return all(fill(sink, piece) for piece in decoder.pieces(data))

        # No chunk size is given: httpx would copy everything once more.
        raw = cast(AsyncGenerator[bytes, None], self._response.aiter_raw())
        gathered, since = bytearray(), time.monotonic()
        async with aclosing(raw):
            try:
                async for chunk in raw:
                    gathered += chunk
                    if len(gathered) >= BUFFER_BYTES or time.monotonic() - since >= GATHER_S:
                        ready, gathered, since = gathered, bytearray(), time.monotonic()
                        if not await in_own_thread(partial(hand, ready), sink.stop):
                            return
            finally:
                await in_own_thread(partial(hand, gathered), sink.stop)


class DownloadSource:
    """Files of the Hub and of URLs, as a transfer sees them."""

    def __init__(
        self,
        endpoint: str,
        token: Callable[[], str | None],
        stall_s: float,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        trusted_hosts: Collection[str] = (),
        outward: ProxySelector | None = None,
    ) -> None:
        """`trusted_hosts` are those that a URL may lead to wherever they are.

        `outward` is the way out where it is shared; whoever made it closes it.
        """
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._trusted = trusted_hosts
        self._limits = {"connect": CONNECT_S, "read": stall_s, "write": stall_s, "pool": None}
        self._shared = outward
        self._outward = outward or ProxySelector(transport)

    def warm(self) -> None:
        """Make ready, in the background, what the first request will need."""
        self._outward.warm(self._endpoint)

    async def close(self) -> None:
        """Close all connections."""
        if self._shared is None:
            await self._outward.close()

    async def _ask(self, url: str, headers: dict[str, str], *, public: bool) -> httpx.Response:
        """The answer to one request, its body yet to come. Closing it is up to the caller.

        `public` keeps it from addresses that the internet does not route. httpx's client is left
        out: all that it would decide is decided here, and its layers cost as much as a small file.
        """
        extensions = {"timeout": self._limits, PUBLIC: public}
        try:
            request = build(url, HEADERS | headers, extensions)
            return await self._outward.send(request)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise lost(host_of(url), error) from error

    def url(self, place: FileLocation) -> str:
        """Where a file is asked for first."""
        if place.url is not None:
            return place.url
        revision = quote(place.revision, safe="")
        return f"{self._endpoint}/{place.repo}/resolve/{revision}/{quote(place.file.path)}"

    def _is_public(self, url: str, place_url: str | None) -> bool:
        """Whether a hop must stay on the internet. Raises Forbidden where it may not be made."""
        if place_url is None:
            return False
        check_url(url, self._trusted)
        return not is_exempt(urlsplit(url).hostname or "", self._trusted)

    @asynccontextmanager
    async def open(
        self,
        place: FileLocation,
        span: ByteRange,
        validator: str = "",
        route: Redirect | None = None,
    ) -> AsyncIterator[ResponseBody]:
        """Ask for the bytes of `span`, following redirects.

        `validator` is the ETag that an earlier part came with; `route` is where an earlier one came
        from, and is kept up to date. Raises Setback for what may pass; Gated, NotFound, Corrupt,
        Forbidden and HubUnavailable for what will not.
        """
        route = route or Redirect()
        first = self.url(place)
        url, confirmed, asked = route.url or first, route.confirmed, span
        for _ in range(MAX_HOPS + 2):
            home = origin(url) == origin(first)
            headers = await self._headers(place, asked, home, "" if confirmed else validator)
            try:
                response = await self._ask(url, headers, public=self._is_public(url, place.url))
            except (RetryableFailure, DeckError):
                route.url, route.confirmed = "", False
                raise
            try:
                refused = refusal(
                    response.status_code,
                    response.headers,
                    place,
                    home,
                    endpoint=self._endpoint,
                    has_token="Authorization" in headers,
                )
                if refused is not None:
                    was_kept, route.url, route.confirmed = url == route.url, "", False
                    if was_kept and not (isinstance(refused, RetryableFailure) and refused.passes):
                        # The signature ran out: the endpoint makes a new one.
                        url, confirmed = first, False
                        continue
                    raise refused
                confirmed = confirmed or (home and names_blob(response.headers, place))
                is_part = response.status_code == 206 and "Range" in headers
                if is_part and encoding_of(response.headers):
                    # A part of a compressed form is of no use: the whole can be decoded.
                    asked = (0, place.file.size_bytes)
                    continue
                if response.status_code not in REDIRECTS:
                    start = begins_at(response.status_code, response.headers, place, asked)
                    if not home:
                        route.url, route.confirmed = url, confirmed
                    yield ResponseBody(response, start, confirmed, place)
                    return
                url = next_hop(url, response.headers.get("location", ""))
            finally:
                await response.aclose()
        raise HubUnavailable(f"{place} is redirected in a circle.", "Check the address.")

    async def _headers(
        self, place: FileLocation, span: ByteRange, home: bool, validator: str
    ) -> dict[str, str]:
        headers = {}
        if home and place.url is None and (token := await in_thread(self._token)):
            headers["Authorization"] = f"Bearer {token}"
        if span != (0, place.file.size_bytes):
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
            # The ETag that came before. None is sent once the endpoint has named the blob: storage
            # may change its ETags as it likes. Nor is the blob's name: mirrors have ETags of their
            # own, and would send the whole file for one that they do not know.
            if validator:
                headers["If-Range"] = validator
        return headers

    async def look(self, url: str) -> UrlFile:
        """What there is at a URL, by asking for its first bytes alone.

        Raises Forbidden, Gated, NotFound, ServerUnavailable, and InvalidRequest for what is no GGUF
        file or has no size.
        """
        async with self._in_time(url), self._follow(url, 0, len(MAGIC)) as (response, sha256):
            return await offered(url, response, sha256)

    async def read(self, url: str, start: int, size: int) -> bytes:
        """Some bytes of what is at a URL. Raises as `look`; fewer come where the file ends."""
        async with self._in_time(url), self._follow(url, start, size) as (response, _):
            if response.status_code != 206 and (start or response.status_code != 200):
                raise web_refusal(response.status_code, url)
            return await first(response, size)

    @asynccontextmanager
    async def _in_time(self, url: str) -> AsyncIterator[None]:
        """A bound for one question: a server that sends a byte now and then ends as well."""
        try:
            async with asyncio.timeout(QUESTION_S):
                yield
        except TimeoutError as error:
            raise ServerUnavailable(
                f"{shown(url)} was not answered in whole within {QUESTION_S:g} s.",
                "Try again later.",
            ) from error

    @asynccontextmanager
    async def _follow(
        self, url: str, start: int, size: int
    ) -> AsyncIterator[tuple[httpx.Response, str]]:
        """The last answer to a question for some bytes, and the SHA-256 that any hop promised."""
        asked, sha256 = url, ""
        for _ in range(MAX_HOPS + 1):
            headers = {"Range": f"bytes={start}-{start + size - 1}"}
            try:
                response = await self._ask(asked, headers, public=self._is_public(asked, url))
            except RetryableFailure as setback:
                error = setback.error
                raise ServerUnavailable(error.message, "Check the network, or try later.") from None
            try:
                sha256 = sha256 or promised(response.headers)
                if response.status_code not in REDIRECTS:
                    yield response, sha256
                    return
                asked = next_hop(asked, response.headers.get("location", ""))
            finally:
                await response.aclose()
        raise ServerUnavailable(f"{shown(url)} is redirected in a circle.", "Check the URL.")
