"""Handlers and routes of the documented API's twelve operations.

Success is exactly 200 with JSON or exactly 204: an SDK reads 201 as an empty answer. Errors are
text with status 500, or 410 where one model is looked up. Models are named by their id. The routes
are made from `pieces.json`; `OPERATIONS` gives the handler of each operation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from modeldeck.core.api.http.messages import (
    Request,
    Response,
    SharedBody,
    WebSocket,
    error_response,
    json_response,
    no_content,
)
from modeldeck.core.api.http.router import Handler, Route
from modeldeck.core.api.pieces import model as pieces_model
from modeldeck.core.api.pieces.client_routes import PLACEHOLDERS
from modeldeck.core.api.pieces.model import (
    Document,
    Version,
    checked,
    for_sdk,
    is_cloud,
    sdk_version,
)
from modeldeck.core.api.pieces.progress import ProgressSockets, newest, phase, present_frame
from modeldeck.core.api.pieces.schema import DOCUMENT, check
from modeldeck.core.errors import Busy, Conflict, NotDownloaded, NotFound
from modeldeck.core.schema import OTHER_TOOLS, CacheSelection, Download, Instance, LoadWish, Model
from modeldeck.core.schema.state import State
from modeldeck.core.schema.summary import LOADED
from modeldeck.core.service.library.other_tools import deletion_refused

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

LOAD_WAIT_S = 280.0
"""Seconds a response may wait for a load: clients on Node give up after 300 s."""

LISTS_KEPT = 8
"""Encoded lists kept, one for each SDK version; clients choose that value freely."""


Status = tuple[bool, bool, int | None]
"""Whether a model is being downloaded, whether it is loaded, and its memory in bytes."""


class ModelDocuments:
    """Encoded documents of models, each encoded again only after a change."""

    def __init__(self, more: Sequence[Model] = ()) -> None:
        """`more` are models listed after those of the State."""
        self.more = {model.id: model for model in more}
        self._parts: dict[str, tuple[Model, Status, Document, bytes]] = {}
        self._lists: dict[Version | None, SharedBody] = {}
        self._state: tuple[object, object, object] = (None, None, None)
        self._running: frozenset[str] = frozenset()
        self._instances: dict[str, Instance] = {}

    def all(self, state: State, version: Version | None) -> SharedBody:
        """All models, as the JSON of a documented Models."""
        self._update(state)
        if version not in self._lists:
            if len(self._lists) >= LISTS_KEPT:
                self._lists.clear()
            models = [*state.models.values(), *self.more.values()]
            parts = [self.one(state, model, version) for model in models]
            self._lists[version] = SharedBody(b'{"iterable":[' + b",".join(parts) + b"]}")
        return self._lists[version]

    def one(self, state: State, model: Model, version: Version | None) -> bytes:
        """One model, as JSON."""
        made, text = self.document(state, model)
        shown = for_sdk(made, version)
        return text if shown is made else msgspec.json.encode(shown)

    def document(self, state: State, model: Model) -> tuple[Document, bytes]:
        """One model, as an object and as JSON for recent SDKs."""
        self._update(state)
        instance = self._instances.get(model.id)
        ram = instance.measured_bytes if instance is not None else None
        status = model.id in self._running, instance is not None, ram
        part = self._parts.get(model.id)
        if part is None or part[0] is not model or part[1] != status:
            made = pieces_model.document(
                model, downloading=status[0], loaded=status[1], ram_bytes=status[2]
            )
            part = model, status, made, msgspec.json.encode(made)
            self._parts[model.id] = part
        return part[2], part[3]

    def _update(self, state: State) -> None:
        """Update the downloading and loaded models, once per change of the State."""
        models, downloads, instances = self._state
        if state.models is models and state.downloads is downloads and state.instances is instances:
            return
        self._state = state.models, state.downloads, state.instances
        self._lists.clear()
        jobs = [job for job in state.downloads.values() if phase(job) == "running"]
        self._running = frozenset(job.model_id for job in jobs)
        loaded = [i for i in state.instances.values() if i.state in LOADED]
        self._instances = {instance.model_id: instance for instance in loaded}
        for gone in self._parts.keys() - state.models.keys() - self.more.keys():
            del self._parts[gone]


class PiecesState:
    """State of the documented API for one core."""

    def __init__(self, deck: Deck) -> None:
        self.catalog = ModelDocuments(PLACEHOLDERS if deck.config.api.pieces_clients else ())
        self.sockets = ProgressSockets()


_states: WeakKeyDictionary[Deck, PiecesState] = WeakKeyDictionary()


def _state(deck: Deck) -> PiecesState:
    found = _states.get(deck)
    if found is None:
        found = _states[deck] = PiecesState(deck)
    return found


def _find(deck: Deck, key: str) -> Model:
    model = deck.state.models.get(key) or _state(deck).catalog.more.get(key)
    if model is None:
        raise NotFound(f"There is no model {key[:100]!r}.", "GET /models lists them.")
    return model


def _named(deck: Deck, request: Request) -> Model:
    return _find(deck, request.params["model"])


def _sdk(request: Request) -> Version | None:
    return sdk_version(request.headers.get("user-agent"))


def _answer(deck: Deck, request: Request, key: str) -> Response:
    """The response with the current document of a model."""
    model = _find(deck, key)
    return Response(body=_state(deck).catalog.one(deck.state, model, _sdk(request)))


def _job(deck: Deck, model: Model) -> Download | None:
    """The running download of a model, or None."""
    job = newest(deck.state, model.id)
    return job if job is not None and phase(job) == "running" else None


async def _sync_sockets(deck: Deck, key: str) -> None:
    """Wait until the progress sockets of a model have been sent its latest events."""
    await _state(deck).sockets.wait_sent(key, deck.state.seq)


def _refuse_cloud(model: Model, verb: str) -> None:
    if is_cloud(model):
        raise Conflict(f"{model.name} runs at a remote provider: it cannot be {verb}.")


# Operations


def list_models(deck: Deck, request: Request) -> Response:
    """Every model, in a stable order."""
    return _state(deck).catalog.all(deck.state, _sdk(request)).response


def get_model(deck: Deck, request: Request) -> Response:
    """One model; clients poll this many times a second while they wait."""
    return _answer(deck, request, request.params["model"])


async def download(deck: Deck, request: Request) -> Response:
    """Start a download, or join the running one; answered once it is stored."""
    model = _named(deck, request)
    _refuse_cloud(model, "downloaded")
    job = await deck.downloads.start(model.id, request.origin)
    await _sync_sockets(deck, model.id)
    found = _find(deck, model.id)
    if job is None or found.downloaded or _job(deck, found) is not None:
        return _answer(deck, request, model.id)
    # The download has already failed. The client sees that in its next request: one that polls
    # would wait for ever if neither flag was ever set.
    started = {**_state(deck).catalog.document(deck.state, found)[0], "downloading": True}
    return json_response(for_sdk(started, _sdk(request)))


async def cancel(deck: Deck, request: Request) -> Response:
    """Cancel the running download; does nothing if there is none."""
    model = _named(deck, request)
    job = _job(deck, model)
    if job is not None:
        await _cancel(deck, request, job)
        await _sync_sockets(deck, model.id)
    return _answer(deck, request, model.id)


async def _cancel(deck: Deck, request: Request, job: Download) -> None:
    try:
        await deck.downloads.cancel(job.id, request.origin)
    except (NotFound, Conflict):
        pass  # it ended in between


async def load(deck: Deck, request: Request) -> Response:
    """Load a downloaded model; answered when it is loaded."""
    model = _named(deck, request)
    _refuse_cloud(model, "loaded")
    if not model.downloaded:
        if _job(deck, model) is not None:
            raise Conflict(f"{model.name} is still being downloaded.", "Load it when it is here.")
        raise NotDownloaded(f"{model.name} is not downloaded.", "Download it first.")
    try:
        async with asyncio.timeout(LOAD_WAIT_S):
            await deck.instances.loaded(model.id, LoadWish(), request.origin)
    except TimeoutError:
        raise Busy(
            f"{model.name} is still loading after {LOAD_WAIT_S:.0f} s.",
            "Ask again: a load that runs is joined.",
        ) from None
    return _answer(deck, request, model.id)


async def unload(deck: Deck, request: Request) -> Response:
    """Unload a model; does nothing if it is not loaded."""
    model = _named(deck, request)
    _refuse_cloud(model, "unloaded")
    instance = deck.instances.of(model.id)
    if instance is not None:
        try:
            await deck.instances.unload(instance.id, request.origin)
        except NotFound:
            pass  # it ended in between
    return _answer(deck, request, model.id)


async def unload_all(deck: Deck, request: Request) -> Response:
    """Unload every model that can be unloaded."""
    await deck.instances.unload_all(request.origin)
    return no_content()


async def update(deck: Deck, request: Request) -> Response:
    """Change a custom model; the id in the body names it."""
    body = checked(request.json(), "Model")
    model = _find(deck, body["id"])
    if not model.custom:
        raise Conflict(f"{model.name} is not a custom model.", "Only custom ones can be changed.")
    shown, _ = _state(deck).catalog.document(deck.state, model)
    changes = pieces_model.changes(model, shown, body)
    if "name" in changes:
        _refuse_name(deck, model, changes["name"])
    if changes:
        await deck.models.update(model.id, changes, request.origin)
    return _answer(deck, request, model.id)


def _refuse_name(deck: Deck, model: Model, name: str) -> None:
    """Raise Conflict for an empty or used name: clients would show only one of two models."""
    wanted = name.strip().casefold()
    if not wanted:
        raise Conflict("name is empty.", "Give the model a name.")
    for other in deck.state.models.values():
        if other.id != model.id and other.name.strip().casefold() == wanted:
            raise Conflict(f"{other.name} is the name of another model, id {other.id}.")


async def create(deck: Deck, request: Request) -> Response:
    """Add a custom model."""
    seed = pieces_model.seed(checked(request.json(), "SeededModel"))
    model = await deck.models.create(seed, request.origin)
    return _answer(deck, request, model.id)


async def delete(deck: Deck, request: Request) -> Response:
    """Remove a custom model and the files downloaded for it."""
    model = _named(deck, request)
    if not model.custom:
        raise Conflict(f"{model.name} is not a custom model.", "Only custom ones can be deleted.")
    await deck.models.delete(model.id, request.origin)
    await _sync_sockets(deck, model.id)
    return no_content()


async def delete_cache(deck: Deck, request: Request) -> Response:
    """Remove the files downloaded for a model, and keep its entry."""
    body = request.json()
    if body is not None:
        check(body, "ModelDeleteCacheInput")
    model = _named(deck, request)
    if not is_cloud(model):
        shown, _ = _state(deck).catalog.document(deck.state, model)
        if shown["usage"] in pieces_model.NOT_LANGUAGE:
            raise Conflict(
                f"{model.name} is not a language model ({shown['usage']}).",
                "Only what was downloaded for language models can be removed here.",
            )
        await _remove_files(deck, request, model)
    return json_response({"model": {"id": model.id}})


async def _remove_files(deck: Deck, request: Request, model: Model) -> None:
    if model.source in OTHER_TOOLS:
        raise deletion_refused(model)
    if model.local:
        raise Conflict(
            f"{model.name} lies at {model.path}, which is yours: it is never deleted here.",
            "Delete the file yourself, or delete the model to take it off the list.",
        )
    job = newest(deck.state, model.id)
    if job is not None and phase(job) == "running":
        await _cancel(deck, request, job)
    if model.downloaded or (job is not None and job.state != "completed"):
        what = CacheSelection(models=(model.id,))
        await deck.cache.delete(what, request.origin, force=True, whole=True)
        await _sync_sockets(deck, model.id)


def progress(deck: Deck, request: Request) -> Response:
    """The current progress of a download, for clients that poll."""
    try:
        model = _named(deck, request)
    except NotFound as error:
        return error_response(error, "text", 500)  # 410 is for the socket
    frame = present_frame(model, newest(deck.state, model.id), datetime.now(UTC))
    return Response(body=frame or b"{}")


async def progress_socket(deck: Deck, request: Request, socket: WebSocket) -> None:
    """Send the progress of a model's downloads until the client disconnects."""
    model = _named(deck, request)
    with _state(deck).sockets.join(model.id, socket) as progress_follower:
        await progress_follower.run(deck.feed)


# Routes

OPERATIONS: Mapping[str, Handler] = {
    "modelsSnapshot": list_models,
    "modelsSpecificModelSnapshot": get_model,
    "modelSpecificModelDownload": download,
    "modelSpecificModelDownloadCancel": cancel,
    "modelSpecificModelDownloadProgress": progress,
    "modelSpecificModelLoad": load,
    "modelSpecificModelUnload": unload,
    "modelUpdate": update,
    "modelsCreateNewModel": create,
    "modelsDeleteSpecificModel": delete,
    "modelsDeleteSpecificModelCache": delete_cache,
    "unloadModels": unload_all,
}
"""Handler of each operation, by its id in the document."""


def _routes() -> tuple[Route, ...]:
    return tuple(
        _route(method.upper(), path, operation)
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    )


def _route(method: str, path: str, operation: Mapping[str, Any]) -> Route:
    name = operation["operationId"]
    responses = operation["responses"]
    body = operation.get("requestBody")
    return Route(
        method=method,
        template=path,
        operation_id=name,
        summary=operation["summary"],
        tag=operation["tags"][0],
        handler=OPERATIONS[name],
        socket=progress_socket if "101" in responses else None,
        body=_schema(body) if body else None,
        answer=_schema(responses["200"]) if "200" in responses else None,
        status=200 if "200" in responses else 204,
        error_style="text",
        statuses={NotFound: 410} if "410" in responses else {},
    )


def _schema(part: Mapping[str, Any]) -> str:
    reference: str = part["content"]["application/json"]["schema"]["$ref"]
    return reference.rsplit("/", 1)[1]


ROUTES = _routes()
