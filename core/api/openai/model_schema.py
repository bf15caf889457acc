"""Models in OpenAI's format, with what clients look for besides. Pure.

Source: https://platform.openai.com/docs/api-reference/models; `max_model_len` is vLLM's, and
llama-server has `n_ctx` and its like.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from msgspec import UNSET, UnsetType

from modeldeck.core.schema import Instance, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMeta:
    """Facts of a model, and how it answers while it is loaded; not part of OpenAI's format."""

    n_ctx: int | UnsetType = UNSET
    """Context length that it is loaded with; the same as `context_length`."""
    n_ctx_train: int | UnsetType = UNSET
    """Context length that it was trained for."""
    n_params: int | UnsetType = UNSET
    size: int | UnsetType = UNSET
    """Bytes of its files."""
    context_length: int | UnsetType | None = UNSET
    """Tokens that one request may reach; left out while it is not loaded, as are the next two."""
    parallel: int | UnsetType = UNSET
    """Requests that are answered at the same time."""
    cache_tokens: int | UnsetType | None = UNSET
    """Tokens that all of them share; null where they share none."""


def meta_of(model: Model, loaded: Instance | None) -> ModelMeta:
    """The facts of a model, and of its instance where it is loaded."""
    return ModelMeta(
        n_ctx=(loaded and loaded.context_length) or UNSET,
        n_ctx_train=model.context_length or UNSET,
        n_params=round(model.parameters * 1e9) if model.parameters else UNSET,
        size=model.size_bytes or UNSET,
        context_length=loaded.context_length if loaded is not None else UNSET,
        parallel=loaded.parallel if loaded is not None else UNSET,
        cache_tokens=loaded.cache_tokens if loaded is not None else UNSET,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """A model, in OpenAI's format."""

    id: str
    created: int
    """Seconds since the epoch."""
    owned_by: str
    object: Literal["model"] = "model"
    context_length: int | UnsetType = UNSET
    """Tokens: those it is loaded with, else those that it was trained for."""
    max_model_len: int | UnsetType = UNSET
    """The same, by vLLM's name."""
    capabilities: list[str] = field(default_factory=list)
    """Among `completion`, `tools`, `thinking`, `vision`, `audio`, `embedding`."""
    meta: ModelMeta = field(default_factory=ModelMeta)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """Models, in OpenAI's format."""

    data: list[OpenModel] = field(default_factory=list)
    object: Literal["list"] = "list"
