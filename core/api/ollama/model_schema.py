"""Bodies and responses of Ollama's model routes: tags, ps, show, pull. Pure.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, UnsetType

from modeldeck.core.api.ollama.schema import ModelNameBody


@dataclass(frozen=True, slots=True, kw_only=True)
class PullBody(ModelNameBody):
    """A request to download a model."""

    stream: bool | None = None
    """Streamed unless false."""
    insecure: bool | None = None
    """Ignored: downloads follow the settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """Kind of a model."""

    format: str
    family: str
    families: list[str]
    parameter_size: str
    """Such as `7.6B`."""
    quantization_level: str
    parent_model: str = ""
    context_length: int | UnsetType = UNSET
    """Tokens that it was trained for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A downloaded model."""

    name: str
    model: str
    modified_at: str
    size: int
    """In bytes."""
    digest: str
    details: Details
    capabilities: list[str]
    """Among `completion`, `embedding`, `tools`, `thinking`, `vision` and `audio`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """The downloaded models."""

    models: list[Listed]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningModel:
    """A model that is loaded."""

    name: str
    model: str
    size: int
    """Memory of its process, in bytes."""
    digest: str
    details: Details
    expires_at: str
    context_length: int
    """Tokens that one request may reach."""
    parallel: int
    """Requests that are answered at the same time. Not in Ollama's own API."""
    cache_tokens: int | UnsetType = UNSET
    """Tokens that all of them share; left out where they share none. Not in Ollama's own API."""
    size_vram: int | UnsetType = UNSET
    """0 if the engine uses no GPU; else left out, as the amount in its memory is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """The loaded models."""

    models: list[RunningModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetails:
    """Details of a model."""

    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str
    parameters: str = ""
    """Defaults of options; models here have none of their own."""
    modelfile: str = ""
    """A line that names the model: it was made of no Modelfile."""
    license: str | UnsetType = UNSET
    template: str | UnsetType = UNSET
    """The model's own Jinja template; Ollama's are Go templates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Progress of a pull."""

    status: str
    digest: str | UnsetType = UNSET
    """Digest of the model at its commit: all its files are shown as one layer."""
    total: int | UnsetType = UNSET
    completed: int | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionForm:
    """The version of Ollama's API that is served."""

    version: str
