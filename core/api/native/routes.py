"""The native API under `/deck`: one route for each method of `Deck`.

`{model}` is an id, a unique name or an unambiguous short name, percent-encoded. Long actions are
answered when they are accepted; their progress is in the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from modeldeck.core.api.http.messages import (
    CachedEncoding,
    Request,
    Response,
    SharedBody,
    json_response,
)
from modeldeck.core.api.http.router import Query, Route
from modeldeck.core.api.native.bodies import (
    Accepted,
    AuditPage,
    CancelBody,
    DefaultsBody,
    DeleteBody,
    DownloadBody,
    FitList,
    InstanceBody,
    LimitBody,
    LoadBody,
    LoadHistoryPage,
    LogPage,
    MoveBody,
    SelectionBody,
    SettingsBody,
    StateDocument,
    StopAnswer,
    UnloadReceipts,
)
from modeldeck.core.api.native.feed import feed
from modeldeck.core.config.config import ContextLength
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import (
    CacheListing,
    Card,
    DeletionPlan,
    DeletionReceipt,
    Download,
    Fit,
    Instance,
    LoadOptions,
    LoadPlan,
    Model,
    ModelSeed,
    Repository,
    SearchResult,
    Settings,
    UnloadReceipt,
    UpdateCheck,
    Verification,
)
from modeldeck.core.schema.state import state_to_wire

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

LONGEST_LIST = 5000
"""Log lines or audit entries in one response at most: all that the log keeps."""
MOST_HITS = 100
"""Repositories in one response at most; the Hub's own limit of a page."""
LONGEST_QUERY = 200
"""Characters of a search at most; longer ones find nothing."""

# State

_state_json = CachedEncoding(lambda state: SharedBody(msgspec.json.encode(state_to_wire(state))))


async def get_state(deck: Deck, request: Request) -> Response:
    """The whole State, with memory figures at most a second old; encoded once per change."""
    return _state_json.of(await deck.refresh()).response


# Catalog


async def get_model(deck: Deck, request: Request) -> Response:
    """One model."""
    return json_response(deck.models.find(request.params["model"]))


async def create_model(deck: Deck, request: Request) -> Response:
    """Add a custom model."""
    return json_response(await deck.models.create(request.parse(ModelSeed), request.origin))


async def update_model(deck: Deck, request: Request) -> Response:
    """Change the fields of a custom model that the body names."""
    changes = request.json() or {}
    if not isinstance(changes, dict):
        raise InvalidRequest("The body is not a JSON object.", "Send the fields to change.")
    model = deck.models.find(request.params["model"])
    return json_response(await deck.models.update(model.id, changes, request.origin))


async def delete_model(deck: Deck, request: Request) -> Response:
    """Remove a custom model and the files downloaded for it."""
    await deck.models.delete(deck.models.find(request.params["model"]).id, request.origin)
    return Response(status=204, content_type=None)


async def get_fit(deck: Deck, request: Request) -> Response:
    """Whether the model fits this machine now."""
    return json_response(await deck.models.fit(request.params["model"], _context_length(request)))


async def get_fits(deck: Deck, request: Request) -> Response:
    """Whether each listed model fits this machine now, without asking the Hub."""
    return json_response(FitList(fits=await deck.models.fits(_context_length(request))))


def _context_length(request: Request) -> int | None:
    length = request.number("context_length", None)
    if length is not None and not 16 <= length <= 1 << 24:
        raise InvalidRequest(f"context_length must be between 16 and {1 << 24}.")
    return length


async def search(deck: Deck, request: Request) -> Response:
    """Search the Hub."""
    query = request.query.get("query", "").strip()
    limit = request.number("limit", None)
    if len(query) > LONGEST_QUERY:
        raise InvalidRequest(f"The query is longer than {LONGEST_QUERY} characters.")
    if limit is not None and not 1 <= limit <= MOST_HITS:
        raise InvalidRequest(f"limit must be between 1 and {MOST_HITS}.")
    return json_response(await deck.hub.search(query, limit))


async def get_repository(deck: Deck, request: Request) -> Response:
    """Contents of a repository on the Hub."""
    revision = request.query.get("revision") or None
    return json_response(await deck.hub.repository(request.params["repo"], revision))


async def get_card(deck: Deck, request: Request) -> Response:
    """The model card of a repository."""
    revision = request.query.get("revision") or None
    return json_response(await deck.hub.card(request.params["repo"], revision))


# Downloads and cache


async def download(deck: Deck, request: Request) -> Response:
    """Download a model."""
    model = await deck.models.resolve(request.params["model"])
    force = request.parse(DownloadBody).force
    job = await deck.downloads.start(model.id, request.origin, force=force)
    return json_response(Accepted(model=deck.models.find(model.id), download=job))


async def check_updates(deck: Deck, request: Request) -> Response:
    """Ask the Hub for newer files of the models on this machine."""
    return json_response(await deck.hub.check_updates(request.origin))


async def cancel_download(deck: Deck, request: Request) -> Response:
    """Cancel a download; answered when the transfer has stopped."""
    discard = request.parse(CancelBody).discard
    key = request.params["download"]
    return json_response(await deck.downloads.cancel(key, request.origin, discard=discard))


async def pause_download(deck: Deck, request: Request) -> Response:
    """Pause a download."""
    return json_response(await deck.downloads.pause(request.params["download"], request.origin))


async def resume_download(deck: Deck, request: Request) -> Response:
    """Resume a paused download, or retry a failed one."""
    return json_response(await deck.downloads.resume(request.params["download"], request.origin))


async def remove_download(deck: Deck, request: Request) -> Response:
    """Remove an ended download from the list."""
    await deck.downloads.remove(request.params["download"], request.origin)
    return Response(status=204, content_type=None)


async def move_download(deck: Deck, request: Request) -> Response:
    """Move a download in the queue."""
    key, to = request.params["download"], request.parse(MoveBody).to
    return json_response(await deck.downloads.move(key, to, request.origin))


async def limit_download(deck: Deck, request: Request) -> Response:
    """Limit the rate of a download."""
    key, rate = request.params["download"], request.parse(LimitBody).bytes_per_s
    return json_response(await deck.downloads.limit(key, rate, request.origin))


async def plan_deletion(deck: Deck, request: Request) -> Response:
    """What a deletion would remove and free; nothing is changed."""
    return json_response(await deck.cache.plan_deletion(request.parse(SelectionBody).non_empty()))


async def delete_cached(deck: Deck, request: Request) -> Response:
    """Delete from the cache."""
    body = request.parse(DeleteBody)
    receipt = await deck.cache.delete(body.non_empty(), request.origin, force=body.force)
    return json_response(receipt)


async def get_cache(deck: Deck, request: Request) -> Response:
    """Contents of the cache."""
    return json_response(await deck.cache.listing())


async def verify_cache(deck: Deck, request: Request) -> Response:
    """Start to verify files of the cache; all of them for an empty selection."""
    what = request.parse(SelectionBody).selection()
    return json_response(await deck.cache.verify(what, request.origin))


async def cancel_verification(deck: Deck, request: Request) -> Response:
    """Cancel a verification."""
    return json_response(
        await deck.cache.cancel_verification(request.params["check"], request.origin)
    )


# Instances


async def load(deck: Deck, request: Request) -> Response:
    """Load a model into memory."""
    body = request.parse(LoadBody)
    act = deck.instances.loaded if body.wait else deck.instances.load
    return json_response(await act(request.params["model"], body.wish(), request.origin))


async def plan_load(deck: Deck, request: Request) -> Response:
    """What loading would do now; nothing is changed."""
    body = request.parse(LoadBody)
    return json_response(await deck.instances.plan(request.params["model"], body.wish()))


async def save_defaults(deck: Deck, request: Request) -> Response:
    """Save load options as the defaults of a model; the response has all that are saved."""
    changes = request.parse(DefaultsBody).changes()
    return json_response(
        await deck.instances.save_defaults(request.params["model"], changes, request.origin)
    )


async def forget_defaults(deck: Deck, request: Request) -> Response:
    """Remove the saved defaults of a model."""
    await deck.instances.forget_defaults(request.params["model"], request.origin)
    return Response(status=204, content_type=None)


def get_loads(deck: Deck, request: Request) -> Response:
    """Forecast and measured memory of earlier loads."""
    return json_response(LoadHistoryPage(loads=deck.instances.history(_limit(request, 200))))


async def change_instance(deck: Deck, request: Request) -> Response:
    """Pin an instance, or change its idle time."""
    changes = request.parse(InstanceBody).changes()
    key = request.params["instance"]
    return json_response(await deck.instances.change(key, changes, request.origin))


async def unload(deck: Deck, request: Request) -> Response:
    """Unload an instance, or cancel its load."""
    return json_response(await deck.instances.unload(request.params["instance"], request.origin))


async def unload_all(deck: Deck, request: Request) -> Response:
    """Unload every instance that is not pinned."""
    return json_response(UnloadReceipts(receipts=await deck.instances.unload_all(request.origin)))


# The core itself


def get_log(deck: Deck, request: Request) -> Response:
    """Lines of the log, oldest first."""
    after, limit = request.number("after", 0), _limit(request, 500)
    lines = deck.log(after, limit, request.query.get("source") or None)
    return json_response(LogPage(lines=lines))


async def get_audit(deck: Deck, request: Request) -> Response:
    """Entries of the audit trail, newest first."""
    return json_response(AuditPage(entries=await deck.audit_trail(_limit(request, 200))))


def _limit(request: Request, default: int) -> int:
    limit = request.number("limit", default)
    if not 1 <= limit <= LONGEST_LIST:
        raise InvalidRequest(f"limit must be between 1 and {LONGEST_LIST}.")
    return limit


async def change_settings(deck: Deck, request: Request) -> Response:
    """Change the settings in the body, permanently."""
    changes = request.parse(SettingsBody).changes()
    return json_response(await deck.change_settings(changes, request.origin))


def stop(deck: Deck, request: Request) -> Response:
    """Stop the core, in order."""
    deck.request_stop()
    return json_response(StopAnswer())


# Routes


def _route(method: str, template: str, handler: Any, summary: str, **more: Any) -> Route:
    words = handler.__name__.split("_")
    return Route(
        method=method,
        template=f"/deck/{template}",
        operation_id="deck" + "".join(word.capitalize() for word in words),
        summary=summary,
        tag=more.pop("tag", template.split("/", 1)[0]),
        **({"handler": handler} if "socket" not in more else {}),
        **more,
    )


_CONTEXT = Query(name="context_length", type=ContextLength, description="In tokens.")
_LIMIT = Query(name="limit", type=int, description="How many at most.")
_REVISION = Query(
    name="revision", type=str, description="Branch, tag or commit; the default branch without."
)
_GONE: dict[str, Any] = {"status": 204}

ROUTES: tuple[Route, ...] = (
    _route("GET", "state", get_state, "The whole state", answer=StateDocument),
    _route(
        "GET",
        "feed",
        feed,
        "A State, then events, over a WebSocket",
        socket=feed,
        query=(Query(name="max_hz", type=float, description="Frames a second at most."),),
    ),
    _route("POST", "models", create_model, "Add a custom model", body=ModelSeed, answer=Model),
    _route("GET", "models/{model}", get_model, "One model", answer=Model),
    _route("PATCH", "models/{model}", update_model, "Change a custom model", answer=Model,
           body=dict[str, Any]),
    _route("DELETE", "models/{model}", delete_model, "Remove a custom model", **_GONE),
    _route("GET", "models/{model}/fit", get_fit, "Whether a model fits this machine now",
           answer=Fit, query=(_CONTEXT,)),
    _route("GET", "fits", get_fits, "Whether each listed model fits this machine now",
           answer=FitList, query=(_CONTEXT,)),
    _route("POST", "models/{model}/download", download, "Download a model",
           body=DownloadBody, answer=Accepted),
    _route("POST", "models/{model}/load", load, "Load a model", body=LoadBody, answer=Instance),
    _route("POST", "models/{model}/load/plan", plan_load, "What loading a model would do",
           body=LoadBody, answer=LoadPlan),
    _route("PATCH", "models/{model}/defaults", save_defaults, "Save load options of a model",
           body=DefaultsBody, body_required=True, answer=LoadOptions),
    _route("DELETE", "models/{model}/defaults", forget_defaults, "Remove a model's saved load "
           "options", **_GONE),
    _route("GET", "loads", get_loads, "Memory of earlier loads", answer=LoadHistoryPage,
    query=(_LIMIT,),
           tag="instances"),
    _route("GET", "search", search, "Search the Hub", answer=SearchResult, tag="hub",
           query=(Query(name="query", type=str, description="Words."), _LIMIT)),
    _route("GET", "repositories/{repo}", get_repository, "Contents of a repository", tag="hub",
           answer=Repository, query=(_REVISION,)),
    _route("GET", "repositories/{repo}/card", get_card, "The model card of a repository",
           tag="hub", answer=Card, query=(_REVISION,)),
    _route("POST", "check-updates", check_updates, "Ask the Hub for newer files of the models here",
           tag="hub", answer=UpdateCheck),
    _route("POST", "downloads/{download}/cancel", cancel_download, "Cancel a download",
           body=CancelBody, answer=Download),
    _route("POST", "downloads/{download}/pause", pause_download, "Pause a download",
           answer=Download),
    _route("POST", "downloads/{download}/resume", resume_download, "Resume a download",
           answer=Download),
    _route("POST", "downloads/{download}/move", move_download, "Move a download in the queue",
           body=MoveBody, body_required=True, answer=Download),
    _route("POST", "downloads/{download}/limit", limit_download, "Limit the rate of a download",
           body=LimitBody, body_required=True, answer=Download),
    _route("DELETE", "downloads/{download}", remove_download, "Remove an ended download", **_GONE),
    _route("PATCH", "instances/{instance}", change_instance, "Pin an instance, or change its idle "
           "time", body=InstanceBody, body_required=True, answer=Instance),
    _route("POST", "instances/{instance}/unload", unload, "Unload an instance",
           answer=UnloadReceipt),
    _route("POST", "instances/unload", unload_all, "Unload every instance that is not pinned",
           answer=UnloadReceipts),
    _route("GET", "cache", get_cache, "Contents of the cache", answer=CacheListing),
    _route("POST", "cache/plan", plan_deletion, "What a deletion would remove", body=SelectionBody,
           body_required=True, answer=DeletionPlan, need="read"),
    _route("POST", "cache/delete", delete_cached, "Delete from the cache", body=DeleteBody,
           body_required=True, answer=DeletionReceipt),
    _route("POST", "cache/verify", verify_cache, "Verify files of the cache", body=SelectionBody,
           answer=Verification),
    _route("POST", "cache/verify/{check}/cancel", cancel_verification, "Cancel a verification",
           answer=Verification),
    _route("PATCH", "settings", change_settings, "Change settings", body=SettingsBody,
           body_required=True, answer=Settings, tag="core"),
    _route("GET", "log", get_log, "The log", answer=LogPage, tag="core",
           query=(Query(name="after", type=int, description="Only lines above this number."),
                  _LIMIT, Query(name="source", type=str, description="`core` or `engine:<id>`."))),
    _route("GET", "audit", get_audit, "The audit trail", answer=AuditPage, tag="core",
           query=(_LIMIT,)),
    _route("POST", "stop", stop, "End the core", answer=StopAnswer, tag="core"),
)  # fmt: skip
