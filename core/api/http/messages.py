"""What a handler gets and gives: requests, answers and sockets, without any I/O.

A handler is `async def name(deck, request) -> Response | StreamResponse`; one that never waits may
be a plain `def` that returns a `Response`, and is then answered without a task of its own. It
answers with `json_response`, `text_response` or `no_content`. For an expected failure it raises
(or lets pass) a `modeldeck.core.errors.DeckError`; the connection turns that into an answer in the
style of the route (`Route.error_style`):

- `json`: `{"error": {"code", "message", "remedy", "details"}}` with the error's own status.
- `text`: `text/plain`, the message and the remedy in words, as the documented API declares it. The
  status is 500, or what `Route.statuses` gives for the error's class.
- `openai`: `{"error": {"message", "type", "param", "code"}}` with the error's own status.
- `ollama`: `{"error": "message and remedy"}` with the error's own status.

What the listener refuses before a handler sees it (403, 404, 405, 413, 415 and the like) has the
same style and always its own status.

Anything else that a handler raises is a bug: it is logged with its traceback, and the caller gets a
500 that does not repeat it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import msgspec

from modeldeck.core.api.http.websocket_frames import TextFrame
from modeldeck.core.errors import Busy, DeckError, InvalidRequest, TooManyRequests, Unauthorized
from modeldeck.core.schema import ErrorInfo
from modeldeck.core.schema.errors import to_info

if TYPE_CHECKING:
    from modeldeck.core.api.http.meter import RequestMetrics

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
EVENTS = "text/event-stream; charset=utf-8"
NDJSON = "application/x-ndjson"

_FIELD = re.compile(r"at `\$\.([A-Za-z_]+)")
"""Where msgspec says which field of a body is not as it should be."""

JSON_DEPTH = 64
"""Levels of arrays and objects in a body. Ours need 5, a tool's JSON schema in a chat about 15."""

ErrorStyle = Literal["json", "text", "openai", "ollama"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, its head checked and its body read."""

    method: str
    path: str
    """As it came: percent-encoded, without the query."""
    params: Mapping[str, str] = field(default_factory=dict)
    """The `{name}` segments of the route's template, decoded. Any text at all can be in here."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Query parameters, decoded; of a repeated one the last."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; values of a repeated one joined by a comma."""
    body: bytes = b""
    origin: str = ""
    """Who asks, for the audit: `unix uid=1000`, or the peer's address; and its token's name."""
    id: str = ""
    """Of the request, as the log has it: `X-Request-Id`, given or made."""
    meter: RequestMetrics | None = None
    """Counters of the listener that took it."""

    def json(self) -> Any:
        """The body as JSON; None where it is empty. Raises InvalidRequest."""
        if not self.body.strip():
            return None
        try:
            value = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"The body is not JSON: {error}.", "Send valid JSON.") from error
        if self.body.count(b"[") + self.body.count(b"{") > JSON_DEPTH:
            _check_depth(value)
        return value

    def parse(self, type_: type[T]) -> T:
        """The body as a record of `type_`; an empty body counts as `{}`. Raises InvalidRequest.

        The message names the field. Unknown fields are ignored.
        """
        value = self.json()
        return convert({} if value is None else value, type_, "The body")

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


def _check_depth(value: object) -> None:
    """Refuse what is nested deeper than `JSON_DEPTH`, without recursion of our own."""
    level: list[object] = [value]
    for _ in range(JSON_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise InvalidRequest(f"The body is nested deeper than {JSON_DEPTH} levels.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer whose body is whole."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = JSON
    """None where there is no body."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers. Length, date and connection are the connection's business."""
    kept: bool = False
    """Whether the very same bytes are given until they change: worth an ETag and a copy that is
    compressed once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResponse:
    """An answer whose body comes in pieces, each sent as soon as it is there.

    `chunks` is closed (`aclose`) when the peer goes away or the core stops, so its `finally` blocks
    and `async with` run at once, in the task that iterates it: the one the handler ran in. A
    handler that takes the first piece itself, to be able to fail with a status, hands it on as
    `first`.
    """

    chunks: AsyncGenerator[bytes, None]
    first: bytes = b""
    status: int = 200
    content_type: str = EVENTS
    headers: tuple[tuple[str, str], ...] = ()


class WebSocket(Protocol):
    """One socket, as its handler sees it.

    The handler runs in a task that is cancelled when the peer goes away or the core stops, so it
    needs no watch of its own: it may simply send for ever. What the peer sends is read (pings are
    answered) and dropped, unless the handler `hears`.
    """

    async def accept(self, *, hears: bool = False) -> None:
        """Finish the handshake. A DeckError raised before it is answered as plain HTTP.

        A handler that `hears` takes what the peer sends with `receive`; a peer that sends more than
        it takes is not read any further until it does.
        """

    async def send(self, text: TextFrame | bytes | str) -> None:
        """Send one text message; waits while the peer reads too slowly.

        What many sockets get is a `TextFrame`, which is framed and deflated once for all of them.
        """

    def post(self, message: TextFrame) -> bool:
        """Send one at once; False where that would have to wait, and nothing is sent then."""

    async def receive(self) -> str | bytes:
        """The next message of the peer: text, or bytes where it sent those."""

    def ping(self, answered: Callable[[], None]) -> None:
        """Send a ping; `answered` is called when the peer's answer to it comes, if ever."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake. A handler that returns does so by itself, with 1000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Response):
    """An answer whose head is written already, but for what differs from request to request."""

    start: bytes


class CachedEncoding(Generic[T]):
    """What was made of an immutable value, such as its JSON, until another value is asked for.

    Clients poll, and making the answer costs far more than sending it. The value is compared by
    identity: records and State are never changed in place.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._value: object = self
        self._made: T

    def of(self, value: object) -> T:
        """What is made of this value."""
        if value is not self._value:
            self._made, self._value = self._make(value), value
        return self._made


def json_response(
    value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """An answer in JSON. `value` may be a record or hold records."""
    return Response(status=status, body=msgspec.json.encode(value), headers=headers)


def text_response(text: str, status: int = 200) -> Response:
    """An answer in plain text."""
    return Response(status=status, body=text.encode(errors="replace"), content_type=TEXT)


def no_content() -> Response:
    """The answer 204."""
    return Response(status=204, content_type=None)


def event(data: bytes) -> bytes:
    """One server-sent event. `data` has no line breaks, as JSON has none.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    return b"data: " + data + b"\n\n"


def line(data: bytes) -> bytes:
    """One line of a stream of JSON objects."""
    return data + b"\n"


def error_response(
    error: DeckError, style: ErrorStyle, status: int | None = None, request_id: str = ""
) -> Response:
    """The answer to a failure, in the route's style; `status` instead of the error's own.

    Only our own style has a place for the id of the request; the others have it in the head.
    """
    status = status or error.status
    if style == "text":
        answer = text_response(str(error), status)
    elif style == "openai":
        answer = json_response({"error": _openai_error(to_info(error), status)}, status)
    elif style == "ollama":
        answer = json_response({"error": str(error)}, status)
    else:
        said = {"request_id": request_id} if request_id else {}
        answer = json_response({"error": {**msgspec.to_builtins(to_info(error)), **said}}, status)
    headers = _telling(error)
    return replace(answer, headers=headers) if headers else answer


def _telling(error: DeckError) -> tuple[tuple[str, str], ...]:
    """Headers that say what to do about an error."""
    if isinstance(error, TooManyRequests):
        return (("Retry-After", str(error.retry_after_s)),)
    if isinstance(error, Busy):
        return (("Retry-After", "1"),)
    if isinstance(error, Unauthorized):
        return (("WWW-Authenticate", 'Bearer realm="modeldeck"'),)
    return ()


def _openai_error(info: ErrorInfo, status: int) -> dict[str, str | None]:
    """The error object of the OpenAI API (platform.openai.com/docs/guides/error-codes)."""
    kinds = {401: "authentication_error", 403: "permission_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = "model_not_found" if info.code == "not_found" else info.code
    message = f"{info.message} {info.remedy}".strip()
    named = _FIELD.search(info.message)
    param = named[1] if named else None
    return {"message": message, "type": kind, "param": param, "code": code}


def reason(status: int) -> str:
    """The reason phrase of a status line."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request" if status == 499 else "Unknown"
