"""The table of routes: what routes the requests and what `/openapi.json` is made of.

Each module of the API has a tuple `ROUTES`; `modeldeck.core.api.route_table` puts them together. A
path is matched segment by segment on the percent-encoded text, so that `owner%2Frepo%3AQ8_0` is one
segment. Empty segments are skipped: a client whose base URL ends in a slash asks for `//models`. A
literal segment wins over a `{name}`, whatever the order of the table: `/model/update` is not
`/model/{model}`.

A route has a `handler` for plain requests, a `socket` handler for WebSocket handshakes, or both:

    async def handler(deck: Deck, request: Request) -> Response | StreamResponse
    async def socket(deck: Deck, request: Request, socket: WebSocket) -> None

A socket handler first checks what it was asked for: a DeckError raised before `await
socket.accept()` is answered as plain HTTP, in the route's error style and with its `statuses`.
After that it sends; `modeldeck.core.api.http.messages.WebSocket` says how it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from modeldeck.core.api.http.access import Need
from modeldeck.core.api.http.messages import (
    ErrorStyle,
    Request,
    Response,
    StreamResponse,
    WebSocket,
)
from modeldeck.core.errors import DeckError, MethodNotAllowed, NotFound

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

Answer = Response | StreamResponse
Handler = Callable[["Deck", Request], Response | Coroutine[Any, Any, Answer]]
SocketHandler = Callable[["Deck", Request, WebSocket], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query parameter, for the document and for people."""

    name: str
    type: Any
    """A type that msgspec can describe, such as `int` or `str`."""
    description: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of the API."""

    method: str
    template: str
    """The path, with `{name}` for a segment that varies."""
    operation_id: str
    summary: str
    tag: str
    handler: Handler | None = None
    """None for a path that only takes WebSockets; a plain request gets 426."""
    socket: SocketHandler | None = None
    body: Any = None
    """Type of the body, or the name of a documented schema: `"SeededModel"`; None for none."""
    body_required: bool = False
    answer: Any = None
    """Type of the answer, or the name of a documented schema; None for an empty or opaque one."""
    status: int = 200
    """Of success."""
    content_type: str = "application/json"
    """Of the answer."""
    query: tuple[Query, ...] = ()
    error_style: ErrorStyle = "json"
    statuses: Mapping[type[DeckError], int] = field(default_factory=dict)
    """Statuses of errors that differ from the style's: `{NotFound: 410}`. Subclasses count."""
    max_body_bytes: int | None = None
    """Limit for the body; None for the listener's own."""
    need: Need | None = None
    """What a token must be for; None for `read` where it is GET, `infer` for the other tools' APIs,
    else `manage`."""
    of_state: bool = False
    """Whether the answer follows from State and the request alone, and may be given again."""
    raises: tuple[type[DeckError], ...] = ()
    """What the handler itself may raise, for the document; the listener's own refusals are the same
    for every route."""
    streams: tuple[str, Any] | None = None
    """Content type of an answer in pieces, and the type of a piece; None where there is none."""
    cancel_when_gone: bool = False
    """Whether the handler is cancelled when the client goes away. Streams and sockets always are;
    an action that changes something must run to its end."""

    @property
    def needs(self) -> Need:
        """What a token must be for."""
        if self.need is not None:
            return self.need
        if self.tag in ("openai", "ollama"):
            return "infer"
        return "read" if self.method == "GET" else "manage"

    def error_status(self, error: DeckError) -> int:
        """The status that answers an error which a handler raised."""
        for cls, status in self.statuses.items():
            if isinstance(error, cls):
                return status
        return 500 if self.error_style == "text" else error.status


@dataclass(slots=True)
class _Node:
    """What stands below a prefix of segments."""

    literal: dict[str, _Node] = field(default_factory=dict)
    variable: _Node | None = None
    routes: dict[str, tuple[Route, tuple[str, ...]]] = field(default_factory=dict)
    """By method: the route, and the names of its variable segments in order."""


class Router:
    """Finds the route of a request. Made once of the whole table; equal rows raise ValueError."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in split(route.template):
            if segment.startswith("{"):
                names.append(segment.strip("{}"))
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literal.setdefault(segment, _Node())
        if route.method in node.routes:
            raise ValueError(f"two routes for {route.method} {route.template}")
        node.routes[route.method] = route, tuple(names)

    def match(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route for a path as it came, and its variable segments, decoded.

        HEAD takes the route of GET. Raises NotFound where no path fits, MethodNotAllowed where only
        the method does not; `allowed` tells which do.
        """
        found = self._find(split(path))
        if not found:
            raise NotFound(
                f"There is nothing at {path[:200]}.", "See /openapi.json for the routes."
            )
        wanted = "GET" if method == "HEAD" else method
        for node, values in found:
            if wanted in node.routes:
                route, names = node.routes[wanted]
                return route, dict(zip(names, values, strict=True))
        raise MethodNotAllowed(
            f"{path[:200]} does not take {method}.", f"It takes {', '.join(self.allowed(path))}."
        )

    def allowed(self, path: str) -> tuple[str, ...]:
        """The methods that a path takes, HEAD included; empty where there is no such path."""
        methods = {method for node, _ in self._find(split(path)) for method in node.routes}
        return tuple(sorted(methods | ({"HEAD"} if "GET" in methods else set())))

    def _find(self, segments: list[str]) -> list[tuple[_Node, tuple[str, ...]]]:
        """Nodes with routes that fit, the one with the earliest literal first."""
        found: list[tuple[_Node, tuple[str, ...]]] = [(self._root, ())]
        for segment in segments:
            below: list[tuple[_Node, tuple[str, ...]]] = []
            for node, values in found:
                if (literal := node.literal.get(segment)) is not None:
                    below.append((literal, values))
                if node.variable is not None:
                    below.append((node.variable, (*values, segment)))
            found = below
        return [(node, values) for node, values in found if node.routes]


def split(path: str) -> list[str]:
    """The segments of a path, decoded, empty ones left out. What is not UTF-8 is replaced."""
    return [unquote(part, errors="replace") for part in path.split("/") if part]
