"""Models, and the repositories they come from."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

Format = Literal["gguf", "mlx"]


Engine = Literal["llama.cpp", "mlx"]


OtherTool = Literal["ollama", "lm studio"]
"""A tool of this machine whose models are listed where they lie."""

OTHER_TOOLS: Mapping[str, str] = {"ollama": "Ollama", "lm studio": "LM Studio"}
"""Their names, as they write them themselves."""


MODEL_NAMESPACE = uuid.UUID("5b1f6a0e-6a34-5d5f-9d6a-7a2c0f5e3c11")
"""Namespace of `model_id`. Changing it would change the id of every model on every machine."""


@lru_cache(4096)  # asked for every model of the list whenever one of them changes
def model_id(unique: str) -> str:
    """The id of the model with this unique name: a UUID, the same on every machine.

    Repository names on the Hub are case-insensitive, and so is the id; paths and URLs are not.
    """
    is_exact = unique.startswith(("/", "https://", "http://"))
    return str(uuid.uuid5(MODEL_NAMESPACE, unique if is_exact else unique.casefold()))


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
    verifiable: bool = True
    """Whether `blob` is a hash of the content at all. False for a file from a URL whose server
    gives none: then it only stands for the content until that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a model of the Hub consists of on one machine: all that another one needs to have it."""

    model: Model
    repo: str
    revision: str
    """The commit."""
    ref: str | None
    """The branch that the commit was the head of; None for a pinned commit."""
    files: tuple[RepoFile, ...]


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
    refusal: str | None = None
    """Why it would not be loaded here, as its small files tell; None where they tell of nothing."""


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
class Card:
    """The model card of a repository: the README that its makers wrote, in Markdown."""

    repo: str
    revision: str
    """The commit that it is of."""
    text: str
    """As it was written, front matter and HTML included."""
    truncated: bool = False
    """Whether it is longer than what is given here."""
    from_cache: bool = False
    """True when it was kept on this machine, and the Hub was not asked for it now."""


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
    usage: tuple[str, ...] = ()
    """What its tags tell of it: among `vision`, `audio`, `tools`, `thinking`, `embedding` and
    `rerank`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The result of a search on the Hub."""

    query: str
    hits: tuple[SearchHit, ...]
    from_cache: bool = False
    """True when the Hub could not be reached and these are results of an earlier search."""
    error: str | None = None
    """Why the Hub could not be asked; None when it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUpdate:
    """Newer files of a downloaded model on the Hub."""

    revision: str
    """The commit that has them."""
    last_modified: str = ""
    """When the repository was changed: ISO 8601, UTC; empty where the Hub does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpeed:
    """How fast a model was in its last benchmark, with one request at a time."""

    tokens_per_s: float | None
    """Tokens written; None where it ended its answers at once."""
    prompt_tokens_per_s: float | None
    """Tokens of a prompt of 512 read."""
    context_length: int | None
    """It was loaded with."""
    revision: str | None
    """The commit of the model."""
    at: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCheck:
    """What the Hub was asked, and what it has that is newer."""

    checked: int
    """Models that it was asked about."""
    updates: tuple[str, ...] = ()
    """Ids of those with newer files."""
    unanswered: tuple[str, ...] = ()
    """Repositories that it did not tell of: gone, or their licence must be accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A catalog entry: one variant that can be or is downloaded, or that lies at a local path."""

    id: str
    unique: str
    name: str
    format: Format
    source: Literal["builtin", "catalog", "cache", "custom", "hub", "ollama", "lm studio"]
    """Where the entry comes from: our catalog, that of the configuration (`hub.catalog`), files
    found in the cache, a person, a Hub repository that was asked for by name, or another tool, to
    which its files belong."""
    quantization: str | None = None
    size_bytes: int | None = None
    """Bytes of all its files; an estimate while `size_exact` is False."""
    size_exact: bool = False
    downloaded: bool = False
    custom: bool = False
    local: bool = False
    """Whether it lies at a path outside the cache, and so is never deleted by modeldeck."""
    repo: str | None = None
    aliases: tuple[str, ...] = ()
    """Other unique names that lead to it: what its repository was called before it was renamed, or
    what Ollama calls it."""
    revision: str | None = None
    """The commit that is downloaded; None when not downloaded or not from the Hub."""
    update_available: ModelUpdate | None = None
    """What the Hub has that is newer, as last asked; None for nothing, or where it was not."""
    measured: ModelSpeed | None = None
    """Its last benchmark on this machine; None for none, or where its files are others now."""
    last_used_at: str | None = None
    """When it answered last before it was unloaded: ISO 8601, UTC; None for never, or too long ago.
    While it is loaded, `Instance.idle_s` tells it."""
    path: str | None = None
    """What an engine is given: the first GGUF file or the MLX folder; None when not downloaded."""
    projector: str | None = None
    """Path on disk of the projector, which turns images or audio into input of the model; None
    where there is none."""
    parameters: float | None = None
    """In billions."""
    context_length: int | None = None
    """The context length the model was trained for, in tokens."""
    architecture: str | None = None
    license: str | None = None
    gated: bool = False
    usage: tuple[str, ...] = ()
    """Among `chat`, `code`, `vision`, `embedding`, `rerank`."""
    capabilities: tuple[str, ...] = ()
    """What its chat template has a place for, once it is downloaded: among `tools`, `thinking`, and
    `always_thinking` for a model that cannot be told not to think. What its projector takes:
    `vision` for images, `audio` for recordings."""
    description: str = ""
    version: str = ""
    created_at: str = "2026-01-01T00:00:00Z"
    """ISO 8601, UTC."""
    engine: Engine | None = None
    """The engine that would load it on this machine. None where there is none, and while the core
    has just begun and its engines are still being looked at: `State.runtimes` is empty as long."""
    documented: dict[str, Any] = field(default_factory=dict)
    """Fields of the documented API that modeldeck keeps for the caller and does not use itself."""

    @property
    def generates_text(self) -> bool:
        """Whether it writes answers; else it makes vectors of texts, or ranks them."""
        return not {"embedding", "rerank"}.intersection(self.usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSeed:
    """The fields to add a custom model."""

    unique: str | None = None
    """`owner/repo:VARIANT`, `owner/repo`, `hf://owner/repo/file`, an https URL of a GGUF file, or
    an absolute path of a GGUF file or an MLX folder; None for an entry without files."""
    name: str | None = None
    version: str | None = None
    description: str = ""
    created_at: str | None = None
    documented: dict[str, Any] = field(default_factory=dict)
