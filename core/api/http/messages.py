"""Requests, responses and WebSockets as handlers use them. No I/O.

A handler is `async def name(deck, request) -> Response | StreamResponse`; one that never waits may
be a plain `def` that returns a `Response`, and is then answered without a task of its own. It
returns `json_response`, `text_response` or `no_content`. For an expected failure it raises (or lets
pass) a `modeldeck.core.errors.DeckError`; the connection answers with that error in the style of
the route (`Route.error_style`):

- `json`: `{"error": {"code", "message", "remedy", "details"}}` with the error's own status.
- `text`: `text/plain`, message and remedy, as the documented API declares it. The status is 500, or
  what `Route.statuses` gives for the error's class.
- `openai`: `{"error": {"message", "type", "param", "code"}}` with the error's own status.
- `anthropic`: `{"type": "error", "error": {"type", "message"}, "request_id"}` with its own status,
  but 529 where too much is waiting.
- `ollama`: `{"error": "message and remedy"}` with the error's own status.

Refusals of the listener itself (403, 404, 405, 413, 415 and the like) have the same style and
always their own status.

Any other exception of a handler is a bug: it is logged with its traceback, and the client gets a
500 that does not repeat it.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, get_args

import msgspec

from modeldeck.core.api.http.error_forms import ErrorStyle, body_of, headers_of, status_of
from modeldeck.core.api.http.json_body import decode
from modeldeck.core.api.http.websocket_frames import TextFrame
from modeldeck.core.errors import DeckError, InvalidRequest
from modeldeck.core.schema import Priority, Requester

if TYPE_CHECKING:
    from modeldeck.core.api.http.meter import RequestMetrics

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
EVENTS_TYPE = "text/event-stream"
EVENTS = f"{EVENTS_TYPE}; charset=utf-8"
NDJSON = "application/x-ndjson"

_CLIENT = re.compile(r"[0-9a-f]{8}")
"""Id that a front end of ours sends with its requests."""
_PROGRAM = re.compile(r"[A-Za-z][A-Za-z_.-]{0,23}(/[0-9][0-9.]{0,11})?(?![\w/])")
"""The beginning of `User-Agent` that is kept: a program's name and its version, nothing else."""

GZIP_LEVEL = 1
"""zlib's level: the higher ones take three times as long for a tenth less of JSON."""

T = TypeVar("T")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, its head checked and its body read.

    A Struct is created in an eighth of the time of a frozen dataclass.
    """

    method: str
    path: str
    """As sent: percent-encoded, without the query."""
    params: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The `{name}` segments of the route's template, decoded. Untrusted text."""
    query: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Query parameters, decoded; the last value of a repeated one."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Names in lower case; values of repeated headers joined by commas."""
    body: bytes | bytearray = b""
    """Empty where `value` is set."""
    value: Any = msgspec.UNSET
    """The decoded body, where that was done in advance: large ones are decoded in a thread."""
    origin: str = ""
    """The caller, for the audit: `unix uid=1000` or the peer's address, and its token's name."""
    owner: str = ""
    """Id of the token that it came with; empty for this machine's own user, who needs none."""
    who: str = "local"
    """Name of the caller's token, or of its program with the process id where that is known."""
    only_batch: bool = False
    """Whether the caller's token is for batch requests only."""
    id: str = ""
    """Request id of the log: `X-Request-Id`, given by the client or made here."""
    meter: RequestMetrics | None = None
    """Counters of the listener that received it."""

    def json(self) -> Any:
        """The body as JSON; None where it is empty. Raises InvalidRequest."""
        return decode(self.body) if self.value is msgspec.UNSET else self.value

    def parse(self, type_: type[T]) -> T:
        """The body as a record of `type_`; an empty body counts as `{}`. Raises InvalidRequest.

        The message names the field. Unknown fields are ignored.
        """
        value = self.json()
        return convert({} if value is None else value, type_, "The body")

    def requester(self, dialect: str, priority: Priority | int | None = None) -> Requester:
        """The caller as one who asks a model through a dialect. Raises InvalidRequest.

        The priority is that of the body, else of the header `X-Modeldeck-Priority`. A number is
        taken as vLLM has it: above 0 comes later. A token for batches allows no other.
        """
        said = self.headers.get("x-modeldeck-priority", "").strip().lower()
        if said not in ("", *get_args(Priority)):
            raise InvalidRequest(
                f"X-Modeldeck-Priority cannot be {said[:40]!r}.", "It is interactive or batch."
            )
        if isinstance(priority, int):
            priority = "batch" if priority > 0 else "interactive"
        is_batch = self.only_batch or (priority or said) == "batch"
        client = self.headers.get("x-modeldeck-client", "")
        program = _PROGRAM.match(self.headers.get("user-agent", ""))
        return Requester(
            origin=self.origin,
            who=self.who,
            dialect=dialect,
            priority="batch" if is_batch else "interactive",
            client=client if _CLIENT.fullmatch(client) else "",
            program=program[0] if program else "",
        )

    def number(self, name: str, default: T) -> int | T:
        """A whole number among the query parameters, else `default`. Raises InvalidRequest."""
        text = self.query.get(name)
        if text is None or text == "":
            return default
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19):
            raise InvalidRequest(f"{name} is not a whole number: {text[:40]!r}.")
        return int(text)


def convert(value: object, type_: type[T], what: str) -> T:
    """`value` (from JSON) as a record of `type_`. Raises InvalidRequest naming the field."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"{what} is not as it should be: {error}.", "Mend the field that is named."
        ) from error


def gzipped(data: bytes) -> bytes:
    """`data` in the gzip format (RFC 1952)."""
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response with a complete body."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = JSON
    """None where there is no body."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers. `Content-Length`, `Date` and `Connection` are added by the connection."""
    shared: SharedBody | None = None
    """Set where many clients get the same body: the response then has an ETag, and its gzip copy is
    made once."""


class SharedBody:
    """A JSON body that many clients get, and the responses with it, each made when first needed.

    The ETag is weak (RFC 9110, section 8.8.1): the same for the body and its gzip copy. It is a
    hash of the content, so it holds across restarts of the core.
    """

    def __init__(self, data: bytes) -> None:
        self.etag = f'W/"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
        headers = (("ETag", self.etag), ("Vary", "Accept-Encoding"))
        self.response = Response(body=data, headers=headers, shared=self)
        self.unchanged = replace(self.response, status=304, body=b"", content_type=None)
        self._gzipped: Response | None = None

    @property
    def is_gzipped(self) -> bool:
        """Whether `gzipped` is made already."""
        return self._gzipped is not None

    @property
    def gzipped(self) -> Response:
        """The response with the gzip copy. Takes milliseconds for a body of hundreds of KiB."""
        if self._gzipped is None:
            headers = (*self.response.headers, ("Content-Encoding", "gzip"))
            body = gzipped(self.response.body)
            self._gzipped = replace(self.response, body=body, headers=headers)
        return self._gzipped


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResponse:
    """A response whose body is streamed: each chunk is sent as soon as it is made.

    `chunks` is closed (`aclose`) when the client goes away or the core stops, so its `finally`
    blocks and `async with` run at once, in the task that iterates it: the one the handler ran in. A
    handler that makes the first chunk itself, to be able to fail with a status, passes it as
    `first`.
    """

    chunks: AsyncGenerator[bytes, None]
    first: bytes = b""
    status: int = 200
    content_type: str = EVENTS
    headers: tuple[tuple[str, str], ...] = ()


class WebSocket(Protocol):
    """One WebSocket, as its handler uses it.

    The handler runs in a task that is cancelled when the client goes away or the core stops, so it
    may simply send for ever. Messages of the client are read (pings are answered) and dropped,
    unless the handler accepts with `receives=True`.
    """

    async def accept(self, *, receives: bool = False) -> None:
        """Finish the handshake. A DeckError raised before it is answered as plain HTTP.

        With `receives=True` messages of the client are kept for `receive`; while too many wait,
        reading pauses.
        """

    async def send(self, text: TextFrame | bytes | str) -> None:
        """Send one text message; waits while the client reads too slowly. Raises PeerGone.

        For a message to many clients use a `TextFrame`, which is framed and deflated once.
        """

    def post(self, message: TextFrame) -> bool:
        """Send without waiting; False, with nothing sent, where that is not possible now."""

    async def receive(self) -> str | bytes:
        """The next message of the client, text or binary. Raises PeerGone."""

    def ping(self, answered: Callable[[], None]) -> None:
        """Send a ping; `answered` is called when its pong arrives."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake. After the handler returns this is done with 1000."""


class CachedEncoding(Generic[T]):
    """Memo of the encoding of the newest value: `of` encodes again only for another value.

    Clients poll, and encoding the State costs far more than sending it. Values are compared by
    identity: records and State are never changed in place.
    """

    def __init__(self, encode: Callable[[Any], T]) -> None:
        self._encode = encode
        self._value: object = self
        self._encoded: T

    def of(self, value: object) -> T:
        """The encoding of `value`."""
        if value is not self._value:
            self._encoded, self._value = self._encode(value), value
        return self._encoded


def json_response(
    value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """A JSON response. `value` may be a record or contain records."""
    return Response(status=status, body=msgspec.json.encode(value), headers=headers)


def text_response(text: str, status: int = 200) -> Response:
    """A plain text response."""
    return Response(status=status, body=text.encode(errors="replace"), content_type=TEXT)


def no_content() -> Response:
    """Status 204 without a body."""
    return Response(status=204, content_type=None)


def event(data: bytes, name: str = "") -> bytes:
    """One server-sent event, with its name if it has one. `data` has no line breaks: JSON has none.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    first = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (first, data)


def line(data: bytes) -> bytes:
    """One line of a stream of JSON objects."""
    return data + b"\n"


def error_response(
    error: DeckError, style: ErrorStyle, status: int | None = None, request_id: str = ""
) -> Response:
    """The response to an error, in the route's style; `status` replaces the error's own.

    The request id is in the head; our own style and Anthropic's have it in the body as well.
    """
    status = status or status_of(error, style)
    body = body_of(error, style, status, request_id)
    answer = text_response(body, status) if style == "text" else json_response(body, status)
    headers = headers_of(error, status)
    return replace(answer, headers=headers) if headers else answer


def reason(status: int) -> str:
    """The reason phrase of a status line."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request" if status == 499 else "Unknown"
