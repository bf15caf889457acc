"""The built-in catalog: `builtin.toml`, as records and as models."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any

import msgspec

from modeldeck.core.catalog.variants import canonical, mlx_quantization, quantization
from modeldeck.core.schema import LoadOptions, Model, model_id


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufSource:
    """Where the GGUF version of a model is."""

    repo: str
    file: str
    """The file that is preferred; its quantization is what counts, since files get renamed."""
    size_bytes: int | None = None
    """Of the file, as last seen."""
    sha256: str | None = None
    """Of the file, as last seen."""
    revision: str | None = None
    """The commit at which the size and hash were seen."""
    projector: str | None = None
    """The vision projector's file."""
    projector_bytes: int | None = None
    alternates: tuple[str, ...] = ()
    """Repositories with the same model, should this one be gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxSource:
    """Where the MLX version of a model is."""

    repo: str
    size_bytes: int | None = None
    """Of the repository's files, as last seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltinModel:
    """One model of the catalog, in every version that it has."""

    id: str
    name: str
    description: str
    license: str
    parameters_b: float
    """In billions; projectors and prediction heads included."""
    architecture: str
    usage: tuple[str, ...]
    source: str
    """The original's repository."""
    gguf: GgufSource
    mlx: MlxSource | None = None
    active_parameters_b: float | None = None
    """Of a mixture of experts: what works on each token, in billions."""
    context_length: int | None = None
    source_gated: str | None = None
    """How access to the original is granted; None where it is open or not known."""
    unverified: tuple[str, ...] = ()
    """Fields that were inferred."""
    load: LoadOptions = field(default_factory=LoadOptions)
    """How it is best loaded, where that differs from other models."""


def rows() -> tuple[BuiltinModel, ...]:
    """The catalog as it is written, checked. Takes a few milliseconds."""
    text = files("modeldeck.core.catalog").joinpath("builtin.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)["model"], tuple[BuiltinModel, ...])


def load() -> tuple[Model, ...]:
    """The catalog as models, in its own order: of each first the GGUF, then the MLX version."""
    return tuple(model for row in rows() for model in _models(row))


def load_options() -> dict[str, LoadOptions]:
    """How models of the catalog are best loaded, by id; a model for embeddings is loaded for them.

    Models that need nothing special are left out.
    """
    found = {}
    for row in rows():
        for model in _models(row):
            options = row.load
            if "embedding" in row.usage and model.format == "gguf":  # mlx-lm makes none
                options = replace(options, embedding=True)
            if options != LoadOptions():
                found[model.id] = options
    return found


def _models(row: BuiltinModel) -> list[Model]:
    told = quantization(row.gguf.file)
    assert told is not None, f"{row.gguf.file} tells no quantization"
    size = row.gguf.size_bytes
    found = [
        _model(
            row,
            f"{row.gguf.repo}:{told}",
            name=f"{row.name} {canonical(told)}",
            format="gguf",
            repo=row.gguf.repo,
            quantization=canonical(told),
            size_bytes=None if size is None else size + (row.gguf.projector_bytes or 0),
            usage=row.usage,
        )
    ]
    if row.mlx is not None:
        bits = mlx_quantization(row.mlx.repo)
        found.append(
            _model(
                row,
                row.mlx.repo,
                name=f"{row.name} MLX {bits or ''}".rstrip(),
                format="mlx",
                repo=row.mlx.repo,
                quantization=bits,
                size_bytes=row.mlx.size_bytes,
                # mlx-lm reads text only; pictures would need mlx-vlm.
                usage=tuple(use for use in row.usage if use != "vision"),
            )
        )
    return found


def _model(row: BuiltinModel, unique: str, **own: Any) -> Model:
    return Model(
        id=model_id(unique),
        unique=unique,
        source="builtin",
        parameters=row.parameters_b,
        context_length=row.context_length,
        architecture=row.architecture,
        license=row.license,
        description=row.description,
        **own,
    )
