"""The head of a request: built from the parser's output, with the checks the parser lacks.

Pure. Sources: RFC 9112 (HTTP/1.1), RFC 9110 (semantics).
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit

import msgspec

from modeldeck.core.errors import (
    HeadTooLarge,
    InvalidRequest,
    NotImplementedHere,
    UnsupportedMediaType,
)

MAX_HEADERS = 100
"""Apache's and nginx's defaults are 100 as well; browsers send about 20."""

SINGLE = frozenset({"host", "content-length", "transfer-encoding", "origin"})
"""Headers that may come only once: two values could be read differently by two programs."""

MAX_QUERY_FIELDS = 50
"""The longest query of our own routes has 3."""


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """A request before its body. A Struct, for the reason given at `messages.Request`."""

    method: str
    target: str
    """As sent: path and query, or an absolute URL from a client that takes us for a proxy."""
    path: str
    """Percent-encoded; `*` for `OPTIONS *`."""
    query: str
    """Percent-encoded."""
    host: str
    """Host and port of the target, else of the `Host` header (RFC 9112, section 3.2.2)."""
    headers: dict[str, str]
    """Names in lower case; values of repeated headers joined by commas."""
    version: str
    """`1.0` or `1.1`."""
    content_length: int = 0
    chunked: bool = False
    has_body: bool = False
    """Whether body bytes follow."""

    @property
    def keeps_alive(self) -> bool:
        """Whether the client keeps the connection open (RFC 9112, section 9.3)."""
        if (value := self.headers.get("connection")) is None:
            return self.version == "1.1"
        tokens = value.lower().replace(" ", "").split(",")
        return "close" not in tokens and (self.version == "1.1" or "keep-alive" in tokens)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` (RFC 9110, section 10.1.1)."""
        return self.version == "1.1" and self.headers.get("expect", "").lower() == "100-continue"

    @property
    def wants_websocket(self) -> bool:
        """Whether this is an opening handshake (RFC 6455, section 4.1)."""
        return self.headers.get("upgrade", "").strip().lower() == "websocket"

    def fields(self) -> dict[str, str]:
        """The query, decoded. Raises InvalidRequest when it has too many fields."""
        try:
            pairs = parse_qsl(
                self.query,
                keep_blank_values=True,
                errors="replace",
                max_num_fields=MAX_QUERY_FIELDS,
            )
        except ValueError as error:
            raise InvalidRequest(f"The query is malformed: {error}.") from error
        return dict(pairs)


def read(
    method: str, target: str, raw_headers: Sequence[tuple[bytes, bytes]], version: str
) -> RequestHead:
    """Build and check a head from the parser's output. Raises DeckError for a refusal."""
    if len(raw_headers) > MAX_HEADERS:
        raise HeadTooLarge(f"More than {MAX_HEADERS} headers.")
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw_headers:
        name, value = name_bytes.decode("latin-1").lower(), value_bytes.decode("latin-1").strip()
        if name in headers:
            if name in SINGLE:
                raise InvalidRequest(f"More than one {name} header.")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    if "host" not in headers and version != "1.0":
        raise InvalidRequest("There is no Host header.")
    length, chunked = 0, False
    if "content-length" in headers or "transfer-encoding" in headers:
        length, chunked = _framing(headers, version)
    path, query, authority = target, "", ""
    if "?" in target or not target.startswith("/"):
        path, query, authority = _split(method, target)
    return RequestHead(
        method=method,
        target=target,
        path=path,
        query=query,
        host=authority or headers.get("host", ""),
        headers=headers,
        version=version,
        content_length=length,
        chunked=chunked,
        has_body=chunked or length > 0,
    )


def _framing(headers: dict[str, str], version: str) -> tuple[int, bool]:
    """Body length and whether it is chunked, of headers that have either.

    Both is smuggling (RFC 9112, section 6.3).
    """
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or version == "1.0":
            raise InvalidRequest("Transfer-Encoding with Content-Length, or in HTTP/1.0.")
        if coding.lower() != "chunked":
            raise NotImplementedHere("The only transfer coding taken is chunked.")
        return 0, True
    assert length is not None
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        raise InvalidRequest("Content-Length is not a number.")
    if headers.get("content-encoding", "identity").lower() != "identity" and int(length):
        raise UnsupportedMediaType("The body is compressed.", "Send it as it is.")
    return int(length), False


def _split(method: str, target: str) -> tuple[str, str, str]:
    """Path, query and authority of a request target (RFC 9112, section 3.2)."""
    if target.startswith("/"):
        path, _, query = target.partition("?")
        return path, query.partition("#")[0], ""
    if target == "*" and method == "OPTIONS":
        return "*", "", ""
    try:
        parts = urlsplit(target)
    except ValueError as error:
        raise InvalidRequest("The request target is malformed.") from error
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
        raise InvalidRequest("The request target is malformed.")
    return parts.path or "/", parts.query, parts.netloc
