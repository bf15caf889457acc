"""State: one value that holds what this machine has and does, and the events that change it.

Theory of operation. The core owns a State. Every change is an `Event` that carries a whole new
record, never a delta, and `apply` is the one function that folds an event into a State, in the core
and in every client. So folding is idempotent, any backlog of events may be replaced by its result,
and first connect, reconnect and overflow are the same: take the State that comes, then fold what
follows. `seq` counts the events; it goes up by one with each.

Mappings keep insertion order, which is the order of lists on the wire. They are never changed in
place: `apply` copies the one it changes and shares the rest, so that parts compare with `is`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import msgspec

from modeldeck.core.schema import (
    BenchProgress,
    Disk,
    Download,
    Host,
    Instance,
    Memory,
    Model,
    Recording,
    RequestInfo,
    RequestTotals,
    Runtime,
    Settings,
    Verification,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything a front end shows. `seq` is that of the last event folded in."""

    seq: int = 0
    host: Host
    models: Mapping[str, Model] = field(default_factory=dict)
    downloads: Mapping[str, Download] = field(default_factory=dict)
    instances: Mapping[str, Instance] = field(default_factory=dict)
    verifications: Mapping[str, Verification] = field(default_factory=dict)
    requests: Mapping[str, RequestInfo] = field(default_factory=dict)
    """Requests to models: those that run or wait, and the last that ended."""
    requests_today: RequestTotals = field(default_factory=RequestTotals)
    recording: Recording | None = None
    """The recording in force; None while what is said is not recorded."""
    bench: BenchProgress | None = None
    """The benchmark that runs, or the last one; None before the first."""
    memory: Memory = field(default_factory=Memory)
    disk: Disk = field(default_factory=Disk)
    runtimes: tuple[Runtime, ...] = ()
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChanged:
    """The host record is new."""

    seq: int
    host: Host


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChanged:
    """A model is new or changed."""

    seq: int
    model: Model


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRemoved:
    """A model is gone."""

    seq: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadChanged:
    """A download is new or changed."""

    seq: int
    download: Download


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRemoved:
    """A download is gone from the list."""

    seq: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceChanged:
    """An instance is new or changed."""

    seq: int
    instance: Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRemoved:
    """An instance is gone from the list."""

    seq: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryChanged:
    """System memory was sampled."""

    seq: int
    memory: Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskChanged:
    """The disk was looked at."""

    seq: int
    disk: Disk


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimesChanged:
    """The engines of this machine were probed."""

    seq: int
    runtimes: tuple[Runtime, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChanged:
    """The settings in force changed."""

    seq: int
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationChanged:
    """A check of the cache is new or changed."""

    seq: int
    verification: Verification


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationRemoved:
    """A check of the cache is gone from the list."""

    seq: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestChanged:
    """A request to a model is new or changed."""

    seq: int
    request: RequestInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRemoved:
    """A request to a model is gone from the list."""

    seq: int
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsTodayChanged:
    """A request to a model ended and was counted."""

    seq: int
    totals: RequestTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingChanged:
    """A recording of what requests say began or ended."""

    seq: int
    recording: Recording | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchChanged:
    """A benchmark began, went on or ended."""

    seq: int
    bench: BenchProgress


Event = (
    HostChanged
    | ModelChanged
    | ModelRemoved
    | DownloadChanged
    | DownloadRemoved
    | InstanceChanged
    | InstanceRemoved
    | MemoryChanged
    | DiskChanged
    | RuntimesChanged
    | SettingsChanged
    | VerificationChanged
    | VerificationRemoved
    | RequestChanged
    | RequestRemoved
    | RequestsTodayChanged
    | RecordingChanged
    | BenchChanged
)

EVENTS: dict[str, type[Event]] = {
    "host_changed": HostChanged,
    "model_changed": ModelChanged,
    "model_removed": ModelRemoved,
    "download_changed": DownloadChanged,
    "download_removed": DownloadRemoved,
    "instance_changed": InstanceChanged,
    "instance_removed": InstanceRemoved,
    "memory_changed": MemoryChanged,
    "disk_changed": DiskChanged,
    "runtimes_changed": RuntimesChanged,
    "settings_changed": SettingsChanged,
    "verification_changed": VerificationChanged,
    "verification_removed": VerificationRemoved,
    "request_changed": RequestChanged,
    "request_removed": RequestRemoved,
    "requests_today_changed": RequestsTodayChanged,
    "recording_changed": RecordingChanged,
    "bench_changed": BenchChanged,
}
"""The value of `event` in a feed frame, and the record that the rest of the frame holds."""

_NAMES = {cls: name for name, cls in EVENTS.items()}

R = TypeVar("R")


def _put(records: Mapping[str, R], key: str, record: R) -> Mapping[str, R]:
    return {**records, key: record}


def _without(records: Mapping[str, R], key: str) -> Mapping[str, R]:
    return {k: v for k, v in records.items() if k != key}


def apply(state: State, event: Event) -> State:
    """The State after `event`. An event that is already folded in (by `seq`) changes nothing."""
    if event.seq <= state.seq:
        return state
    match event:
        case ModelChanged(seq=seq, model=model):
            return replace(state, seq=seq, models=_put(state.models, model.id, model))
        case ModelRemoved(seq=seq, id=key):
            return replace(state, seq=seq, models=_without(state.models, key))
        case DownloadChanged(seq=seq, download=job):
            return replace(state, seq=seq, downloads=_put(state.downloads, job.id, job))
        case DownloadRemoved(seq=seq, id=key):
            return replace(state, seq=seq, downloads=_without(state.downloads, key))
        case InstanceChanged(seq=seq, instance=instance):
            return replace(state, seq=seq, instances=_put(state.instances, instance.id, instance))
        case InstanceRemoved(seq=seq, id=key):
            return replace(state, seq=seq, instances=_without(state.instances, key))
        case HostChanged(seq=seq, host=host):
            return replace(state, seq=seq, host=host)
        case MemoryChanged(seq=seq, memory=memory):
            return replace(state, seq=seq, memory=memory)
        case DiskChanged(seq=seq, disk=disk):
            return replace(state, seq=seq, disk=disk)
        case RuntimesChanged(seq=seq, runtimes=runtimes):
            return replace(state, seq=seq, runtimes=runtimes)
        case SettingsChanged(seq=seq, settings=settings):
            return replace(state, seq=seq, settings=settings)
        case VerificationChanged(seq=seq, verification=check):
            checks = _put(state.verifications, check.id, check)
            return replace(state, seq=seq, verifications=checks)
        case VerificationRemoved(seq=seq, id=key):
            return replace(state, seq=seq, verifications=_without(state.verifications, key))
        case RequestChanged(seq=seq, request=request):
            return replace(state, seq=seq, requests=_put(state.requests, request.id, request))
        case RequestRemoved(seq=seq, id=key):
            return replace(state, seq=seq, requests=_without(state.requests, key))
        case RequestsTodayChanged(seq=seq, totals=totals):
            return replace(state, seq=seq, requests_today=totals)
        case RecordingChanged(seq=seq, recording=recording):
            return replace(state, seq=seq, recording=recording)
        case BenchChanged(seq=seq, bench=bench):
            return replace(state, seq=seq, bench=bench)


def subject(event: Event) -> tuple[str, str]:
    """Return the kind and key of what an event changes: a newer one with the same replaces it."""
    match event:
        case ModelChanged(model=model):
            return "model", model.id
        case ModelRemoved(id=key):
            return "model", key
        case DownloadChanged(download=job):
            return "download", job.id
        case DownloadRemoved(id=key):
            return "download", key
        case InstanceChanged(instance=instance):
            return "instance", instance.id
        case InstanceRemoved(id=key):
            return "instance", key
        case VerificationChanged(verification=check):
            return "verification", check.id
        case VerificationRemoved(id=key):
            return "verification", key
        case RequestChanged(request=request):
            return "request", request.id
        case RequestRemoved(id=key):
            return "request", key
        case _:
            return _NAMES[type(event)], ""


_LISTS = ("models", "downloads", "instances", "verifications", "requests")


def state_to_wire(state: State) -> dict[str, Any]:
    """State as `GET /deck/state` answers it: the mappings become lists in their order."""
    wire: dict[str, Any] = {f.name: getattr(state, f.name) for f in fields(state)}
    for name in _LISTS:
        wire[name] = list(wire[name].values())
    return wire


def state_from_wire(wire: Mapping[str, Any]) -> State:
    """The State that `state_to_wire` described. Raises msgspec.ValidationError on a bad one."""
    try:
        parts = dict(wire)
        for name in _LISTS:
            parts[name] = {record["id"]: record for record in parts.get(name, ())}
    except (KeyError, TypeError, ValueError) as error:
        raise msgspec.ValidationError(
            f"a list of records is not one: {type(error).__name__}"
        ) from error
    return msgspec.convert(parts, State)


def frame_from_item(item: State | Event) -> bytes:
    """One frame of the feed: `{"event": "state", ...}` or `{"event": "<name>", ...}` as JSON."""
    if isinstance(item, State):
        return msgspec.json.encode({"event": "state", **state_to_wire(item)})
    body = {f.name: getattr(item, f.name) for f in fields(item)}
    return msgspec.json.encode({"event": _NAMES[type(item)], **body})


def item_from_frame(frame: bytes | str) -> State | Event | None:
    """Decode a frame of the feed; None for an event that this version does not know.

    Raises msgspec.DecodeError or msgspec.ValidationError on a frame that is not one of ours.
    """
    wire = msgspec.json.decode(frame, type=dict[str, Any])
    name = wire.pop("event", None)
    if name == "state":
        return state_from_wire(wire)
    event = EVENTS.get(name) if isinstance(name, str) else None
    return msgspec.convert(wire, event) if event else None
