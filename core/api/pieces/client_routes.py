"""Routes that the documented API's own programs need besides its twelve operations.

Served if `api.pieces_clients` is set: then `PiecesClient` and pieces-cli start, list models and
chat. Accounts, saved material and other applications do not exist here; placeholders answer for
them and say so. The requirements of each client were found by running it.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from modeldeck.core.api.http.messages import Request, Response, WebSocket, json_response, no_content
from modeldeck.core.api.http.router import Route
from modeldeck.core.api.pieces.chat import answer_questions
from modeldeck.core.errors import InvalidRequest, NotFound
from modeldeck.core.schema import Model, model_id
from modeldeck.core.schema.state import ModelChanged, ModelRemoved, State

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

SPEAKS = "12.0.0"
"""The server version shown to these programs: pieces-cli 1.20 requires at least 12.0.0 and less
than 13, in plain numbers."""

PLATFORMS = {"linux": "LINUX", "darwin": "MACOS", "win32": "WINDOWS"}

_NOTE = (
    "A placeholder: programs of the documented API look for this entry by name before they start. "
    "There is no such model behind it. Choose one that is downloaded."
)


def _placeholder(unique: str, name: str, provider: str, foundation: str) -> Model:
    return Model(
        id=model_id(f"placeholder:{unique}"),
        unique=unique,
        name=name,
        format="gguf",
        source="builtin",
        description=_NOTE,
        version="placeholder",
        documented={"cloud": True, "provider": provider, "foundation": foundation, "cpu": False},
    )


PLACEHOLDERS = (
    # The wrapper's default, by name; the web example looks for its unique name.
    _placeholder("gpt-3.5-turbo", "GPT-3.5-turbo Chat Model", "OPENAI", "GPT_3.5"),
    # pieces-cli's default, by unique name.
    _placeholder("gemini-2.0-flash-lite-001", "Gemini Chat Model (placeholder)", "GOOGLE",
                 "GEMINI"),
)  # fmt: skip
"""Entries of remote models that clients require; there are no such models behind them."""


def require(deck: Deck) -> None:
    """Raise NotFound if these routes are turned off."""
    if not deck.config.api.pieces_clients:
        raise NotFound(
            "This route is for the programs of the documented API, and turned off.",
            "Set api.pieces_clients.",
        )


# Applications and users


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedApplication:
    """The program that connects."""

    name: str = "OPEN_SOURCE"
    platform: str = "UNKNOWN"
    version: str = "0.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectBody:
    """How a program introduces itself."""

    application: TrackedApplication = TrackedApplication()


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A program, in the format of these clients."""

    id: str
    name: str
    platform: str
    version: str
    privacy: Literal["OPEN", "CLOSED", "ANONYMOUS"] = "CLOSED"
    onboarded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """Identity of the server."""

    os: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecesContext:
    """Response to a program that connects."""

    os: str
    """The id of this installation."""
    health: ServerIdentity
    application: Application


@dataclass(frozen=True, slots=True, kw_only=True)
class Applications:
    """The known programs."""

    iterable: list[Application]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserForm:
    """Placeholder of a signed-in user, which these clients require: there are no accounts."""

    id: str
    name: str = "no user (a placeholder: there are no accounts here)"
    aesthetics: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"theme": {"dark": False}, "font": {"size": 14}}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """The signed-in user."""

    user: UserForm


def connect(deck: Deck, request: Request) -> Response:
    """Give a program its id, which is the same each time."""
    require(deck)
    asked = request.parse(ConnectBody).application
    if max(len(asked.name), len(asked.platform), len(asked.version)) > 100:
        raise InvalidRequest("The application's name, platform or version is too long.")
    key = uuid.uuid5(uuid.UUID(deck.host_id), f"{asked.name}/{asked.platform}")
    application = Application(
        id=str(key), name=asked.name, platform=asked.platform, version=asked.version
    )
    health = ServerIdentity(os={"id": deck.host_id, "version": SPEAKS})
    return json_response(PiecesContext(os=deck.host_id, health=health, application=application))


def get_user(deck: Deck, request: Request) -> Response:
    """A placeholder user: these programs do not start without a signed-in user."""
    require(deck)
    return json_response(SignedIn(user=UserForm(id=deck.host_id)))


def list_applications(deck: Deck, request: Request) -> Response:
    """The list with only this server."""
    require(deck)
    platform = PLATFORMS.get(sys.platform, "UNKNOWN")
    own = Application(id=deck.host_id, name="OS_SERVER", platform=platform, version=SPEAKS)
    return json_response(Applications(iterable=[own]))


def increment_score(deck: Deck, request: Request) -> Response:
    """Accept a score without counting it; clients only check the response."""
    require(deck)
    return no_content()


# Streams


async def _send_and_stay(deck: Deck, socket: WebSocket, *messages: bytes) -> None:
    """Send messages and stay open: these clients treat a close as an error."""
    require(deck)
    await socket.accept()
    for message in messages:
        await socket.send(message)
    await asyncio.Event().wait()


async def stream_health(deck: Deck, request: Request, socket: WebSocket) -> None:
    """`ok:` and the id of this installation, once."""
    await _send_and_stay(deck, socket, f"ok:{deck.state.host.id}".encode())


async def stream_user(deck: Deck, request: Request, socket: WebSocket) -> None:
    """The placeholder user, once."""
    await _send_and_stay(deck, socket, msgspec.json.encode(UserForm(id=deck.host_id)))


async def stream_nothing(deck: Deck, request: Request, socket: WebSocket) -> None:
    """An empty list: there is no such material here."""
    await _send_and_stay(deck, socket, b'{"iterable":[]}')


async def stream_silence(deck: Deck, request: Request, socket: WebSocket) -> None:
    """No messages: the feature does not exist here."""
    await _send_and_stay(deck, socket)


async def stream_models(deck: Deck, request: Request, socket: WebSocket) -> None:
    """The ids of all models, then of those added and removed."""
    require(deck)
    await socket.accept()
    known: set[str] = set()
    with deck.feed.subscribe(watching=False) as subscription:
        async for batch in subscription.batches():
            for item in batch:
                match item:
                    case State():
                        now = {*item.models, *(model.id for model in PLACEHOLDERS)}
                    case ModelChanged(model=model):
                        now = known | {model.id}
                    case ModelRemoved(id=key):
                        now = known - {key}
                    case _:
                        continue
                if now != known:
                    await socket.send(_identifiers(now - known, known - now))
                known = now


def _identifiers(came: set[str], went: set[str]) -> bytes:
    entries: list[dict[str, Any]] = [{"model": {"id": key}} for key in sorted(came)]
    entries += [{"model": {"id": key}, "deleted": True} for key in sorted(went)]
    return msgspec.json.encode({"iterable": entries})


async def stream_answers(deck: Deck, request: Request, socket: WebSocket) -> None:
    """Chat: questions, and their answers in pieces."""
    require(deck)
    await socket.accept(receives=True)
    await answer_questions(deck, socket, request.requester("pieces"))


# Routes

SocketHandler = Callable[["Deck", Request, WebSocket], Coroutine[Any, Any, None]]


def _route(method: str, path: str, name: str, summary: str, **more: Any) -> Route:
    return Route(
        method=method,
        template=f"/{path}",
        operation_id=f"pieces{name}",
        summary=summary,
        tag="pieces clients",
        error_style="text",
        statuses={NotFound: 404, InvalidRequest: 400},
        raises=(NotFound,),
        **more,
    )


def _stream(path: str, name: str, socket: SocketHandler, summary: str, **more: Any) -> Route:
    return _route("GET", path, name, summary, socket=socket, **more)


_VISION = "workstream_pattern_engine/processors/vision/status/stream"

ROUTES: tuple[Route, ...] = (
    _route("POST", "connect", "Connect", "Introduce a program", handler=connect,
           body=ConnectBody, answer=PiecesContext, need="read"),
    _route("GET", "user", "User", "A placeholder for the signed-in user", handler=get_user,
           answer=SignedIn),
    _route("GET", "applications", "Applications", "The known programs",
           handler=list_applications, answer=Applications),
    _route("POST", "model/{model}/scores/increment", "Score", "Accepted, but not counted",
           handler=increment_score, status=204, need="read"),
    _stream(".well-known/stream/health", "HealthStream", stream_health, "That the core answers"),
    _stream("user/stream", "UserStream", stream_user, "The placeholder for the signed-in user"),
    _stream("models/stream/identifiers", "ModelStream", stream_models, "Added and removed models"),
    *(_stream(f"{kind}/stream/identifiers", f"{kind.capitalize()}Stream", stream_nothing,
              f"An empty list: there are no {kind} here")
      for kind in ("assets", "conversations", "anchors", "ranges")),
    _stream(_VISION, "VisionStream", stream_silence, "No messages: nothing is watched here"),
    _stream("qgpt/stream", "Ask", stream_answers, "Questions to a loaded model", need="infer"),
)  # fmt: skip
