"""The way in: bytes become requests that are judged, and then handled or refused.

httptools parses; `modeldeck.core.api.http.request_head` and `modeldeck.core.api.http.origin_checks`
are strict where it is not. A request is judged when its head is complete. When one is refused and a
body was to follow, nothing more is taken from that client.
"""

from __future__ import annotations

import inspect
import time
from collections import deque
from dataclasses import dataclass, field, replace

import httptools

from modeldeck.core.api.http.access import Caller, ListenAddress
from modeldeck.core.api.http.limits import Deadline
from modeldeck.core.api.http.messages import Response, error_response
from modeldeck.core.api.http.origin_checks import check, preflight_headers
from modeldeck.core.api.http.request_head import RequestHead, read
from modeldeck.core.api.http.router import Route
from modeldeck.core.api.http.server_state import ServerState, log
from modeldeck.core.errors import (
    Busy,
    DeckError,
    HeadTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    ShuttingDown,
    TooLarge,
)
from modeldeck.core.schema.state import State

SLICE = 16 << 10
"""Bytes given to the parser at a time, so that a long head is noticed while it is still short."""


STEP = 64 << 10
"""Bytes of a body between two looks at what all bodies take together."""


@dataclass(slots=True)
class PendingRequest:
    """One request on its way in, and what is needed to answer it."""

    head: RequestHead | None = None
    route: Route | None = None
    params: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    caller: Caller | None = None
    """None where it was refused before that was known."""
    failure: Response | None = None
    """Set when it is refused; no handler sees it then."""
    settled: tuple[State, Response] | None = None
    """What it was answered with, and of which State that told: for when it is repeated."""
    id: str = ""
    began: float = field(default_factory=time.perf_counter)
    keep_alive: bool = False
    upgrade: bool = False
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    awaits_continue: bool = False

    @property
    def may_repeat(self) -> bool:
        """Whether the same bytes again would be the same request: judged by them alone."""
        return (
            self.complete
            and self.failure is None
            and self.keep_alive
            and not self.upgrade
            and self.head is not None
            and self.head.method == "GET"
            and self.caller is not None
            and self.caller.token is None
            and "x-request-id" not in self.head.headers
            and self.route is not None
            and not inspect.iscoroutinefunction(self.route.handler)
        )


class RequestParser:
    """Reads the requests of one connection into `queue`, in order."""

    def __init__(
        self, site: ServerState, deadline: Deadline, door: ListenAddress, peer: str
    ) -> None:
        """`deadline` is set to the time by which more must come; the caller sets it in between."""
        self.queue: deque[PendingRequest] = deque()
        """Requests that are complete or refused; the last one may still be coming in."""
        self.deaf = False
        """True when nothing more is taken from this client."""
        self.early: bytes | None = None
        """What came after the head of an upgrade; None as long as there was none."""
        self._site = site
        self._deadline = deadline
        self._door = door
        self._peer = peer
        self._parser = httptools.HttpRequestParser(self)
        self._incoming: PendingRequest | None = None
        self._raw_target = b""
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._in_head = False

    @property
    def amid(self) -> bool:
        """Whether a request has begun and is not complete."""
        return not self.deaf and (self._in_head or self._incoming is not None)

    @property
    def full(self) -> bool:
        """Whether enough was read ahead."""
        limits = self._site.limits
        if self.early is not None:
            return len(self.early) > limits.message_bytes
        if not self.queue:
            return False
        ahead = sum(len(exchange.body) for exchange in self.queue if exchange.complete)
        return len(self.queue) >= limits.pipelined or ahead > limits.ahead_bytes

    @property
    def held_bytes(self) -> int:
        """Of bodies that wait or come in."""
        return sum(len(exchange.body) for exchange in self.queue)

    def end(self) -> None:
        """The client sends no more: forget a request that is not complete."""
        if self._incoming is not None:
            self.queue.pop()
            self._incoming = None
        self._in_head = False
        self.deaf = True
        self._deadline.clear()

    def feed(self, data: memoryview) -> None:
        """Take bytes from the client; what is not HTTP is answered with 400."""
        if self.early is not None:
            self.early += bytes(data)
            return
        try:
            for start in range(0, len(data), SLICE):
                if not self.deaf:
                    self._measure_slice(data[start : start + SLICE])
                    at = start
                    self._parser.feed_data(data[start : start + SLICE])
        except httptools.HttpParserUpgrade as upgrade:
            if self.queue and self.queue[-1].upgrade:
                self.early = bytes(data[at + upgrade.args[0] :])
            self.deaf = self.early is None
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError):
                log.error("The listener failed.", exc_info=error)
            if not self.deaf:
                self.refuse(InvalidRequest(f"The request is not HTTP: {error}."))

    def _measure_slice(self, data: memoryview) -> None:
        """Count what the parser holds back until a header is complete."""
        if self._in_head and self._head_size > self._site.limits.head_bytes:
            self.refuse(HeadTooLarge("The head is over the limit."))
        self._head_size += len(data) if self._in_head else 0

    def _measure(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._site.limits.head_bytes and not self.deaf:
            self.refuse(HeadTooLarge("The head is over the limit."))

    def _judge(self) -> PendingRequest:
        """What becomes of the request whose head is there."""
        method, version = self._parser.get_method().decode(), self._parser.get_http_version()
        exchange = PendingRequest()
        try:
            head = read(method, self._raw_target.decode("latin-1"), self._raw_headers, version)
        except DeckError as error:
            self._fail(exchange, error)
            return exchange
        tokens = head.headers.get("connection", "").lower().replace(" ", "").split(",")
        exchange.head = head
        exchange.id = self._site.journal.id(head.headers.get("x-request-id"))
        exchange.keep_alive = "close" not in tokens and (version == "1.1" or "keep-alive" in tokens)
        try:
            self._route(exchange, head)
        except DeckError as error:
            failure = self._fail(exchange, error)
            if isinstance(error, MethodNotAllowed):
                allow = ", ".join(self._site.router.allowed(head.path))
                exchange.failure = replace(failure, headers=(("Allow", allow),))
        return exchange

    def _fail(self, exchange: PendingRequest, error: DeckError) -> Response:
        """Answer this one with an error."""
        exchange.id = exchange.id or self._site.journal.id(None)
        style = exchange.route.error_style if exchange.route else "json"
        exchange.failure = error_response(error, style, request_id=exchange.id)
        return exchange.failure

    def _route(self, exchange: PendingRequest, head: RequestHead) -> None:
        """Find the route and check everything that can be checked without a body."""
        site, door = self._site, self._door
        missing: DeckError | None = None
        try:
            exchange.route, exchange.params = self._site.router.match(head.method, head.path)
        except DeckError as error:
            missing = error
        check(head, door.policy, over_unix=door.is_socket)
        if head.method == "OPTIONS":
            allow = ", ".join(self._site.router.allowed(head.path)) or "GET, HEAD, OPTIONS"
            headers = (("Allow", allow), *preflight_headers(head))
            exchange.failure = Response(status=204, content_type=None, headers=headers)
            return
        needs = exchange.route.needs if exchange.route is not None else "read"
        exchange.caller = site.access.caller(head, door, self._peer, needs)
        if missing is not None:
            raise missing
        site.access.check(exchange.caller, needs, head.method, door)
        if site.stopping:
            raise ShuttingDown("The core is stopping.", "Ask again when it runs.")
        assert exchange.route is not None
        exchange.query = head.fields() if head.query else {}
        if head.content_length > (limit := self._body_limit(exchange.route)):
            raise TooLarge(f"The body is over the limit of {limit} bytes.")
        if self._parser.should_upgrade():
            self._upgrade(exchange, head, exchange.route)
        elif exchange.route.handler is None:
            exchange.failure = _upgrade_required()

    def _upgrade(self, exchange: PendingRequest, head: RequestHead, route: Route) -> None:
        """The client wants another protocol: WebSocket where the route has it, else it is ignored.

        The parser takes no body after such a head, so one would be read as the next request.
        """
        if head.has_body or head.method == "CONNECT":
            exchange.keep_alive = False
            raise InvalidRequest("An upgrade with a body.")
        exchange.upgrade = head.wants_websocket and route.socket is not None
        exchange.keep_alive = False
        if not exchange.upgrade and route.handler is None:
            exchange.failure = _upgrade_required()

    def _body_limit(self, route: Route) -> int:
        return route.max_body_bytes or self._site.limits.body_bytes

    def refuse(self, error: DeckError) -> None:
        """Answer the request that is coming in with an error, and take nothing more."""
        exchange = self._incoming
        if exchange is None:
            exchange = PendingRequest()
            self.queue.append(exchange)
        self._fail(exchange, error)
        self._turn_deaf(exchange)

    def _turn_deaf(self, exchange: PendingRequest) -> None:
        exchange.complete = True
        exchange.keep_alive = False
        self._incoming = None
        self.deaf = True
        self._deadline.clear()

    # What the parser calls

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._raw_target = b""
        self._raw_headers = []
        self._head_size = 0
        self._in_head = True
        if not self.deaf:
            self._deadline.set(self._site.limits.head_s)

    def on_url(self, part: bytes) -> None:
        """A piece of the request target."""
        self._raw_target += part
        self._measure(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer, which is only counted."""
        if self._in_head:
            self._raw_headers.append((name, value))
        self._measure(len(name) + len(value or b"") + 4)

    def on_headers_complete(self) -> None:
        """The head is there: judge it."""
        self._in_head = False
        if self.deaf:
            return
        exchange = self._judge()
        self._incoming = exchange
        self.queue.append(exchange)
        head = exchange.head
        if exchange.failure is not None and (head is None or head.has_body):
            self._turn_deaf(exchange)
        elif head is not None and head.has_body:
            exchange.awaits_continue = head.expects_continue
            self._deadline.set(self._site.limits.body_s)

    def on_body(self, part: bytes) -> None:
        """A piece of the body."""
        exchange = self._incoming
        if self.deaf or exchange is None or exchange.route is None:
            return
        exchange.awaits_continue = False
        before = len(exchange.body)
        exchange.body += part
        if len(exchange.body) > self._body_limit(exchange.route):
            self.refuse(TooLarge("The body is over the limit."))
        elif before // STEP != len(exchange.body) // STEP and self._site.is_laden:
            self.refuse(Busy("Too much is coming in at once.", "Try again in a moment."))

    def on_message_complete(self) -> None:
        """The request is whole."""
        exchange = self._incoming
        if self.deaf or exchange is None:
            return
        exchange.complete = True
        self._incoming = None
        self._deadline.clear()
        self.deaf = not exchange.keep_alive and not exchange.upgrade


def _upgrade_required() -> Response:
    """The answer to a plain request where only sockets are served (RFC 9110, section 15.5.22)."""
    error = InvalidRequest("This path takes WebSockets.", "Open it with ws:// instead of http://.")
    answer = error_response(error, "json", 426)
    return replace(answer, headers=(("Upgrade", "websocket"), ("Connection", "Upgrade")))
