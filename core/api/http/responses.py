"""Responses: what is sent (304, gzip or the plain body), as which bytes, and their access log.

The first two parts are pure but for the clock: content negotiation (RFC 9110, sections 12.5.3 and
13.1.2) and the bytes of a head (RFC 9110 and 9112). `Responder` writes them to the client.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache

from modeldeck.core.api.http.access import ListenAddress
from modeldeck.core.api.http.messages import (
    Response,
    StreamResponse,
    error_response,
    gzipped,
    reason,
)
from modeldeck.core.api.http.meter import UNROUTED
from modeldeck.core.api.http.origin_checks import cors_headers
from modeldeck.core.api.http.request_head import RequestHead
from modeldeck.core.api.http.request_parser import PendingRequest
from modeldeck.core.api.http.server_state import ServerState, log
from modeldeck.core.api.http.writer import PeerGone, SocketWriter
from modeldeck.core.errors import DeckError

Headers = tuple[tuple[str, str], ...]

# Content negotiation

SMALL_BYTES = 1 << 10
"""Smaller bodies are not compressed: they fit into one packet."""

LARGE_BYTES = 256 << 10
"""Larger bodies take more than a few milliseconds to compress, so a thread does it."""

_GZIPPED: Headers = (("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))


def negotiated(answer: Response, head: RequestHead | None) -> Response:
    """The response to send: 304 where the client's ETag matches, gzip where accepted, else as is.

    Compresses at once, also where `is_slow`; only successful responses (200) are changed.
    """
    shared = answer.shared
    if head is None or answer.status != 200:
        return answer
    if shared is None:
        return _compressed(answer, gzipped(answer.body)) if _pays(answer, head) else answer
    known = head.headers.get("if-none-match")
    if known is not None and _matches(known, shared.etag):
        return shared.unchanged
    return shared.gzipped if _pays(answer, head) else answer


def is_slow(answer: Response, head: RequestHead | None) -> bool:
    """Whether `negotiated` would block the event loop for more than a few milliseconds."""
    if len(answer.body) <= LARGE_BYTES or head is None or not _pays(answer, head):
        return False
    return answer.shared is None or not answer.shared.is_gzipped


async def negotiated_in_thread(answer: Response, head: RequestHead | None) -> Response:
    """As `negotiated`; large bodies are compressed in a thread."""
    if is_slow(answer, head):
        if answer.shared is None:
            return _compressed(answer, await asyncio.to_thread(gzipped, answer.body))
        await asyncio.to_thread(getattr, answer.shared, "gzipped")
    return negotiated(answer, head)


def _compressed(answer: Response, body: bytes) -> Response:
    return replace(answer, body=body, headers=(*answer.headers, *_GZIPPED))


def _pays(answer: Response, head: RequestHead) -> bool:
    """Whether the body is worth compressing and the client accepts gzip."""
    accepted = head.headers.get("accept-encoding")
    return (
        accepted is not None
        and len(answer.body) >= SMALL_BYTES
        and answer.status == 200
        and answer.content_type is not None
        and takes_gzip(accepted)
    )


@lru_cache(64)
def takes_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header accepts gzip (RFC 9110, section 12.5.3)."""
    weights = {}
    for part in accept_encoding.lower().split(","):
        coding, _, parameter = part.partition(";")
        name, _, value = parameter.strip().partition("=")
        weights[coding.strip()] = value.strip() if name == "q" else "1"
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", "0")))
    return weight.strip("0.") != ""


def _matches(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match header names the ETag, by weak comparison (section 13.1.2)."""
    opaque = etag.removeprefix("W/")
    return if_none_match.strip() == "*" or any(
        tag.strip().removeprefix("W/") == opaque for tag in if_none_match.split(",")
    )


# Bytes

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_NOSNIFF = b"X-Content-Type-Options: nosniff\r\n"
_NO_STORE = b"Cache-Control: no-store\r\n"
_REVALIDATE = b"Cache-Control: no-cache\r\n"
"""For responses with an ETag: they may be stored if they are revalidated each time."""

_CLOSE = b"Connection: close\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n"

_WITHOUT_BODY = (204, 304)

_date: tuple[int, bytes] = (0, b"")


def _date_line() -> bytes:
    """The Date header, formatted once a second."""
    global _date
    now = int(time.time())
    if now != _date[0]:
        _date = now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode()
    return _date[1]


def _lines(headers: Headers) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1", "replace")


@lru_cache(64)
def _fixed_lines(
    status: int, content_type: str | None, cache_control: bytes, headers: Headers
) -> bytes:
    """Status line and headers that are equal in every response of a kind."""
    return b"".join(
        (
            f"HTTP/1.1 {status} {reason(status)}\r\n".encode(),
            f"Content-Type: {content_type}\r\n".encode() if content_type else b"",
            _NOSNIFF,
            cache_control,
            _lines(headers),
        )
    )


def buffered(
    answer: Response, *, keep_alive: bool, old: bool, head_only: bool, lines: bytes = b""
) -> bytes:
    """Head and body; `old` for a client of HTTP/1.0, `head_only` for HEAD."""
    status, body = answer.status, answer.body
    cache_control = _NO_STORE if answer.shared is None else _REVALIDATE
    bare = status in _WITHOUT_BODY
    return b"".join(
        (
            _fixed_lines(status, answer.content_type, cache_control, answer.headers),
            b"" if bare else b"Content-Length: %d\r\n" % len(body),
            lines,
            _date_line(),
            _CLOSE if not keep_alive else _KEEP_ALIVE if old else b"",
            b"\r\n",
            b"" if bare or head_only else body,
        )
    )


def stream_head(
    answer: StreamResponse, *, keep_alive: bool, old: bool, lines: bytes = b""
) -> bytes:
    """Head of a streamed response: chunked; in HTTP/1.0 its end is the end of the connection."""
    return b"".join(
        (
            _fixed_lines(answer.status, answer.content_type, _NO_STORE, answer.headers),
            b"" if old else b"Transfer-Encoding: chunked\r\n",
            lines,
            _date_line(),
            b"" if keep_alive and not old else _CLOSE,
            b"\r\n",
        )
    )


def chunk(data: bytes, *, old: bool) -> bytes:
    """One piece of a streamed body. Empty data gives no bytes: an empty chunk would end it."""
    return data if old or not data else b"%x\r\n%b\r\n" % (len(data), data)


# Writing


class Responder:
    """Writes the responses of one connection, and one access log entry for each."""

    __slots__ = ("_address", "_meter", "_peer", "_server", "_writer")

    def __init__(
        self, server: ServerState, address: ListenAddress, peer: str, writer: SocketWriter
    ) -> None:
        self._server = server
        self._meter = server.meter
        self._address = address
        self._peer = peer
        self._writer = writer

    def send(self, pending: PendingRequest, answer: Response) -> bool | None:
        """Send a `negotiated` response.

        Returns whether another request may follow; None when the client is gone.
        """
        if self._writer.gone:
            self.log(pending, 499)
            return None
        head = pending.head
        keep_alive = pending.keep_alive and not self._server.stopping
        data = buffered(
            answer,
            keep_alive=keep_alive,
            old=head is not None and head.version == "1.0",
            head_only=head is not None and head.method == "HEAD",
            lines=self._request_lines(pending),
        )
        self._writer.transport.write(data)
        self.log(pending, answer.status, len(answer.body))
        return keep_alive

    async def stream(self, pending: PendingRequest, answer: StreamResponse) -> bool | None:
        """Send chunks as they come; a failure in between aborts the connection.

        The client then sees that the response is incomplete. Returns as `send` does; None also when
        it was aborted.
        """
        head = pending.head
        assert head is not None
        old = head.version == "1.0"
        keep_alive = pending.keep_alive and not old and not self._server.stopping
        sent, status = 0, answer.status
        try:
            sent = self._start_stream(pending, answer, keep_alive=keep_alive, old=old)
            if head.method != "HEAD":
                async for data in answer.chunks:
                    self._writer.write(chunk(data, old=old))
                    sent += len(data)
                    await self._writer.drain()
                self._writer.write(b"" if old else LAST_CHUNK)
        except PeerGone:
            status = 499
            return None
        except Exception as error:
            text = f"{head.method} {head.path} failed while its response was sent ({pending.id})."
            log.error(text, exc_info=error)
            status = 500
            self._writer.transport.abort()
            return None
        except BaseException:
            status = 499
            raise
        finally:
            self.log(pending, status, sent)
            await answer.chunks.aclose()
        return keep_alive

    def _start_stream(
        self, pending: PendingRequest, answer: StreamResponse, *, keep_alive: bool, old: bool
    ) -> int:
        """Write the head and the first chunk; returns that chunk's size. Raises PeerGone."""
        if self._writer.gone:
            raise PeerGone
        start = stream_head(
            answer, keep_alive=keep_alive, old=old, lines=self._request_lines(pending)
        )
        bare = pending.head is not None and pending.head.method == "HEAD"
        self._writer.write(start if bare else start + chunk(answer.first, old=old))
        return 0 if bare else len(answer.first)

    def _request_lines(self, pending: PendingRequest) -> bytes:
        """Header lines for this request: its id, and CORS for a page of an allowed origin."""
        head, route = pending.head, pending.route
        line = b"X-Request-Id: %b\r\n" % pending.id.encode() if pending.id else b""
        style = route.error_style if route is not None else self._server.error_style(None, head)
        if line and style == "anthropic":
            line += b"Request-Id: %b\r\n" % pending.id.encode()
        if head is None or "origin" not in head.headers:
            return line
        return line + _lines(cors_headers(head, self._address.policy))

    def log(self, pending: PendingRequest, status: int, sent_bytes: int = 0) -> None:
        """Count and log a request that was answered; status 499 where its client went away."""
        head, route, caller = pending.head, pending.route, pending.caller
        template = route.template if route is not None else UNROUTED
        method = head.method if head is not None else ""
        seconds = time.perf_counter() - pending.began
        self._meter.count(template, method, status, seconds, sent_bytes)
        if self._server.access_log.logs:
            self._server.access_log.write(
                method=method,
                path=head.path if head is not None else "",
                status=status,
                seconds=seconds,
                sent_bytes=sent_bytes,
                request_id=pending.id,
                who=caller.name if caller is not None else self._peer,
            )


def failed(error: Exception, pending: PendingRequest) -> Response:
    """The response to an exception of a handler; a bug is logged and its text kept from clients."""
    route = pending.route
    assert route is not None
    if isinstance(error, DeckError):
        status = route.error_status(error)
        return error_response(error, route.error_style, status, pending.id)
    log.error("%s %s failed (%s).", route.method, route.template, pending.id, exc_info=error)
    unexpected = DeckError(
        "Something went wrong inside modeldeck.", f"The log of the core has it: {pending.id}."
    )
    return error_response(unexpected, route.error_style, request_id=pending.id)
