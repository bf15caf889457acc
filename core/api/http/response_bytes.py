"""The bytes of an answer. Pure, but for the clock. RFC 9110 and 9112."""

from __future__ import annotations

import time
from email.utils import formatdate

from modeldeck.core.api.http.messages import Prepared, Response, StreamResponse, reason

Headers = tuple[tuple[str, str], ...]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_ALWAYS = b"X-Content-Type-Options: nosniff\r\n"
_NO_COPIES = b"Cache-Control: no-store\r\n"
"""Every answer tells what is true now. One with an ETag may be kept, and asked for again."""

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


def _start(answer: Response | StreamResponse, framing: bytes, copies: bytes) -> bytes:
    """What the head has whoever asks."""
    kind = f"Content-Type: {answer.content_type}\r\n".encode() if answer.content_type else b""
    status = f"HTTP/1.1 {answer.status} {reason(answer.status)}\r\n".encode()
    return b"".join((status, kind, framing, _ALWAYS, copies, _lines(answer.headers)))


def start(answer: Response, copies: bytes = _NO_COPIES) -> bytes:
    """The beginning of the head of an answer that is whole."""
    bare = answer.status in _WITHOUT_BODY
    return _start(answer, b"" if bare else b"Content-Length: %d\r\n" % len(answer.body), copies)


def _connection(*, keep_alive: bool, old: bool) -> bytes:
    if keep_alive:
        return b"Connection: keep-alive\r\n" if old else b""
    return b"Connection: close\r\n"


def whole(
    answer: Response,
    *,
    keep_alive: bool,
    old: bool,
    head_only: bool,
    request_id: str = "",
    extra: Headers = (),
) -> bytes:
    """An answer with its body; `old` for a client of HTTP/1.0, `head_only` for HEAD."""
    return b"".join(
        (
            answer.start if isinstance(answer, Prepared) else start(answer),
            _date_line(),
            _connection(keep_alive=keep_alive, old=old),
            b"X-Request-Id: %b\r\n" % request_id.encode() if request_id else b"",
            _lines(extra) if extra else b"",
            b"\r\n",
            b"" if head_only or answer.status in _WITHOUT_BODY else answer.body,
        )
    )


def stream_head(
    answer: StreamResponse,
    *,
    keep_alive: bool,
    old: bool,
    request_id: str = "",
    extra: Headers = (),
) -> bytes:
    """The head of an answer in pieces: chunked, or for HTTP/1.0 until the connection ends."""
    framing = b"" if old else b"Transfer-Encoding: chunked\r\n"
    own: Headers = (("X-Request-Id", request_id),) if request_id else ()
    return b"".join(
        (
            _start(answer, framing, _NO_COPIES),
            _date_line(),
            _connection(keep_alive=keep_alive and not old, old=False),
            _lines(own + extra),
            b"\r\n",
        )
    )


def chunk(data: bytes, *, old: bool) -> bytes:
    """One piece of such an answer. Empty data gives nothing: an empty chunk would end it."""
    return data if old or not data else b"%x\r\n%b\r\n" % (len(data), data)
