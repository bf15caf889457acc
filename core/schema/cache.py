"""Records of the Hugging Face cache: its contents, deletion plans and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
    orphan_bytes: int = 0
    """Bytes of its blobs that no revision needs."""
    url: str | None = None
    """Where its file came from; None for what is from the Hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheListing:
    """All that the cache holds."""

    path: str
    repositories: tuple[CacheRepository, ...]
    prefix_cache_bytes: int = 0
    """Bytes of conversations that engines saved beside it, in the state folder."""


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
    orphans: bool = False
    """Blobs that no revision needs, unless a download goes on with them."""
    detached: bool = False
    """Revisions that no branch or tag is at any more, unless a model was asked for at just that."""
    prefixes: bool = False
    """Conversations that engines saved, to read them faster when they go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionItem:
    """One thing on disk that a deletion touches."""

    path: str
    size_bytes: int
    """Bytes that its removal gives back; 0 for links and folders."""
    kind: Literal["blob", "link", "partial", "ref", "snapshot", "repository", "prefix"]
    file: str = ""
    """For a blob, where a revision shows it: the path on disk by which tools open it. Empty where
    no revision links to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptItem:
    """One thing that stays, and why."""

    path: str
    size_bytes: int
    reason: str
    file: str = ""
    """As in `DeletionItem`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionUnload:
    """A loaded model that a forced deletion unloads first."""

    instance_id: str
    model_id: str
    unique: str
    answers: int
    """Requests that it is answering, and that end with it."""
    who: tuple[str, ...] = ()
    """Who sent them, each once."""


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
    unloads: tuple[DeletionUnload, ...] = ()
    """What is unloaded first with `force`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionReceipt:
    """The result of a deletion."""

    model_ids: tuple[str, ...]
    freed_bytes: int
    """Bytes of the blobs that are gone."""
    deleted: int
    """How many files, links and folders are gone."""
    failed: tuple[str, ...] = ()
    """What could not be removed, each with its reason."""
    free_before_bytes: int | None = None
    free_after_bytes: int | None = None
    undo: str | None = None
    """The key that takes it back (`POST /deck/undo`), where no content went; None where it did."""
