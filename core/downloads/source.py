"""Where the bytes come from: the endpoint, the hosts it sends us to, and what may go wrong there.

Redirects are followed hop by hop, and the token goes to the endpoint's own origin only. A signed
URL serves all parts of a file until it is refused; then the endpoint is asked anew. What a server
says about a file (size, ETag, range) is checked against what the Hub's listing promised.

Content comes over `wire` where no proxy is in between, and through httpx's own transport else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from importlib import import_module
from typing import cast
from urllib.parse import quote, urljoin, urlsplit

import httpx

from core import __version__
from core.downloads.outward import outward
from core.downloads.partial import in_thread
from core.downloads.parts import Span
from core.downloads.threads import in_own_thread
from core.downloads.wire import BUFFER_BYTES, GATHER_S, Sink, Stream, fill
from core.errors import Corrupt, DeckError, Gated, HubUnavailable, NotFound
from core.schema import RepoFile

MAX_HOPS = 5
"""Redirects followed; the Hub makes one."""

CONNECT_S = 10.0

LONGEST_RETRY_AFTER_S = 300.0
"""The Hub's rate limits are counted per five minutes."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Setback(Exception):
    """Something that may pass: to be tried again, after `wait_s` where the server said so.

    `passes` says that it will some day, as a network that is down or a server that is busy: such a
    thing never ends a job. An answer that makes no sense may come for ever.
    """

    def __init__(
        self, error: DeckError, wait_s: float | None = None, *, passes: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_s = wait_s
        self.passes = passes


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One file of one commit, on the Hub."""

    repo: str
    revision: str
    file: RepoFile

    def __str__(self) -> str:
        return f"{self.repo}/{self.file.path}"


@dataclass(slots=True)
class Route:
    """Where the endpoint sent us for a file, shared by its connections; empty until it did."""

    url: str = ""
    confirmed: bool = False
    """Whether the endpoint named the very blob that was asked for when it did."""


class Body:
    """An answer whose content is about to come."""

    def __init__(self, response: httpx.Response, start: int, confirmed: bool) -> None:
        self._response = response
        self.start = start
        """Offset of the first byte: 0 where the server ignores ranges, whatever was asked for."""
        self.is_whole = response.status_code == 200
        """Whether all of the file comes, whatever was asked for."""
        self.confirmed = confirmed
        """Whether the endpoint named the very blob that was asked for."""
        self.validator = _strong(response.headers.get("etag", ""))
        """The server's own ETag of the content; empty where there is none to rely on."""

    async def pour(self, sink: Sink) -> None:
        """Let the content flow into a sink, to its end or until the sink wants no more.

        Raises Setback when the connection breaks or stalls; what the sink raises is passed on.
        """
        stream = self._response.extensions.get("network_stream")
        try:
            if isinstance(stream, Stream) and stream.can_pour:
                await stream.pour(sink)
            else:
                await self._hand(sink)
        except httpx.TransportError as error:
            raise lost(self._response.url.host, error) from error

    async def _hand(self, sink: Sink) -> None:
        """The same, for bodies that httpx receives: through a proxy, or of unknown length."""
        # No chunk size is given: httpx would copy everything once more.
        raw = cast(AsyncGenerator[bytes, None], self._response.aiter_raw())
        gathered, since = bytearray(), time.monotonic()
        async with aclosing(raw):
            try:
                async for chunk in raw:
                    gathered += chunk
                    if len(gathered) >= BUFFER_BYTES or time.monotonic() - since >= GATHER_S:
                        ready, gathered, since = gathered, bytearray(), time.monotonic()
                        if not await in_own_thread(partial(fill, sink, ready), sink.stop):
                            return
            finally:
                await in_own_thread(partial(fill, sink, gathered), sink.stop)


class Source:
    """The Hub's files, as a transfer sees them."""

    def __init__(
        self,
        endpoint: str,
        token: Callable[[], str | None],
        stall_s: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._stall_s = stall_s
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _connected(self) -> httpx.AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await in_thread(self._make_client)
            return self._client

    def _make_client(self) -> httpx.AsyncClient:
        """Blocks for some 0.1 s: certificates are read from disk, and modules are imported.

        httpx would import anyio's backend with the first request, and hold up the loop for it.
        """
        import_module("anyio._backends._asyncio")
        return httpx.AsyncClient(
            headers={"User-Agent": f"modeldeck/{__version__}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(CONNECT_S, read=self._stall_s, pool=None),
            follow_redirects=False,
            transport=self._transport or outward(),
        )

    def url(self, place: Place) -> str:
        """Where the endpoint serves a file."""
        revision = quote(place.revision, safe="")
        return f"{self._endpoint}/{place.repo}/resolve/{revision}/{quote(place.file.path)}"

    @asynccontextmanager
    async def open(
        self, place: Place, span: Span, validator: str = "", route: Route | None = None
    ) -> AsyncIterator[Body]:
        """Ask for the bytes of `span`, following redirects.

        `validator` is the ETag that an earlier part came with; `route` is where an earlier one came
        from, and is kept up to date. Raises Setback for what may pass; Gated, NotFound, Corrupt and
        HubUnavailable for what will not.
        """
        client, route = await self._connected(), route or Route()
        url, confirmed = route.url or self.url(place), route.confirmed
        for _ in range(MAX_HOPS + 2):
            home = origin(url) == origin(self._endpoint)
            headers = await self._headers(place, span, home, "" if confirmed else validator)
            try:
                request = client.build_request("GET", url, headers=headers)
                response = await client.send(request, stream=True)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                route.url, route.confirmed = "", False
                raise lost(urlsplit(url).hostname or url, error) from error
            try:
                refused = refusal(response.status_code, response.headers, place, home)
                if refused is not None:
                    was_kept, route.url, route.confirmed = url == route.url, "", False
                    if was_kept and not (isinstance(refused, Setback) and refused.passes):
                        # The signature ran out: the endpoint makes a new one.
                        url, confirmed = self.url(place), False
                        continue
                    raise refused
                confirmed = confirmed or (home and names_blob(response.headers, place))
                if response.status_code not in _REDIRECTS:
                    start = begins_at(response.status_code, response.headers, place, span)
                    if not home:
                        route.url, route.confirmed = url, confirmed
                    yield Body(response, start, confirmed)
                    return
                url = next_hop(url, response.headers.get("location", ""))
            finally:
                await response.aclose()
        raise HubUnavailable(f"{place} is redirected in a circle.", "Check hub.endpoint.")

    async def _headers(
        self, place: Place, span: Span, home: bool, validator: str
    ) -> dict[str, str]:
        headers = {}
        if home and (token := await in_thread(self._token)):
            headers["Authorization"] = f"Bearer {token}"
        if span != (0, place.file.size_bytes):
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
            # The ETag that came before. None is sent once the endpoint has named the blob: storage
            # may change its ETags as it likes. Nor is the blob's name: mirrors have ETags of their
            # own, and would send the whole file for one that they do not know.
            if validator:
                headers["If-Range"] = validator
        return headers


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL: what a token must not leave (RFC 6454)."""
    parts = urlsplit(url)
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or default


def next_hop(url: str, location: str) -> str:
    """Where a redirect leads. Raises HubUnavailable for a place that must not be gone to.

    Never from https to http, and never into the machine or a private network from outside it: a
    hostile server would have us ask in its place (CVE-2026-5530).
    """
    target = urljoin(url, location)
    parts = urlsplit(target)
    downgraded = urlsplit(url).scheme == "https" and parts.scheme != "https"
    inward = _is_inside(parts.hostname or "") and not _is_inside(urlsplit(url).hostname or "")
    if not location or parts.scheme not in ("http", "https") or downgraded or inward:
        raise HubUnavailable(
            f"{urlsplit(url).hostname} redirects to {parts.scheme}://{parts.hostname}, which is not"
            " followed.",
            "Check hub.endpoint.",
        )
    return target


def _is_inside(host: str) -> bool:
    """Whether a host is this machine, or written as an address that the internet does not route."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def refusal(
    status: int, headers: Mapping[str, str], place: Place, home: bool
) -> DeckError | Setback | None:
    """What an answer's status means; None for one that brings content or leads to it.

    `home` says whether the endpoint itself answered: elsewhere, a 403 is a signature that ran out.
    The codes are the Hub's (huggingface_hub, `hf_raise_for_status`).
    """
    if status in (200, 206) or status in _REDIRECTS:
        return None
    code = headers.get("x-error-code", "")
    gone = HubUnavailable(
        f"{place} was answered with {status}.", "Try again later; resume goes on where it stopped."
    )
    if status in (408, 425, 429) or status >= 500:
        wait_s = retry_after(headers.get("retry-after", ""), datetime.now(UTC))
        return Setback(gone, wait_s, passes=True)
    if not home:
        return Setback(gone)
    if status == 416:
        return Setback(_changed(place, "it is shorter than its listing says"))
    if code == "GatedRepo" or status == 403:
        return Gated(
            f"{place.repo} is gated, and this machine's token may not read it.",
            "Accept its licence on its page on the Hub, then `hf auth login`, or set HF_TOKEN.",
        )
    if status in (401, 404):
        return NotFound(
            f"{place} is not there, or it is private.",
            "Check the name; for a private repository `hf auth login`, or set HF_TOKEN.",
        )
    return gone


def retry_after(value: str, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3); None for none or nonsense."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def names_blob(headers: Mapping[str, str], place: Place) -> bool:
    """Whether the endpoint's answer names the blob that was asked for.

    A mirror may give an ETag of its own, which says nothing. Raises Corrupt when the Hub's own
    headers name another file.
    """
    linked = headers.get("x-linked-etag")
    etag = (linked or headers.get("etag", "")).removeprefix("W/").strip('"')
    if linked and etag != place.file.blob:
        raise _changed(place, f"its content is {etag[:12]} now")
    size = headers.get("x-linked-size", "")
    if size.isdigit() and int(size) != place.file.size_bytes:
        raise _changed(place, f"it has {size} bytes now")
    return etag == place.file.blob


def begins_at(status: int, headers: Mapping[str, str], place: Place, span: Span) -> int:
    """Offset of the first byte of an answer's content (RFC 9110, 14.4 and 15.3.7).

    Raises Setback when length, range or encoding are not what was asked for.
    """
    size = place.file.size_bytes
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Setback(HubUnavailable(f"{place} came encoded, though that was not asked for."))
    if status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
        if match is None or int(match[1]) != span[0] or int(match[2]) >= span[1]:
            raise Setback(HubUnavailable(f"{place} came in another range than asked for."))
        if match[3] != "*" and int(match[3]) != size:
            raise Setback(_changed(place, f"it has {match[3]} bytes, not {size}"))
        return span[0]
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) != size:
        raise Setback(_changed(place, f"it has {length} bytes, not {size}"))
    return 0


def _strong(etag: str) -> str:
    """An ETag that a range may be tied to: weak ones may not (RFC 9110, 13.1.5)."""
    return etag if len(etag) > 2 and etag.startswith('"') and etag.endswith('"') else ""


def _changed(place: Place, how: str) -> Corrupt:
    return Corrupt(
        f"{place} is not what the Hub listed: {how}.",
        "Download it again; the listing is then asked for anew.",
    )


def lost(host: str, error: Exception) -> DeckError | Setback:
    """What it means that a connection failed: something that passes, but for a certificate."""
    reason = str(error) or type(error).__name__
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return HubUnavailable(
            f"The certificate of {host} is not trusted: {error.__cause__.verify_message}.",
            "If it is your network's own, name its certificates in SSL_CERT_FILE.",
        )
    return Setback(
        HubUnavailable(
            f"The connection to {host} was lost: {reason}.",
            "It is made anew by itself; check the network if it does not come back.",
        ),
        passes=True,
    )
