"""One connection of a front end to one core: requests, streamed answers, and the feed's frames.

A failure of the transport becomes `CoreUnreachable`; an error that the core answers becomes the
class of `modeldeck.core.errors` that it raised. `modeldeck.core.client.client` has the requests.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from modeldeck.core.client.answers import (
    ERROR_BYTES,
    OTHER_VERSION,
    error_of,
    items,
    record,
    recorded,
    refusal,
)
from modeldeck.core.client.transport import (
    CONNECT_S,
    AnswerTimeout,
    CoreResponse,
    Transport,
    TransportFailed,
)
from modeldeck.core.errors import CoreUnreachable, DeckError

if TYPE_CHECKING:
    from ssl import SSLContext

    from websockets.asyncio.client import ClientConnection

T = TypeVar("T")

ANSWER_S = 30.0
"""For an answer that needs no long work; the slowest is one that asks the Hub twice."""
CLOSE_S = 0.5
"""For the close handshake of a feed, which does not complete while frames are unread."""
PING_S = 20.0
"""Between pings on the feed: a peer that is gone is noticed by the second one."""
FRAME_LIMIT = 64 << 20
"""Bytes of one feed frame: a State with 10,000 models takes about 8 MiB."""
ANSWER_BYTES = 256 << 20
"""Bytes of one answer: a State with 10,000 models takes about 8 MiB."""
LINE_LIMIT = 4 << 20
"""Bytes of one line of a streamed answer; the core sends a few hundred."""

REMEDY = "Start a core with `modeldeck serve`, or run the command again."


class CoreConnection:
    """Requests to the core at a Unix socket, or at a URL where no socket is given."""

    def __init__(
        self,
        socket: Path | None,
        url: str | None,
        *,
        where: str | None = None,
        token: str | None = None,
        ca_file: str | None = None,
        ping_s: float = PING_S,
    ) -> None:
        """`where` stands for the address in texts for a person; `ping_s` is between pings.

        Raises InvalidRequest for a `ca_file` that cannot be read.
        """
        assert socket or url, "a connection needs an address"
        self._socket = socket
        self._url = "http://localhost" if socket else str(url).rstrip("/")
        self.where = where or str(socket or url)
        """The address, as a person reads it."""
        self._remedy = REMEDY if where is None and url is None else ""
        self._ping_s = ping_s
        self._feed: ClientConnection | None = None
        self.client_id = token_hex(4)
        """Sent with each request: what `RequestInfo.client` has for our own."""
        self._headers = {"X-Modeldeck-Client": self.client_id}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls: SSLContext | None = None
        self._transport: Transport
        if socket:
            from modeldeck.core.client.unix_transport import UnixTransport

            self._transport = UnixTransport(socket, self._headers)
        else:
            from modeldeck.core.client.url_transport import UrlTransport

            self._transport = over_url = UrlTransport(self._url, self._headers, ca_file)
            self._tls = over_url.tls

    async def close(self) -> None:
        """Close the connections. Open streams must be left first."""
        await self._transport.close()

    async def json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = ANSWER_S,
    ) -> Any:
        """The decoded answer to a request."""
        answer = await self.answer(method, path, body, timeout_s=timeout_s)
        try:
            return msgspec.json.decode(answer)
        except msgspec.DecodeError as error:
            raise DeckError(
                f"{self.where} answered {method} {path}, and the answer is not JSON.",
                "Perhaps it is not modeldeck that answers there.",
            ) from error

    async def answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = ANSWER_S,
    ) -> bytes:
        """The body that answers a request; `timeout_s` None waits as long as the work takes.

        Every POST, PATCH and PUT has a JSON body: that is what a web page cannot send.
        """
        content = msgspec.json.encode(body or {}) if method in ("POST", "PATCH", "PUT") else None
        try:
            async with self._transport.stream(method, path, content, timeout_s) as response:
                answer = await _read(response)
        except TransportFailed as error:
            raise self.unreachable(error) from error
        if response.is_error:
            raise error_of(response, answer)
        return answer

    async def ask(
        self, kind: type[T], method: str, *path: str, body: Mapping[str, Any] | None = None
    ) -> T:
        """The record that answers a request of the native API. `path` as `native_path` takes it."""
        return record(kind, await self.json(method, native_path(*path), body))

    async def get(
        self, kind: type[T], /, *path: str, timeout_s: float | None = ANSWER_S, **query: object
    ) -> T:
        """As `ask`, with GET; a parameter of `query` that is None is not sent."""
        where = native_path(*path) + query_string(**query)
        return record(kind, await self.json("GET", where, timeout_s=timeout_s))

    async def get_list(self, kind: type[T], name: str, /, *path: str, **query: object) -> list[T]:
        """As `get`: the records in an answer that is a list, or that has one under a name."""
        answer = await self.json("GET", native_path(*path) + query_string(**query))
        return record(list[kind], items(answer, name))  # type: ignore[valid-type]  # at run time

    async def post(
        self, kind: type[T], /, *path: str, timeout_s: float | None = ANSWER_S, **body: Any
    ) -> T:
        """As `ask`, with POST and the fields of its body."""
        return record(kind, await self.json("POST", native_path(*path), body, timeout_s=timeout_s))

    @asynccontextmanager
    async def events(
        self, path: str, body: Mapping[str, Any]
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The JSON of each server-sent event that answers a POST. Leaving the block ends it."""
        content = msgspec.json.encode(body)
        try:
            async with self._transport.stream("POST", path, content, None) as response:
                if response.is_error:
                    raise error_of(response, await _read(response))
                async with aclosing(_events(response)) as events:
                    yield events
        except TransportFailed as error:
            raise self.unreachable(error) from error

    async def frames(self, max_hz: float | None) -> AsyncGenerator[str | bytes, None]:
        """Frames of one connection. Raises CoreUnreachable when it cannot be made or breaks."""
        from websockets.asyncio.client import connect, unix_connect
        from websockets.exceptions import InvalidStatus, WebSocketException

        class Connect(connect):
            """A redirection is an answer like others: the token is not sent to where it leads."""

            def process_redirect(self, exc: Exception) -> Exception | str:
                return exc

        uri = "ws" + self._url.removeprefix("http") + "/deck/feed" + query_string(max_hz=max_hz)
        options: dict[str, Any] = {
            "open_timeout": CONNECT_S,
            "close_timeout": CLOSE_S,
            "max_size": FRAME_LIMIT,
            "compression": None,
            "ping_interval": self._ping_s,
            "additional_headers": self._headers,
        }
        if self._tls is not None:
            options["ssl"] = self._tls
        try:
            async with (
                unix_connect(str(self._socket), uri, **options)
                if self._socket
                else Connect(uri, proxy=None, **options)
            ) as socket:
                self._feed = socket
                async for frame in socket:
                    yield frame
        except InvalidStatus as error:
            raise refusal(
                self.where, error.response.status_code, bytes(error.response.body)
            ) from error
        except (OSError, WebSocketException) as error:
            raise self.unreachable(error) from error

    @property
    def latency_s(self) -> float | None:
        """The round trip of the feed's last ping, what waits before it included; None before it."""
        return (self._feed.latency or None) if self._feed is not None else None

    def unreachable(self, error: Exception) -> CoreUnreachable:
        """The error to raise for a failure of the transport."""
        if isinstance(error, AnswerTimeout):
            message = f"The core at {self.where} took a request and does not answer."
            return CoreUnreachable(message, "Look at its log, or end it with `modeldeck stop`.")
        if self._socket is not None and _is_denied(error):
            return CoreUnreachable(f"This user may not use {self.where}.", _who_may(self._socket))
        reason = str(error) or type(error).__name__
        return CoreUnreachable(f"No core answers at {self.where}: {reason}.", self._remedy)


def _is_denied(error: BaseException | None) -> bool:
    """Whether the error, or one that led to it, is the system's PermissionError."""
    while error is not None:
        if isinstance(error, PermissionError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _who_may(socket: Path) -> str:
    """Who may use a socket, by the folder it lies in, as far as that can be seen."""
    folder = socket.parent
    try:
        if folder.stat().st_mode & 0o010:
            group = folder.group()
            return f"Members of {group} may: `sudo usermod -aG {group} NAME`, then log in anew."
        return f"It is {folder.owner()}'s."
    except (OSError, KeyError):
        return ""


def native_path(*segments: str) -> str:
    """Return the path of these segments, which need no quoting, in the native API.

    >>> native_path("models", "a/b", "load")
    '/deck/models/a%2Fb/load'
    """
    return "/".join(("/deck", *(quote(text, safe="") for text in segments)))


def query_string(**values: object) -> str:
    """Return a query string of the values that are not None; starts with `?` unless empty."""
    given = {name: value for name, value in values.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


async def _read(response: CoreResponse) -> bytes:
    """The whole body of an answer. Raises DeckError for one that is over the limit."""
    limit = ERROR_BYTES if response.is_error else ANSWER_BYTES
    pieces: list[bytes] = []
    size = 0
    async for piece in response.body:
        size += len(piece)
        if size > limit:
            raise DeckError(
                f"What answers sends more than {limit >> 20} MiB for one question.",
                "Perhaps it is not modeldeck that answers there.",
            )
        pieces.append(piece)
    return b"".join(pieces)


async def _events(response: CoreResponse) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON in server-sent events (WHATWG HTML, section 9.2), one line each, up to `[DONE]`.

    Lines are split as bytes: `str.splitlines` also breaks at U+2028, which JSON allows.
    """
    rest = b""
    async for piece in response.body:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > LINE_LIMIT:
            raise DeckError("The core sent a line without an end.")
        for line in lines:
            data = line.strip()
            if data == b"data: [DONE]":
                return
            if data.startswith(b"data:"):
                event = _event(data.removeprefix(b"data:"))
                if "error" in event:
                    raise recorded(event["error"], "The answer broke off.")
                yield event


def _event(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DeckError("The answer broke off: an event is not JSON.", OTHER_VERSION) from error
