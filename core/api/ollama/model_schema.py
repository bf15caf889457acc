"""Ollama's forms of models: listed, loaded, looked at, fetched. Pure.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, UnsetType

from modeldeck.core.api.ollama.schema import ModelNameBody


@dataclass(frozen=True, slots=True, kw_only=True)
class PullBody(ModelNameBody):
    """A request to fetch a model."""

    stream: bool | None = None
    """Streamed unless it is false."""
    insecure: bool | None = None
    """Passed over: files are fetched as the settings say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What kind of model it is."""

    format: str
    family: str
    families: list[str]
    parameter_size: str
    """Such as `7.6B`."""
    quantization_level: str
    parent_model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A model that is on this machine."""

    name: str
    model: str
    modified_at: str
    size: int
    """In bytes."""
    digest: str
    details: Details


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """What is on this machine."""

    models: list[Listed]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningModel:
    """A model that is loaded."""

    name: str
    model: str
    size: int
    """What its process holds, in bytes."""
    digest: str
    details: Details
    expires_at: str
    context_length: int
    size_vram: int | UnsetType = UNSET
    """0 where the engine uses no GPU; left out where it may: what of it lies there is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """What is loaded."""

    models: list[RunningModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetails:
    """What is known of a model."""

    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str
    license: str | UnsetType = UNSET
    template: str | UnsetType = UNSET
    """Jinja, as the model brings it; Ollama's own are of another kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How far a pull is."""

    status: str
    digest: str | UnsetType = UNSET
    """Of the model at its commit: all its files are one layer here."""
    total: int | UnsetType = UNSET
    completed: int | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionForm:
    """The version of Ollama's API that is spoken."""

    version: str
