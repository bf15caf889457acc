"""Ollama's model routes: `/api/tags`, `ps`, `show`, `pull` and `delete`."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from modeldeck.core.api.capabilities import capabilities
from modeldeck.core.api.http.messages import Request, Response, StreamResponse, json_response, line
from modeldeck.core.api.inference import OLLAMA_STREAM, streamed
from modeldeck.core.api.ollama import names
from modeldeck.core.api.ollama.model_schema import (
    Details,
    Listed,
    ModelDetails,
    Processes,
    PullBody,
    RunningModel,
    Status,
    Tags,
)
from modeldeck.core.api.ollama.schema import ModelNameBody, moment
from modeldeck.core.concurrency import together
from modeldeck.core.errors import Cancelled, NotDownloaded, StorageTimeout
from modeldeck.core.schema import CacheSelection, Download, Instance, InstanceState, Model
from modeldeck.core.schema.errors import from_info
from modeldeck.core.schema.state import State
from modeldeck.core.schema.summary import LOADED
from modeldeck.core.storage.foreign_files import in_file_thread

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

NEVER = timedelta(days=100 * 365)
"""Expiry of a model that stays loaded: Ollama's client shows over 20 years as `Forever`."""

LOOK_S = 1.0
"""Seconds to wait for the date of a file, so that a disk that hangs does not block the list."""

PULL_HZ = 10
"""Progress lines a second at most."""


# Reading


async def list_models(deck: Deck, request: Request) -> Response:
    """The downloaded models."""
    here = [model for model in deck.state.models.values() if model.downloaded]
    times = await together(_modified(model) for model in here)
    return json_response(
        Tags(
            models=[
                Listed(
                    name=names.shown(model, deck.state.models),
                    model=names.shown(model, deck.state.models),
                    modified_at=modified,
                    size=model.size_bytes or 0,
                    digest=names.digest(model),
                    details=details(model),
                    capabilities=capabilities(model, deck.instances.of(model.id)),
                )
                for model, modified in zip(here, times, strict=True)
            ]
        )
    )


async def _modified(model: Model) -> str:
    """When the model's file was modified; else when its entry was created."""
    if model.path is None:
        return model.created_at
    look = partial(os.stat, model.path)
    try:
        found = await in_file_thread(look, model.path, custom=model.local, limit_s=LOOK_S)
    except (OSError, StorageTimeout):
        return model.created_at
    return moment(datetime.fromtimestamp(found.st_mtime, UTC))


def details(model: Model) -> Details:
    """Kind of a model."""
    family = model.architecture or ""
    return Details(
        format=model.format,
        family=family,
        families=[family] if family else [],
        parameter_size=size(model.parameters),
        quantization_level=model.quantization or "",
        context_length=model.context_length or UNSET,
    )


def size(billions: float | None) -> str:
    """A number of parameters in Ollama's notation; empty if it is unknown.

    >>> size(7.62), size(0.596), size(0.0000004), size(None)
    ('7.6B', '596.00M', '400', '')
    """
    if billions is None:
        return ""
    count = billions * 1e9
    for unit, digits, letter in ((1e9, 1, "B"), (1e6, 2, "M"), (1e3, 2, "K")):
        if count >= unit:
            return f"{count / unit:.{digits}f}{letter}"
    return f"{count:.0f}"


def list_running(deck: Deck, request: Request) -> Response:
    """The models that are loaded."""
    state = deck.state
    return json_response(
        Processes(
            models=[
                _running(state, instance, model)
                for instance in state.instances.values()
                if instance.state in LOADED
                and (model := state.models.get(instance.model_id)) is not None
            ]
        )
    )


def _running(state: State, instance: Instance, model: Model) -> RunningModel:
    forecast = instance.forecast.total_bytes if instance.forecast else 0
    has_gpu = any("GPU" in r.devices for r in state.runtimes if r.name == instance.engine)
    return RunningModel(
        name=names.shown(model, state.models),
        model=names.shown(model, state.models),
        size=instance.measured_bytes or forecast,
        digest=names.digest(model),
        details=details(model),
        expires_at=moment(_expiry(instance, state.settings.idle_ttl_s)),
        context_length=instance.context_length or 0,
        parallel=instance.parallel,
        cache_tokens=UNSET if instance.cache_tokens is None else instance.cache_tokens,
        size_vram=UNSET if has_gpu or instance.engine == "mlx" else 0,
    )


def _expiry(instance: Instance, default_s: float | None) -> datetime:
    """When the instance is unloaded if it gets no request."""
    own = instance.options.idle_ttl_s
    idle_ttl_s = default_s if own is None else own
    left = timedelta(seconds=idle_ttl_s - (instance.idle_s or 0)) if idle_ttl_s else NEVER
    return datetime.now(UTC) + left


async def show(deck: Deck, request: Request) -> Response:
    """Details of a downloaded model."""
    model = _here(deck, request.parse(ModelNameBody).wanted)
    template = await deck.models.chat_template(model)
    return json_response(
        ModelDetails(
            details=details(model),
            model_info=_model_info(model),
            capabilities=capabilities(model, deck.instances.of(model.id)),
            modelfile=f"FROM {names.shown(model, deck.state.models)}\n",
            modified_at=await _modified(model),
            license=model.license or UNSET,
            template=template.text if template is not None else UNSET,
        )
    )


def _model_info(model: Model) -> dict[str, Any]:
    """Facts under the names that GGUF files have for them."""
    prefix = model.architecture or "general"
    known = {
        "general.architecture": model.architecture,
        "general.name": model.name,
        "general.license": model.license,
        "general.parameter_count": round(model.parameters * 1e9) if model.parameters else None,
        f"{prefix}.context_length": model.context_length,
    }
    return {name: value for name, value in known.items() if value is not None}


def _here(deck: Deck, name: str) -> Model:
    """The downloaded model with this name. Raises NotDownloaded, NotFound or Ambiguous."""
    model = names.find(deck, name)
    if not model.downloaded:
        raise NotDownloaded(f"model {name[:200]!r} not found: it is not downloaded.", "Pull it.")
    return model


# Downloading and deleting


async def pull(deck: Deck, request: Request) -> Response | StreamResponse:
    """Download a model from the Hub, and report its progress.

    The download goes on when the client goes away; a second pull joins it.
    """
    body = request.parse(PullBody)
    model = await names.look_up(deck, body.wanted)
    job = await deck.downloads.start(model.id, request.origin)
    if body.stream is not False:
        return await streamed(_lines(deck, model, job), OLLAMA_STREAM)
    async with aclosing(_progress(deck, model, job)) as statuses:
        async for _ in statuses:
            pass
    return json_response(Status(status="success"))


async def _lines(deck: Deck, model: Model, job: Download | None) -> AsyncGenerator[bytes, None]:
    """The progress as lines."""
    async with aclosing(_progress(deck, model, job)) as statuses:
        async for status in statuses:
            yield line(msgspec.json.encode(status))


async def _progress(deck: Deck, model: Model, job: Download | None) -> AsyncGenerator[Status, None]:
    """Progress of a pull until it is complete. Raises the error of the download."""
    yield Status(status="pulling manifest")
    if job is not None:
        digest = names.digest(model)
        sent: Status | None = None
        with deck.feed.subscribe(PULL_HZ, watching=False) as subscription:
            async for _ in subscription.batches():
                now = deck.state.downloads.get(job.id)
                status = _status(now, digest)
                if status != sent:
                    yield status
                    sent = status
                if now is not None and now.state == "completed":
                    break
    yield Status(status="writing manifest")
    yield Status(status="success")


def _status(job: Download | None, digest: str) -> Status:
    """Progress of a download. Raises its error if it failed or was cancelled."""
    if job is None or job.state == "canceled":
        raise Cancelled("The download was cancelled.", "Pull again: it goes on where it was.")
    if job.error is not None and job.state in ("failed", "paused"):
        raise from_info(job.error)
    if job.state == "verifying":
        return Status(status="verifying sha256 digest")
    verb = {"queued": "waiting for", "paused": "paused"}.get(job.state, "pulling")
    return Status(
        status=f"{verb} {digest[:12]}",
        digest=f"sha256:{digest}",
        total=job.total_bytes,
        completed=job.received_bytes,
    )


async def delete(deck: Deck, request: Request) -> Response:
    """Delete a model's files; for a model at a local path, only its entry in the list.

    An idle model is unloaded first; a busy one is refused as in use.
    """
    model = _here(deck, request.parse(ModelNameBody).wanted)
    if model.local:
        await deck.models.delete(model.id, request.origin)
        return Response(content_type=None)
    instance = deck.instances.of(model.id)
    idle = instance is None or instance.state is not InstanceState.BUSY
    what = CacheSelection(models=(model.id,))
    await deck.cache.delete(what, request.origin, force=idle, whole=True)
    return Response(content_type=None)
