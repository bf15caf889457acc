"""What the documented API's own programs need besides its twelve operations.

Served where `api.pieces_clients` is set: then `PiecesClient` and pieces-cli start, list models and
ask one. What there is nothing of here (people who sign in, saved material, other applications) is
answered by placeholders that say so. What each client looks for was found by running it.
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
"""The version of their own server that these programs take this one for: pieces-cli 1.20 asks for
at least 12.0.0 and less than 13, in plain numbers."""

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
"""Entries for models at remote providers, of which there are none."""


def require(deck: Deck) -> None:
    """Raise NotFound where none of this is to be served."""
    if not deck.config.api.pieces_clients:
        raise NotFound(
            "This is for the programs of the documented API, and switched off.",
            "Set api.pieces_clients.",
        )


# Who is there


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
    """A program, as these clients want to see one."""

    id: str
    name: str
    platform: str
    version: str
    privacy: Literal["OPEN", "CLOSED", "ANONYMOUS"] = "CLOSED"
    onboarded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """Which server it is."""

    os: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PiecesContext:
    """What a program is told when it connects."""

    os: str
    """The id of this installation."""
    health: ServerIdentity
    application: Application


@dataclass(frozen=True, slots=True, kw_only=True)
class Applications:
    """The programs that are known."""

    iterable: list[Application]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserForm:
    """Somebody who is signed in, as these clients want it: a placeholder, for nobody signs in."""

    id: str
    name: str = "nobody (a placeholder: there are no accounts here)"
    aesthetics: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"theme": {"dark": False}, "font": {"size": 14}}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Who is signed in."""

    user: UserForm


def connect(deck: Deck, request: Request) -> Response:
    """Give a program the id by which it calls itself from now on: the same one every time."""
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
    """A placeholder: these programs do not start where nobody is signed in."""
    require(deck)
    return json_response(SignedIn(user=UserForm(id=deck.host_id)))


def list_applications(deck: Deck, request: Request) -> Response:
    """This server alone."""
    require(deck)
    platform = PLATFORMS.get(sys.platform, "UNKNOWN")
    own = Application(id=deck.host_id, name="OS_SERVER", platform=platform, version=SPEAKS)
    return json_response(Applications(iterable=[own]))


def increment_score(deck: Deck, request: Request) -> Response:
    """Nothing is counted here; the clients only want to be told that they were heard."""
    require(deck)
    return no_content()


# Streams


async def _say_and_stay(deck: Deck, socket: WebSocket, *messages: bytes) -> None:
    """Send what there is to say, and stay open: these clients call an end an error."""
    require(deck)
    await socket.accept()
    for message in messages:
        await socket.send(message)
    await asyncio.Event().wait()


async def stream_health(deck: Deck, request: Request, socket: WebSocket) -> None:
    """`ok:` and the id of this installation, once."""
    await _say_and_stay(deck, socket, f"ok:{deck.state.host.id}".encode())


async def stream_user(deck: Deck, request: Request, socket: WebSocket) -> None:
    """The placeholder of a user, once."""
    await _say_and_stay(deck, socket, msgspec.json.encode(UserForm(id=deck.host_id)))


async def stream_nothing(deck: Deck, request: Request, socket: WebSocket) -> None:
    """An empty list: there is no such material here."""
    await _say_and_stay(deck, socket, b'{"iterable":[]}')


async def stream_silence(deck: Deck, request: Request, socket: WebSocket) -> None:
    """Nothing: there is nothing here that could be told of."""
    await _say_and_stay(deck, socket)


async def stream_models(deck: Deck, request: Request, socket: WebSocket) -> None:
    """The ids of all models, then those that come and go."""
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
    """Questions, and their answers piece by piece."""
    require(deck)
    await socket.accept(receives=True)
    await answer_questions(deck, socket, request.origin)


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
    _route("GET", "user", "User", "A placeholder for who is signed in", handler=get_user,
           answer=SignedIn),
    _route("GET", "applications", "Applications", "The programs that are known",
           handler=list_applications, answer=Applications),
    _route("POST", "model/{model}/scores/increment", "Score", "Taken, and not counted",
           handler=increment_score, status=204, need="read"),
    _stream(".well-known/stream/health", "HealthStream", stream_health, "That the core answers"),
    _stream("user/stream", "UserStream", stream_user, "The placeholder for who is signed in"),
    _stream("models/stream/identifiers", "ModelStream", stream_models, "Models as they come"),
    *(_stream(f"{kind}/stream/identifiers", f"{kind.capitalize()}Stream", stream_nothing,
              f"An empty list: there are no {kind} here")
      for kind in ("assets", "conversations", "anchors", "ranges")),
    _stream(_VISION, "VisionStream", stream_silence, "Silence: nothing is watched here"),
    _stream("qgpt/stream", "Ask", stream_answers, "Questions to a loaded model", need="infer"),
)  # fmt: skip
