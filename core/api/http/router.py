"""Route table and matching; `/openapi.json` is made from the same table.

Each module of the API has a tuple `ROUTES`; `modeldeck.core.api.route_table` joins them. A path is
matched segment by segment on the percent-encoded text, so that `owner%2Frepo%3AQ8_0` is one
segment. Empty segments are skipped: a client whose base URL ends in a slash asks for `//models`. A
literal segment wins over a `{name}`, in any order of the table: `/model/update` is not
`/model/{model}`. Of two routes with the same path and method, one may need a header
(`Route.header`): it wins for requests that have it.

A route has a `handler` for plain requests, a `socket` handler for WebSocket handshakes, or both:

    async def handler(deck: Deck, request: Request) -> Response | StreamResponse
    async def socket(deck: Deck, request: Request, socket: WebSocket) -> None

A socket handler first checks its request: a DeckError raised before `await socket.accept()` is
answered as plain HTTP, in the route's error style and with its `statuses`. After that it sends;
`modeldeck.core.api.http.messages.WebSocket` says how it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from modeldeck.core.api.http.access import Need
from modeldeck.core.api.http.error_forms import ErrorStyle, status_of
from modeldeck.core.api.http.messages import (
    Request,
    Response,
    StreamResponse,
    WebSocket,
)
from modeldeck.core.errors import DeckError, MethodNotAllowed, UnknownRoute

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

ANTHROPIC = "anthropic-version"
"""Header that every client of Anthropic's API sends."""

INFERRING = frozenset({"openai", "anthropic", "ollama", "llama-server"})
"""Tags of the APIs that clients ask models by."""

Answer = Response | StreamResponse
Handler = Callable[["Deck", Request], Response | Coroutine[Any, Any, Answer]]
SocketHandler = Callable[["Deck", Request, WebSocket], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A documented query parameter."""

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
    header: str | None = None
    """Name, in lower case, of a header that a request for this route has: it tells dialects apart
    that share a path."""
    handler: Handler | None = None
    """None for a path that only takes WebSockets; a plain request gets 426."""
    socket: SocketHandler | None = None
    body: Any = None
    """Type of the body, or the name of a documented schema: `"SeededModel"`; None for none."""
    body_required: bool = False
    answer: Any = None
    """Type of the response, or the name of a documented schema; None for an empty or opaque one."""
    status: int = 200
    """Status of success."""
    content_type: str = "application/json"
    """Content type of the response."""
    query: tuple[Query, ...] = ()
    error_style: ErrorStyle = "json"
    statuses: Mapping[type[DeckError], int] = field(default_factory=dict)
    """Statuses of errors that differ from the style's: `{NotFound: 410}`. Subclasses count."""
    max_body_bytes: int | None = None
    """Limit of the body in bytes; None for the listener's own."""
    asks: bool = False
    """Whether it asks a model: its body may be as large as `ConnectionLimits.asking_bytes`."""
    need: Need | None = None
    """Required scope; None for `infer` of `INFERRING` APIs, `read` of GET, else `manage`."""
    raises: tuple[type[DeckError], ...] = ()
    """Errors that the handler itself may raise, for the document; the listener's own refusals are
    the same for every route."""
    streams: tuple[str, Any] | None = None
    """Content type of a streamed response, and the type of a piece; None where it has none."""
    cancel_when_gone: bool = False
    """Whether the handler is cancelled when the client goes away. Streams and sockets always are;
    an action that changes data must run to its end."""

    @property
    def needs(self) -> Need:
        """Required scope, with the default applied."""
        if self.need is not None:
            return self.need
        if self.tag in INFERRING:
            return "infer"
        return "read" if self.method == "GET" else "manage"

    def error_status(self, error: DeckError) -> int:
        """The status of the response to an error that a handler raised."""
        for cls, status in self.statuses.items():
            if isinstance(error, cls):
                return status
        return 500 if self.error_style == "text" else status_of(error, self.error_style)


@dataclass(slots=True)
class _Node:
    """Routes and further segments below a prefix."""

    literal: dict[str, _Node] = field(default_factory=dict)
    variable: _Node | None = None
    routes: dict[str, list[tuple[Route, tuple[str, ...]]]] = field(default_factory=dict)
    """By method: the routes, that without a header last, and the names of their variable segments
    in order."""


class Router:
    """Finds the route of a request, and the form of errors of paths that have none."""

    def __init__(
        self, routes: Iterable[Route], error_styles: Iterable[tuple[str, ErrorStyle]] = ()
    ) -> None:
        """Make the table. Raises ValueError for two routes with one path, method and header.

        `error_styles` are beginnings of paths with the form of the errors below them; the first
        that fits counts.
        """
        self.routes = tuple(routes)
        self._error_styles = tuple((split(prefix), style) for prefix, style in error_styles)
        self._root = _Node()
        for route in self.routes:
            self._add(route)
        self._literal = {
            (r.method, r.template): r
            for r in self.routes
            if "{" not in r.template and not self._has_variants(r)
        }
        """Routes without variable segments, by method and path: found without a search."""

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in split(route.template):
            if segment.startswith("{"):
                names.append(segment.strip("{}"))
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literal.setdefault(segment, _Node())
        there = node.routes.setdefault(route.method, [])
        if any(other.header == route.header for other, _ in there):
            raise ValueError(f"two routes for {route.method} {route.template}")
        there.append((route, tuple(names)))
        there.sort(key=lambda entry: entry[0].header is None)

    def _has_variants(self, route: Route) -> bool:
        return any(
            other.header is not None
            for other in self.routes
            if (other.method, other.template) == (route.method, route.template)
        )

    def error_style(self, path: str, headers: Collection[str] = ()) -> ErrorStyle:
        """The form of errors at a path that has no route."""
        segments = split(path)
        for prefix, style in self._error_styles:
            if segments[: len(prefix)] == prefix:
                return "anthropic" if style == "openai" and ANTHROPIC in headers else style
        return "json"

    def match(
        self, method: str, path: str, headers: Collection[str] = ()
    ) -> tuple[Route, dict[str, str]]:
        """The route for a percent-encoded path, and its variable segments, decoded.

        `headers` are names in lower case. HEAD uses the route of GET. Raises NotFound where no path
        matches, MethodNotAllowed where only the method does not; `allowed` gives those that do.
        """
        if (literal := self._literal.get((method, path))) is not None:
            return literal, {}
        found = self._find(split(path))
        if not found:
            raise UnknownRoute(
                f"There is nothing at {path[:200]}.", "See /openapi.json for the routes."
            )
        wanted = "GET" if method == "HEAD" else method
        for node, values in found:
            for route, names in node.routes.get(wanted, ()):
                if route.header is None or route.header in headers:
                    return route, dict(zip(names, values, strict=True))
        raise MethodNotAllowed(
            f"{path[:200]} does not take {method}.", f"It takes {', '.join(self.allowed(path))}."
        )

    def allowed(self, path: str) -> tuple[str, ...]:
        """The methods of a path, HEAD included; empty where there is no such path."""
        methods = {method for node, _ in self._find(split(path)) for method in node.routes}
        return tuple(sorted(methods | ({"HEAD"} if "GET" in methods else set())))

    def _find(self, segments: list[str]) -> list[tuple[_Node, tuple[str, ...]]]:
        """Matching nodes that have routes, the one with the earliest literal first."""
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
    """The non-empty segments of a path, decoded; invalid UTF-8 is replaced."""
    return [unquote(part, errors="replace") for part in path.split("/") if part]
