"""The core itself: its machine, its settings, its log and audit trail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from modeldeck.core.schema.runtime import LoadOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine and the core that serves it."""

    name: str
    version: str
    """Version of modeldeck."""
    started_at: str
    """When the core started: ISO 8601, UTC, ending in Z."""
    id: str = ""
    """A UUID of this installation, kept across restarts."""
    pid: int = 0
    platform: str = ""
    """Operating system and processor, such as `linux x86_64`."""
    urls: tuple[str, ...] = ()
    """Where the API answers over TCP."""
    socket: str | None = None
    """Path of the Unix socket the API answers on."""
    hub: str = ""
    """The Hub endpoint in force."""
    hub_error: str | None = None
    """Why the Hub could not be asked the last time; None when it answered, or was not asked yet."""
    notices: tuple[str, ...] = ()
    """What a person should know, such as a bad line in the configuration file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The machine in a few numbers, for a status bar, and the protocol for a new connection."""

    name: str
    """Of the machine."""
    version: str
    protocol: int = 0
    """Protocol number of the core; see `modeldeck.core.schema.protocol`."""
    oldest_protocol: int = 0
    """The oldest that it still understands."""
    downloads: int = 0
    """Those that receive or verify."""
    queued: int = 0
    """Downloads that wait for their turn."""
    received_bytes: int = 0
    """Of the downloads that run, together."""
    total_bytes: int = 0
    """Of the downloads that run, together."""
    rate_bytes_per_s: float | None = None
    """Of all downloads; None while nothing flows."""
    eta_s: float | None = None
    """Until the last of them is done; None where that is not known."""
    loading: int = 0
    loaded: tuple[str, ...] = ()
    """Unique names of the models that are loaded."""
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    disk_free_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of the core's or an engine's log."""

    seq: int
    at: str
    level: Literal["debug", "info", "warning", "error"]
    source: str
    """`core`, or `engine:` and the instance id."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One action in the audit trail."""

    at: str
    origin: str
    """Who asked: `unix` with the user id, or the peer's address."""
    action: str
    target: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings in force that a front end shows; the whole configuration is in `config`."""

    jobs_at_once: int = 2
    rate_limit_bytes_per_s: int | None = None
    """The configured limit of all downloads together; None for no limit."""
    rate_in_force_bytes_per_s: int | None = None
    """The limit in force now, by the schedule and by giving way to an interactive connection."""
    rate_reason: Literal["", "schedule", "give way"] = ""
    """Why that is not what was set; empty where it is."""
    schedule: dict[str, int | Literal["none"]] = field(default_factory=dict)
    """Limits by part of the day, `01:00-07:00`, in bytes per second."""
    give_way: bool = False
    """Whether downloads hold back while an attached front end waits in line."""
    disk_floor_bytes: int = 0
    memory_budget_bytes: int | None = None
    """The configured memory budget of all models together; None for the whole machine."""
    context_length: int = 8192
    """The context length where the load gives none, in tokens, at most."""
    context_fit: bool = True
    """Whether less is taken where it does not fit."""
    idle_ttl_s: float = 0
    load_defaults: dict[str, LoadOptions] = field(default_factory=dict)
    """Load options that were saved as a model's defaults, by the model's id."""
    when_full: Literal["refuse", "unload_idle"] = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoable:
    """An action that can be undone without a download."""

    id: str
    what: str
    """What was done, in words."""
    at: str
    """When, in ISO 8601, UTC."""
    undone: str = ""
    """What undoing it does, in words, such as `download of X resumed`."""
