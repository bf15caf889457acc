"""The records that cross a border: between parts of the core, over the API, into a front end.

All are frozen. Units are bytes, seconds and fractions from 0 to 1, and every name that reaches the
wire carries its unit. `None` means "not known"; it never stands for zero. Strings that came from
outside (model names, cards, logs) are kept as they came: whoever draws them strips them.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

Format = Literal["gguf", "mlx"]
Engine = Literal["llama.cpp", "mlx"]
Verdict = Literal["fits", "tight", "too large", "unknown"]
KvCacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]

MODEL_NAMESPACE = uuid.UUID("5b1f6a0e-6a34-5d5f-9d6a-7a2c0f5e3c11")
"""Namespace of `model_id`. Changing it would change the id of every model on every machine."""


def model_id(unique: str) -> str:
    """The id of the model with this unique name: a UUID, the same on every machine.

    Repository names on the Hub are case-insensitive, and so is the id; paths are not.
    """
    return str(uuid.uuid5(MODEL_NAMESPACE, unique if unique.startswith("/") else unique.casefold()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """What went wrong, and what a person can do about it."""

    code: str
    """A stable word for programs; one per class in `core.errors`."""
    message: str
    """What happened, in a sentence."""
    remedy: str = ""
    """What to do about it, in a sentence; empty where nothing can be done."""
    details: tuple[str, ...] = ()
    """Further lines, such as the last log lines of an engine process."""


# Host


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


# Models and repositories


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoFile:
    """One file of a repository on the Hub, as its tree lists it."""

    path: str
    """Path inside the repository, with forward slashes."""
    size_bytes: int
    blob: str
    """ETag, and the name of its blob in the cache: SHA-256 of LFS files, else git blob SHA-1."""
    lfs: bool = False
    """Whether `blob` is the SHA-256 of the content (else it is the git blob SHA-1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One choice of files inside a repository: a quantization, its parts and its projector."""

    unique: str
    """`owner/repo:LABEL` for GGUF, `owner/repo` for an MLX repository."""
    label: str | None
    """The quantization label of a GGUF variant, as the file name spells it; None for MLX."""
    format: Format
    quantization: str | None
    files: tuple[RepoFile, ...]
    """Everything that is fetched for this variant, the file that an engine is given first."""
    size_bytes: int
    """Sum of `files`."""
    projector: str | None = None
    """Path of the vision projector among `files`, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository on the Hub, at one commit."""

    repo: str
    revision: str
    """The commit: 40 hexadecimal digits."""
    license: str | None = None
    gated: bool = False
    """Whether its licence must be accepted on the Hub before files can be fetched."""
    downloads: int | None = None
    likes: int | None = None
    last_modified: str | None = None
    tags: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    from_cache: bool = False
    """True when the Hub could not be reached and this is what it said earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """One repository in the answer to a search of the Hub."""

    repo: str
    downloads: int | None = None
    likes: int | None = None
    last_modified: str | None = None
    gated: bool = False
    license: str | None = None
    formats: tuple[Format, ...] = ()
    parameters: float | None = None
    """Number of parameters, in billions, where the name tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search of the Hub found."""

    query: str
    hits: tuple[SearchHit, ...]
    from_cache: bool = False
    """True when the Hub could not be reached and these are results of an earlier search."""
    error: str | None = None
    """Why the Hub could not be asked; None when it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A catalog entry: one variant that can be or is downloaded, or that lies at a local path."""

    id: str
    unique: str
    name: str
    format: Format
    source: Literal["builtin", "cache", "custom", "hub"]
    """Where the entry comes from: our catalog, files found in the cache, a person, a Hub repository
    that was asked for by name."""
    quantization: str | None = None
    size_bytes: int | None = None
    """Bytes of all its files; an estimate while `size_exact` is False."""
    size_exact: bool = False
    downloaded: bool = False
    custom: bool = False
    local: bool = False
    """Whether it lies at a path outside the cache, and so is never deleted by modeldeck."""
    repo: str | None = None
    revision: str | None = None
    """The commit that is downloaded; None when not downloaded or not from the Hub."""
    path: str | None = None
    """What an engine is given: the first GGUF file or the MLX folder; None when not downloaded."""
    projector: str | None = None
    """Path of the vision projector on disk; None where there is none."""
    parameters: float | None = None
    """In billions."""
    context_length: int | None = None
    """The context length the model was trained for, in tokens."""
    architecture: str | None = None
    license: str | None = None
    gated: bool = False
    usage: tuple[str, ...] = ()
    """Among `chat`, `code`, `vision`, `embedding`."""
    description: str = ""
    version: str = ""
    created_at: str = "2026-01-01T00:00:00Z"
    """ISO 8601, UTC."""
    engine: Engine | None = None
    """The engine that would load it on this machine; None where there is none."""
    documented: dict[str, Any] = field(default_factory=dict)
    """Fields of the documented API that modeldeck keeps for the caller and does not use itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSeed:
    """What a person gives to add a custom model."""

    unique: str | None = None
    """`owner/repo:VARIANT`, `owner/repo`, `hf://owner/repo/file`, an https URL of a GGUF file, or
    an absolute path of a GGUF file or an MLX folder; None for an entry without files."""
    name: str | None = None
    version: str | None = None
    description: str = ""
    created_at: str | None = None
    documented: dict[str, Any] = field(default_factory=dict)


# Downloads

DownloadState = Literal[
    "queued", "downloading", "verifying", "paused", "completed", "failed", "canceled"
]


QueueMove = Literal["up", "down", "first", "last"]
"""Where a job of the queue goes: past its neighbour, or to an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadFile:
    """One file of a download."""

    path: str
    size_bytes: int
    received_bytes: int = 0
    """Bytes that arrived, durable or not."""
    state: DownloadState = "queued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A job that fetches the files of one model."""

    id: str
    model_id: str
    unique: str
    """The model's unique name, so that a job is readable without the catalog."""
    repo: str
    revision: str
    """The commit that is fetched; a job never changes it."""
    state: DownloadState
    received_bytes: int = 0
    """Bytes that arrived, over all files."""
    verified_bytes: int = 0
    """Bytes that were read back from disk and hashed; never more than arrived."""
    total_bytes: int = 0
    rate_bytes_per_s: float | None = None
    """Smoothed; None while nothing flows."""
    eta_s: float | None = None
    error: ErrorInfo | None = None
    files: tuple[DownloadFile, ...] = ()
    created_at: str = ""
    finished_at: str | None = None
    seconds: float = 0.0
    """Time spent transferring and verifying, over all runs of the job."""
    position: int = 0
    """Order in the queue, the smallest first: the first ones run, as many as may at once."""
    rate_limit_bytes_per_s: int | None = None
    """The most this job may take, whatever the limit for all is; None for no limit of its own."""


# Memory and disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One graphics processor with memory of its own."""

    index: int
    name: str
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """System memory, as the operating system tells it."""

    total_bytes: int | None = None
    available_bytes: int | None = None
    """What can be taken without swapping: `MemAvailable` on Linux, free plus inactive on macOS."""
    budget_bytes: int | None = None
    """What models may take together: what is available, plus what they hold, less the reserve;
    never more than the budget that a person set."""
    swap_used_bytes: int | None = None
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """What one process holds, as the operating system tells it."""

    rss_bytes: int
    """Resident pages, shared ones counted in full."""
    pss_bytes: int | None = None
    """Resident pages, each shared one divided by those who share it; Linux only."""
    private_bytes: int | None = None
    """Pages that nobody else holds (USS): what comes back when the process ends."""
    footprint_bytes: int | None = None
    """What the kernel charges to the process, its memory on the GPU included; macOS only."""
    peak_bytes: int | None = None
    """The largest resident size so far; on macOS the largest footprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The file system that holds the cache."""

    path: str = ""
    free_bytes: int | None = None
    cache_bytes: int | None = None
    """Bytes of all blobs in the Hugging Face cache, partial files included."""
    partial_bytes: int | None = None
    """Bytes of partial files that no running job owns or will resume, plus those of jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a load would take, item by item."""

    total_bytes: int
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    overhead_bytes: int
    exact: bool
    """True when the engine itself planned the load, False for the formula."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether a model fits this machine now, at a context length."""

    verdict: Verdict
    forecast: Forecast | None
    available_bytes: int | None
    exact: bool
    context_length: int | None = None
    reason: str | None = None
    """Why the verdict is unknown, or what is missing; None when there is nothing to say."""


# Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """An engine that this machine could run."""

    name: Engine
    version: str | None = None
    available: bool = False
    why_not: str | None = None
    """Why it is not available, with the command that installs it."""
    formats: tuple[Format, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is loaded. None means: the setting in force, else the engine's own choice."""

    context_length: int | None = None
    """In tokens, 16 to 16,777,216."""
    gpu_layers: int | None = None
    """Layers placed on the GPU; -1 for all."""
    kv_cache_type: KvCacheType | None = None
    flash_attention: bool | None = None
    threads: int | None = None
    batch_size: int | None = None
    mmap: bool | None = None
    mlock: bool | None = None
    embedding: bool | None = None
    """Load for embeddings instead of text."""
    idle_ttl_s: float | None = None
    """Unload after this long without a request; 0 for never."""
    pinned: bool | None = None
    """Never unloaded to make room."""


class InstanceState(StrEnum):
    """States of an instance; `core.runtime.lifecycle` says what may follow what."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def live(self) -> bool:
        """Whether the instance is loaded or being loaded."""
        return self in (InstanceState.STARTING, InstanceState.READY, InstanceState.BUSY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A loaded model: one engine process."""

    id: str
    model_id: str
    unique: str
    state: InstanceState
    engine: Engine
    pid: int | None = None
    context_length: int | None = None
    progress: float | None = None
    """Fraction of the load that is done; None when the engine cannot tell."""
    stage: str = ""
    """What a starting instance is doing, in a word or two."""
    forecast: Forecast | None = None
    measured_bytes: int | None = None
    """PSS (Linux) or footprint (macOS) of the process, else RSS; None before the first sample."""
    private_bytes: int | None = None
    """Memory that only this process holds: what comes back for certain when it ends."""
    peak_bytes: int | None = None
    """The largest resident size since the process started."""
    engine_bytes: int | None = None
    """What the engine itself counts as taken: weights and KV cache; None where it does not tell."""
    engine_peak_bytes: int | None = None
    """The most it counted during the last answer, temporary arrays included."""
    load_s: float | None = None
    idle_s: float | None = None
    """Time since the last request ended; None while busy or before it is ready."""
    requests: int = 0
    """Requests that are running or waiting."""
    tokens_per_s: float | None = None
    """Of the last answer."""
    time_to_first_token_s: float | None = None
    """Of the last answer."""
    options: LoadOptions = field(default_factory=LoadOptions)
    started_at: str = ""
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadReceipt:
    """What unloading really gave back."""

    instance_id: str
    model_id: str
    unique: str
    before_bytes: int | None
    """Memory the engine process held (as `Instance.measured_bytes`) when it was told to end."""
    after_bytes: int | None
    """Memory it still holds: 0 when the process is gone."""
    freed_bytes: int | None
    seconds: float
    process_gone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool", "developer"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """A request for text. None means the engine's own default."""

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    """Plain text to continue; used when `messages` is empty."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of an answer. The last one has a finish reason and the counts."""

    text: str = ""
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens_per_s: float | None = None
    time_to_first_token_s: float | None = None


# Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedFile:
    """One file of a snapshot in the cache."""

    path: str
    """Path inside the repository, with forward slashes."""
    blob: str
    """Name of its blob: the ETag. Empty where the cache holds a plain file instead of a link."""
    size_bytes: int
    shared: str = ""
    """Name of the payload that the blob links to, in the store that repositories of one cache share
    (huggingface_hub 2.x); empty where the blob is a file of its own."""
    used_at: float = 0.0
    """When its content was last read, in seconds since the epoch; most systems note that once a day
    (`relatime`), some never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSnapshot:
    """One revision of a repository that the cache holds, whole or in part."""

    repo: str
    revision: str
    refs: tuple[str, ...]
    """Names that point to this revision, such as `main`."""
    folder: str
    """Where the snapshot lies on disk."""
    files: tuple[CachedFile, ...]
    """Files whose content is there; a link to a missing blob is left out."""
    modified_at: float = 0.0
    """When the newest of its blobs was written: seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRevision:
    """One revision in the list of what the cache holds."""

    revision: str
    """The commit."""
    refs: tuple[str, ...]
    """Branches and tags that are at it; without any it is detached."""
    models: tuple[str, ...]
    """Unique names of the models that it holds complete."""
    files: int
    size_bytes: int
    shared_bytes: int
    """How much of it another revision or repository uses as well: it stays when this one goes."""
    used_at: float
    """When one of its files was last read, in seconds since the epoch, as the system notes it."""
    modified_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRepository:
    """One repository in the list of what the cache holds."""

    repo: str
    revisions: tuple[CacheRevision, ...]
    size_bytes: int
    """Bytes of its contents, each counted once."""
    shared_bytes: int
    """How much of that other repositories use as well."""
    partial_bytes: int
    """Bytes of its partial files."""
    used_at: float
    """As in its revisions; 0 where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheListing:
    """All that the cache holds."""

    path: str
    repositories: tuple[CacheRepository, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSelection:
    """Things in the cache, as a person or a program names them."""

    models: tuple[str, ...] = ()
    """By id, unique name or short name."""
    every_revision: bool = False
    """Of the models all revisions, and not only the one that is loaded."""
    revisions: tuple[str, ...] = ()
    """`owner/repo@` and a commit, the beginning of one, or a branch or tag."""
    repositories: tuple[str, ...] = ()
    """`owner/repo`: all that the cache holds of it."""
    partials: bool = False
    """Partial files that no download goes on with by itself."""
    detached: bool = False
    """Revisions that no branch or tag is at any more, unless a model was asked for at just that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A check of what lies in the cache against the hashes that it is named by."""

    id: str
    what: str
    """What is checked, in words."""
    state: Literal["queued", "verifying", "completed", "failed", "canceled"]
    done_bytes: int = 0
    total_bytes: int = 0
    files: int = 0
    rate_bytes_per_s: float | None = None
    eta_s: float | None = None
    wrong: tuple[str, ...] = ()
    """Paths on disk whose content is not what it should be."""
    unchecked: tuple[str, ...] = ()
    """Paths that have no hash to check against: plain files where the cache has links else."""
    error: ErrorInfo | None = None
    started_at: str = ""
    finished_at: str | None = None


# Deletion


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionItem:
    """One thing on disk that a deletion touches."""

    path: str
    size_bytes: int
    """Bytes that its removal gives back; 0 for links and folders."""
    kind: Literal["blob", "link", "partial", "ref", "snapshot", "repository"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptItem:
    """One thing that stays, and why."""

    path: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionPlan:
    """What a deletion would do: shown before, executed after."""

    model_ids: tuple[str, ...]
    delete: tuple[DeletionItem, ...]
    keep: tuple[KeptItem, ...]
    freed_bytes: int
    """Sum of what `delete` gives back."""
    blocked: tuple[str, ...] = ()
    """Why it would be refused without `force`: such as instances that have the files loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionReceipt:
    """What a deletion really did."""

    model_ids: tuple[str, ...]
    freed_bytes: int
    """Bytes of the blobs that are gone."""
    deleted: int
    """How many files, links and folders are gone."""
    failed: tuple[str, ...] = ()
    """What could not be removed, each with its reason."""
    free_before_bytes: int | None = None
    free_after_bytes: int | None = None


# Log and audit


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
    """One action that changed something."""

    at: str
    origin: str
    """Who asked: `unix` with the user id, or the peer's address."""
    action: str
    target: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings in force that a front end shows; the whole configuration is in `core.config`."""

    jobs_at_once: int = 2
    rate_limit_bytes_per_s: int | None = None
    """What a person set for all downloads together; None for no limit."""
    rate_in_force_bytes_per_s: int | None = None
    """What holds at this moment, by the schedule and the good neighbour."""
    rate_reason: Literal["", "schedule", "give way"] = ""
    """Why that is not what was set; empty where it is."""
    schedule: dict[str, int | Literal["none"]] = field(default_factory=dict)
    """Limits by part of the day, `01:00-07:00`, in bytes per second."""
    give_way: bool = False
    """Whether downloads hold back while an attached front end waits in line."""
    disk_floor_bytes: int = 0
    memory_budget_bytes: int | None = None
    """What a person lets models take together; None for what the machine has."""
    context_length: int = 8192
    idle_ttl_s: float = 0
    when_full: Literal["refuse", "unload_idle"] = "refuse"
