"""The bytes of an answer. Pure, but for the clock. RFC 9110 and 9112."""

from __future__ import annotations

import time
from email.utils import formatdate

from core.api.wire import Response, StreamResponse, reason

Headers = tuple[tuple[str, str], ...]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_ALWAYS = b"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
"""No guessing of types, and no copies: every answer tells what is true now."""

_WITHOUT_BODY = (204, 304)

_date: tuple[int, bytes] = (0, b"")


def _date_line() -> bytes:
    """The Date header, made once a second."""
    global _date
    now = int(time.time())
    if now != _date[0]:
        _date = now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode()
    return _date[1]


def _lines(headers: Headers) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1", "replace")


def _head(
    answer: Response | StreamResponse,
    framing: bytes,
    *,
    keep_alive: bool,
    old: bool,
    extra: Headers,
) -> bytes:
    connection = b"" if keep_alive and not old else b"Connection: close\r\n"
    if keep_alive and old:
        connection = b"Connection: keep-alive\r\n"
    kind = f"Content-Type: {answer.content_type}\r\n".encode() if answer.content_type else b""
    status = f"HTTP/1.1 {answer.status} {reason(answer.status)}\r\n".encode()
    further = _lines(answer.headers + extra) if answer.headers or extra else b""
    return b"".join((status, _date_line(), kind, framing, connection, _ALWAYS, further, b"\r\n"))


def whole(
    answer: Response, *, keep_alive: bool, old: bool, head_only: bool, extra: Headers = ()
) -> bytes:
    """An answer with its body; `old` for a client of HTTP/1.0, `head_only` for HEAD."""
    bare = answer.status in _WITHOUT_BODY
    framing = b"" if bare else b"Content-Length: %d\r\n" % len(answer.body)
    head = _head(answer, framing, keep_alive=keep_alive, old=old, extra=extra)
    return head if head_only or bare else head + answer.body


def stream_head(
    answer: StreamResponse, *, keep_alive: bool, old: bool, extra: Headers = ()
) -> bytes:
    """The head of an answer in pieces: chunked, or for HTTP/1.0 until the connection ends."""
    framing = b"" if old else b"Transfer-Encoding: chunked\r\n"
    return _head(answer, framing, keep_alive=keep_alive and not old, old=old, extra=extra)


def chunk(data: bytes, *, old: bool) -> bytes:
    """One piece of such an answer. Empty data gives nothing: an empty chunk would end it."""
    return data if old or not data else b"%x\r\n%b\r\n" % (len(data), data)
