"""Parses the requests of one connection and checks each one when its head is complete.

httptools parses; `modeldeck.core.api.http.request_head` and `modeldeck.core.api.http.origin_checks`
are strict where it is not. After a refusal of a request with a body, no further input is parsed.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace

import httptools
import msgspec

from modeldeck.core.api.http.access import Caller, ListenAddress
from modeldeck.core.api.http.messages import Request, Response, error_response
from modeldeck.core.api.http.meter import RequestMetrics
from modeldeck.core.api.http.origin_checks import check, preflight_headers
from modeldeck.core.api.http.request_head import RequestHead, read
from modeldeck.core.api.http.router import Route
from modeldeck.core.api.http.server_state import ServerState, log
from modeldeck.core.concurrency.deadline import Deadline
from modeldeck.core.errors import (
    Busy,
    DeckError,
    HeadTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    ShuttingDown,
    TooLarge,
)

SLICE = 16 << 10
"""Bytes given to the parser at a time, so that an overlong head is noticed early."""

STEP = 64 << 10
"""Bytes of a body between two checks of `ConnectionLimits.held_bytes`."""


class PendingRequest(msgspec.Struct, eq=False):
    """One request from its head to its response. A Struct, for the reason given at `Request`."""

    head: RequestHead | None = None
    route: Route | None = None
    params: dict[str, str] = {}
    query: dict[str, str] = {}
    caller: Caller | None = None
    """None where the request was refused before its caller was known."""
    failure: Response | None = None
    """The refusal, where the request is refused; no handler is called then."""
    id: str = ""
    began: float = msgspec.field(default_factory=time.perf_counter)
    keep_alive: bool = False
    upgrade: bool = False
    body: bytes | bytearray = b""
    size: int = 0
    """Bytes of the body, also after it was decoded: what was made of it stays until the answer."""
    complete: bool = False
    awaits_continue: bool = False
    """Whether the client waits for `100 Continue` before it sends the body."""

    def request(self, program: str, meter: RequestMetrics) -> Request:
        """The request for its handler; `program` is that of a caller without a token."""
        head, caller = self.head, self.caller
        assert head is not None
        assert caller is not None
        token = caller.token
        return Request(
            method=head.method,
            path=head.path,
            params=self.params,
            query=self.query,
            headers=head.headers,
            body=self.body,
            origin=caller.name,
            owner=token.id if token is not None else "",
            who=token.name if token is not None else program,
            only_batch=token is not None and token.priority == "batch",
            id=self.id,
            meter=meter,
        )


class RequestParser:
    """Parses the requests of one connection into `queue`, in order."""

    __slots__ = (  # see `HttpConnection`
        *("queue", "input_closed", "early", "_server", "_limits", "_deadline", "_address", "_peer"),
        *("_parser", "_incoming", "_raw_target", "_raw_headers", "_head_size", "_fed"),
        *("_in_head", "_allowed_s"),
    )

    def __init__(
        self, server: ServerState, deadline: Deadline, address: ListenAddress, peer: str
    ) -> None:
        """`deadline` is set for each head and body; the caller sets it between requests."""
        self.queue: deque[PendingRequest] = deque()
        """Requests that are complete or refused; the last one may still be coming in."""
        self.input_closed = False
        """True when no further bytes are parsed."""
        self.early: bytes | None = None
        """Bytes after the head of an upgrade; None where no upgrade was requested."""
        self._server = server
        self._limits = server.limits
        self._deadline = deadline
        self._address = address
        self._peer = peer
        self._parser = httptools.HttpRequestParser(self)
        self._incoming: PendingRequest | None = None
        self._raw_target = b""
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        """Bytes of the target, the headers and the trailers that are complete."""
        self._fed = 0
        """Bytes of the input since the head began or a piece of the body came."""
        self._in_head = False
        self._allowed_s: float | None = None
        """Time limit of the head or body that has just begun; it starts when the input was parsed:
        most requests are complete by then and need none."""

    @property
    def mid_request(self) -> bool:
        """Whether a request has begun and is not complete."""
        return not self.input_closed and (self._in_head or self._incoming is not None)

    @property
    def is_full(self) -> bool:
        """Whether reading should pause: the limits for requests read ahead are reached."""
        limits = self._limits
        if self.early is not None:
            return len(self.early) > limits.message_bytes
        if not self.queue:
            return False
        ahead = sum(pending.size for pending in self.queue if pending.complete)
        return len(self.queue) >= limits.pipelined or ahead > limits.ahead_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of all bodies in the queue."""
        return sum(pending.size for pending in self.queue)

    def end(self) -> None:
        """The client closed its side: drop a request that is not complete."""
        if self._incoming is not None:
            self.queue.pop()
            self._incoming = None
        self._in_head = False
        self.input_closed = True
        self._deadline.clear()

    def feed(self, data: memoryview) -> None:
        """Parse bytes of the client; a 400 is queued where they are not HTTP."""
        if self.early is not None:
            self.early += bytes(data)
            return
        at = 0
        try:
            while at < len(data) and not self.input_closed:
                if self._in_head or self._incoming is not None:
                    self._measure_input(len(data) - at)
                self._parser.feed_data(data[at : at + SLICE])
                at += SLICE
        except httptools.HttpParserUpgrade as upgrade:
            if self.queue and self.queue[-1].upgrade:
                self.early = bytes(data[at + upgrade.args[0] :])
            self.input_closed = self.early is None
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError):
                log.error("The listener failed.", exc_info=error)
            if not self.input_closed:
                self.refuse(InvalidRequest(f"The request is not HTTP: {error}."))
        if self._allowed_s is not None:
            self._deadline.set(self._allowed_s)
            self._allowed_s = None

    def _measure_input(self, size: int) -> None:
        """Bound what the parser buffers until a header or a trailer is complete."""
        if self._fed > self._limits.head_bytes:
            self._refuse_head()
        self._fed += min(size, SLICE)

    def _refuse_head(self) -> None:
        if not self.input_closed:
            self.refuse(HeadTooLarge("The head is over the limit."))

    def _check_head(self) -> PendingRequest:
        """The request whose head is complete, routed, or with its refusal."""
        method, version = self._parser.get_method().decode(), self._parser.get_http_version()
        pending = PendingRequest()
        try:
            head = read(method, self._raw_target.decode("latin-1"), self._raw_headers, version)
        except DeckError as error:
            self._fail(pending, error)
            return pending
        pending.head = head
        pending.id = self._server.access_log.id(head.headers.get("x-request-id"))
        pending.keep_alive = head.keeps_alive
        try:
            self._route(pending, head)
        except DeckError as error:
            failure = self._fail(pending, error)
            if isinstance(error, MethodNotAllowed):
                allow = ", ".join(self._server.router.allowed(head.path))
                pending.failure = replace(failure, headers=(("Allow", allow),))
        return pending

    def _fail(self, pending: PendingRequest, error: DeckError) -> Response:
        """Set the refusal of this request."""
        pending.id = pending.id or self._server.access_log.id(None)
        pending.failure = error_response(
            error, self._server.error_style(pending.route, pending.head), request_id=pending.id
        )
        return pending.failure

    def _route(self, pending: PendingRequest, head: RequestHead) -> None:
        """Find the route and check what can be checked without a body. Raises DeckError."""
        server, address = self._server, self._address
        missing: DeckError | None = None
        try:
            pending.route, pending.params = server.router.match(
                head.method, head.path, head.headers
            )
        except DeckError as error:
            missing = error
        check(head, address.policy, over_unix=address.is_socket)
        if head.method == "OPTIONS":
            allow = ", ".join(self._server.router.allowed(head.path)) or "GET, HEAD, OPTIONS"
            headers = (("Allow", allow), *preflight_headers(head))
            pending.failure = Response(status=204, content_type=None, headers=headers)
            return
        needs = pending.route.needs if pending.route is not None else "read"
        pending.caller = caller = server.access.caller(head, address, self._peer, needs)
        if missing is not None:
            raise missing
        server.access.check(caller, needs, head.method, address)
        if server.stopping:
            raise ShuttingDown("The core is stopping.", "Ask again when it runs.")
        assert pending.route is not None
        pending.query = head.fields() if head.query else {}
        if head.has_body and head.content_length > (limit := self._body_limit(pending.route)):
            raise _too_large(pending.route, limit)
        if self._parser.should_upgrade():
            self._upgrade(pending, head, pending.route)
        elif pending.route.handler is None:
            pending.failure = _upgrade_required()

    def _upgrade(self, pending: PendingRequest, head: RequestHead, route: Route) -> None:
        """Accept an upgrade to WebSocket where the route has a socket; ignore other upgrades.

        Raises InvalidRequest for one with a body: the parser would read that as the next request.
        """
        if head.has_body or head.method == "CONNECT":
            pending.keep_alive = False
            raise InvalidRequest("An upgrade with a body.")
        pending.upgrade = head.wants_websocket and route.socket is not None
        pending.keep_alive = False
        if not pending.upgrade and route.handler is None:
            pending.failure = _upgrade_required()

    def _body_limit(self, route: Route) -> int:
        limits = self._limits
        return route.max_body_bytes or (limits.asking_bytes if route.asks else limits.body_bytes)

    def refuse(self, error: DeckError) -> None:
        """Refuse the current request, or the connection, and parse nothing more."""
        pending = self._incoming
        if pending is None:
            pending = PendingRequest()
            self.queue.append(pending)
        self._fail(pending, error)
        self._close_input(pending)

    def _close_input(self, pending: PendingRequest) -> None:
        pending.complete = True
        pending.keep_alive = False
        self._incoming = None
        self.input_closed = True
        self._allowed_s = None
        self._deadline.clear()

    # Called by httptools

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._raw_target = b""
        self._raw_headers = []
        self._head_size = self._fed = 0
        self._in_head = True
        if not self.input_closed:
            self._allowed_s = self._limits.head_s

    def on_url(self, part: bytes) -> None:
        """A piece of the request target."""
        self._raw_target += part
        self._head_size += len(part)
        if self._head_size > self._limits.head_bytes:
            self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer, which is only counted."""
        if self._in_head:
            self._raw_headers.append((name, value))
        self._head_size += len(name) + len(value or b"") + 4
        if self._head_size > self._limits.head_bytes:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """Check the head and queue the request."""
        self._in_head = False
        if self.input_closed:
            return
        pending = self._check_head()
        self._incoming = pending
        self.queue.append(pending)
        head = pending.head
        if pending.failure is not None and (head is None or head.has_body):
            self._close_input(pending)
        elif head is not None and head.has_body:
            pending.awaits_continue = head.expects_continue
            self._allowed_s = self._body_s(head)
            if pending.awaits_continue:  # its time begins when it is told to go on
                self._allowed_s = None
                self._deadline.clear()

    def _body_s(self, head: RequestHead) -> float:
        """How long a body may take."""
        return self._limits.body_s + head.content_length / self._limits.body_floor_bytes

    def body_may_come(self, pending: PendingRequest) -> bool:
        """Give a body its time; returns whether its client has to be told to send it."""
        if not pending.awaits_continue or pending.head is None:
            return False
        pending.awaits_continue = False
        self._deadline.set(self._body_s(pending.head))
        return True

    def on_body(self, part: bytes) -> None:
        """A piece of the body."""
        pending = self._incoming
        if self.input_closed or pending is None or pending.route is None:
            return
        self.body_may_come(pending)  # some do not wait until they are told
        self._fed = 0
        before = pending.size
        if not before:
            pending.body = bytearray()
        pending.body += part
        pending.size += len(part)
        if pending.size > (limit := self._body_limit(pending.route)):
            self.refuse(_too_large(pending.route, limit))
        elif before // STEP != pending.size // STEP and self._server.is_over_held_bytes:
            self.refuse(Busy("Too much is coming in at once.", "Try again in a moment."))

    def on_message_complete(self) -> None:
        """The request is complete."""
        pending = self._incoming
        if self.input_closed or pending is None:
            return
        pending.complete = True
        self._incoming = None
        self._allowed_s = None
        self._deadline.clear()
        self.input_closed = not pending.keep_alive and not pending.upgrade


def _too_large(route: Route, limit: int) -> TooLarge:
    remedy = "Send less, or raise api.body_limit_bytes." if route.asks else "Send less."
    return TooLarge(f"The body is over the limit of {limit} bytes.", remedy)


def _upgrade_required() -> Response:
    """426 for a plain request of a WebSocket-only route (RFC 9110, section 15.5.22)."""
    error = InvalidRequest("This path takes WebSockets.", "Open it with ws:// instead of http://.")
    answer = error_response(error, "json", 426)
    return replace(answer, headers=(("Upgrade", "websocket"), ("Connection", "Upgrade")))
