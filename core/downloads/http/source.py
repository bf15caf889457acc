"""Requests file content from the Hub or a URL, and follows redirects.

Redirects are followed one by one, and the token is sent to the endpoint's own origin only. A signed
URL is used for all ranges of a file until it is refused; then the endpoint is asked for a new one.
The address of each hop from a user's URL is checked (`address_policy`).
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
    names_blob,
    refusal,
    stated_sha256,
    undecodable,
    validator_of,
    web_refusal,
)
from modeldeck.core.downloads.http.url_file import MAGIC, UrlFile, first, url_file_of
from modeldeck.core.downloads.ranges import ByteRange
from modeldeck.core.errors import DeckError, HubUnavailable, InvalidRequest, ServerUnavailable
from modeldeck.core.network.address_policy import check_url, is_exempt, next_hop, origin
from modeldeck.core.network.connection import GATHER_S
from modeldeck.core.network.encoding import BodyDecoder, Undecodable, encoding_of
from modeldeck.core.network.failures import host_of, shown
from modeldeck.core.network.proxy_selector import ProxySelector, build
from modeldeck.core.network.transport import BUFFER_BYTES, PUBLIC, BodyStream, Sink, fill

MAX_HOPS = 5
"""Most redirects that are followed; the Hub sends one."""

CONNECT_S = 10.0
"""Time limit of a connection set-up, with TLS."""

LOOK_S = 120.0
"""Time limit of `look` and `read`, with redirects; they read 4 MiB at most."""

HEADERS = {
    "User-Agent": f"modeldeck/{__version__}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Connection": "keep-alive",
}


@dataclass(slots=True)
class Redirect:
    """Target of the endpoint's redirect for a file, shared by its connections; empty at first."""

    url: str = ""
    confirmed: bool = False
    """Whether the redirect's headers identified the requested blob."""


class ResponseBody:
    """A response with its content unread."""

    def __init__(
        self, response: httpx.Response, start: int, confirmed: bool, location: FileLocation
    ) -> None:
        self._response = response
        self._place = location
        self.start = start
        """Offset of the first byte in the file: 0 where the server ignores ranges."""
        self.is_whole = response.status_code == 200
        """Whether the response is the whole file."""
        self.confirmed = confirmed
        """Whether the endpoint's headers identified the requested blob."""
        self._encoding = encoding_of(response.headers)
        # The ETag of a compressed form is not that of the content (RFC 9110, 8.8.3.3).
        self.validator = "" if self._encoding else validator_of(response.headers)
        """The server's strong ETag or date of the content; empty where it has neither."""

    async def pour(self, sink: Sink) -> None:
        """Receive the content into a sink, to its end or until the sink ends the transfer.

        Raises RetryableFailure when the connection breaks or stalls, and the errors of the sink.
        """
        stream = self._response.extensions.get("network_stream")
        try:
            if isinstance(stream, BodyStream) and stream.can_pour and not self._encoding:
                await stream.pour(sink)
            else:
                await self._pour_decoded(sink)
        except Undecodable as error:
            raise RetryableFailure(undecodable(self._place, str(error))) from error
        except httpx.TransportError as error:
            raise lost(self._response.url.host, error) from error

    async def _pour_decoded(self, sink: Sink) -> None:
        """`pour` for bodies that are compressed, of unknown length, or of another transport."""
        decoder = BodyDecoder(self._encoding)

        def hand_over(data: bytearray) -> bool:
            """Decode and hand over `data`; return whether the sink accepts more. Blocks."""
            return all(fill(sink, piece) for piece in decoder.pieces(data))

        # Without a chunk size, which would make httpx copy the content once more.
        raw = cast(AsyncGenerator[bytes, None], self._response.aiter_raw())
        gathered, since = bytearray(), time.monotonic()
        async with aclosing(raw):
            try:
                async for chunk in raw:
                    gathered += chunk
                    if len(gathered) >= BUFFER_BYTES or time.monotonic() - since >= GATHER_S:
                        ready, gathered, since = gathered, bytearray(), time.monotonic()
                        if not await in_own_thread(partial(hand_over, ready), sink.stop):
                            return
            except asyncio.CancelledError:
                sink.stop()  # else the rate limit would hold back what was gathered
                raise
            finally:
                await in_own_thread(partial(hand_over, gathered), sink.stop)


class DownloadSource:
    """Opens responses with file content from the Hub or from URLs."""

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
        """`trusted_hosts` may have private addresses and need no TLS.

        `outward` is a shared ProxySelector, which its owner closes; else one is created.
        """
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._trusted = trusted_hosts
        self._limits = {"connect": CONNECT_S, "read": stall_s, "write": stall_s, "pool": None}
        self._shared = outward
        self._outward = outward or ProxySelector(transport)

    def warm(self) -> None:
        """Prepare proxies and certificates in the background."""
        self._outward.warm(self._endpoint)

    async def close(self) -> None:
        """Close all connections."""
        if self._shared is None:
            await self._outward.close()

    async def _send(self, url: str, headers: dict[str, str], *, public: bool) -> httpx.Response:
        """Send one request; return the response with its body unread. The caller closes it.

        `public` allows public addresses only. httpx's client is not used: redirects, cookies and
        timeouts are handled here, and its layers take as long as a small file.
        """
        extensions = {"timeout": self._limits, PUBLIC: public}
        try:
            request = build(url, HEADERS | headers, extensions)
            return await self._outward.send(request)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise lost(host_of(url), error) from error
        except UnicodeError as error:  # of IDNA, raised by httpx and by the resolver
            raise HubUnavailable(
                f"{host_of(url)[:100]} cannot be the name of a host.", "Check the URL."
            ) from error

    def url(self, location: FileLocation) -> str:
        """The first URL of a file, before redirects."""
        if location.url is not None:
            return location.url
        revision = quote(location.revision, safe="")
        return f"{self._endpoint}/{location.repo}/resolve/{revision}/{quote(location.file.path)}"

    def _is_public(self, url: str, user_url: str | None, *, loopback: bool = True) -> bool:
        """Whether a hop needs a public address. Raises Forbidden where it is not allowed."""
        if user_url is None:
            return False
        check_url(url, self._trusted, loopback=loopback)
        host = urlsplit(url).hostname or ""
        return not is_exempt(host, self._trusted, loopback=loopback)

    @asynccontextmanager
    async def open(
        self,
        location: FileLocation,
        span: ByteRange,
        validator: str = "",
        route: Redirect | None = None,
    ) -> AsyncIterator[ResponseBody]:
        """Request the bytes of `span`, following redirects.

        `validator` is the ETag of earlier ranges; `route` is the redirect that served them, and is
        updated. Raises RetryableFailure for temporary failures; Gated, NotFound, Corrupt, Forbidden
        and HubUnavailable for others.
        """
        route = route or Redirect()
        first = self.url(location)
        url, confirmed, asked = route.url or first, route.confirmed, span
        for _ in range(MAX_HOPS + 2):
            home = origin(url) == origin(first)
            headers = await self._headers(location, asked, home, "" if confirmed else validator)
            try:
                response = await self._send(url, headers, public=self._is_public(url, location.url))
            except (RetryableFailure, DeckError):
                route.url, route.confirmed = "", False
                raise
            try:
                refused = refusal(
                    response.status_code,
                    response.headers,
                    location,
                    home,
                    endpoint=self._endpoint,
                    has_token="Authorization" in headers,
                )
                if refused is not None:
                    was_kept, route.url, route.confirmed = url == route.url, "", False
                    if was_kept and not (isinstance(refused, RetryableFailure) and refused.passes):
                        # The signature has expired: ask the endpoint for a new URL.
                        url, confirmed = first, False
                        continue
                    raise refused
                confirmed = confirmed or (home and names_blob(response.headers, location))
                is_part = response.status_code == 206 and "Range" in headers
                if is_part and encoding_of(response.headers):
                    # A range of compressed content cannot be decoded: request the whole file.
                    asked = (0, location.file.size_bytes)
                    continue
                if response.status_code not in REDIRECTS:
                    start = begins_at(response.status_code, response.headers, location, asked)
                    if not home:
                        route.url, route.confirmed = url, confirmed
                    yield ResponseBody(response, start, confirmed, location)
                    return
                url = next_hop(url, response.headers.get("location", ""))
            finally:
                await response.aclose()
        raise HubUnavailable(f"{location} is redirected in a circle.", "Check the address.")

    async def _headers(
        self, location: FileLocation, span: ByteRange, home: bool, validator: str
    ) -> dict[str, str]:
        headers = {}
        if home and location.url is None and (token := await in_thread(self._token)):
            headers["Authorization"] = f"Bearer {token}"
        if span != (0, location.file.size_bytes):
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
            # No ETag is sent once the endpoint has identified the blob: the storage behind it may
            # change its ETags. Nor is the blob's hash sent: mirrors have ETags of their own, and
            # send the whole file for an unknown one.
            if validator:
                headers["If-Range"] = validator
        return headers

    async def look(self, url: str) -> UrlFile:
        """Size, validator and hash of the file at a URL, from a request for its first bytes.

        Raises Forbidden, Gated, NotFound, ServerUnavailable, and InvalidRequest where it is no GGUF
        file or its size is unknown.
        """
        headers = _range(0, len(MAGIC))
        async with self._in_time(url, LOOK_S), self._follow(url, headers) as (response, sha256):
            return await url_file_of(url, response, sha256)

    async def read(self, url: str, start: int, size: int) -> bytes:
        """Bytes of the file at a URL, fewer at its end. Raises as `look`."""
        headers = _range(start, size)
        async with self._in_time(url, LOOK_S), self._follow(url, headers) as (response, _):
            if response.status_code != 206 and (start or response.status_code != 200):
                raise web_refusal(response.status_code, url)
            return await first(response, size)

    async def fetch(self, url: str, most_bytes: int, limit_s: float) -> bytes | None:
        """The whole file at a URL; None where it has more than `most_bytes`.

        Unlike the URL of a model, it must not lead to this machine, unless that is trusted. Raises
        InvalidRequest, Forbidden, Gated, NotFound, HubUnavailable and ServerUnavailable.
        """
        try:
            url.encode()
            parts = urlsplit(url)
            is_whole = parts.hostname is not None and parts.port != 0  # raises for no number
        except ValueError:
            is_whole = False
        if not is_whole:
            raise InvalidRequest("It is a malformed URL.", "Check the URL.")
        async with (
            self._in_time(url, limit_s),
            self._follow(url, {}, loopback=False) as (response, _),
        ):
            if response.status_code != 200:
                raise web_refusal(response.status_code, url)
            data = await first(response, most_bytes + 1)
        return data if len(data) <= most_bytes else None

    @asynccontextmanager
    async def _in_time(self, url: str, limit_s: float) -> AsyncIterator[None]:
        """Time limit of a file that is read at once, also for a server that sends single bytes."""
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError as error:
            raise ServerUnavailable(
                f"{shown(url)} did not answer in full within {limit_s:g} s.",
                "Try again later.",
            ) from error

    @asynccontextmanager
    async def _follow(
        self, url: str, headers: dict[str, str], *, loopback: bool = True
    ) -> AsyncIterator[tuple[httpx.Response, str]]:
        """Request a URL; yield the final response and the SHA-256 that a hop stated."""
        asked, sha256 = url, ""
        for _ in range(MAX_HOPS + 1):
            public = self._is_public(asked, url, loopback=loopback)
            try:
                response = await self._send(asked, headers, public=public)
            except RetryableFailure as failure:
                error = failure.error
                raise ServerUnavailable(error.message, "Check the network, or try later.") from None
            try:
                sha256 = sha256 or stated_sha256(response.headers)
                if response.status_code not in REDIRECTS:
                    yield response, sha256
                    return
                asked = next_hop(asked, response.headers.get("location", ""))
            finally:
                await response.aclose()
        raise ServerUnavailable(f"{shown(url)} is redirected in a circle.", "Check the URL.")


def _range(start: int, size: int) -> dict[str, str]:
    """The header that asks for a part of a file."""
    return {"Range": f"bytes={start}-{start + size - 1}"}
