"""The built-in catalog, read from `builtin.toml`, and catalogs of the same form in other files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from modeldeck.core.catalog.variants import canonical, mlx_quantization, quantization
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import LoadOptions, Model, model_id
from modeldeck.core.storage.foreign_files import read_regular

LONGEST = 4 << 20
"""Bytes of a catalog file; the built-in one has 100 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufSource:
    """Repository and file of a model in GGUF."""

    repo: str
    file: str
    """The preferred file; only its quantization counts, since files get renamed."""
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
    """Other repositories with the same model, if this one is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxSource:
    """Repository of a model for MLX."""

    repo: str
    size_bytes: int | None = None
    """Of the repository's files, as last seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltinModel:
    """One model of the catalog with its versions."""

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
    """Parameters active per token of a mixture of experts, in billions."""
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()
    """As in `Model.capabilities`: told until its own files are here."""
    source_gated: str | None = None
    """How access to the original is granted; None if it is open or not known."""
    unverified: tuple[str, ...] = ()
    """Fields that were inferred."""
    load: LoadOptions = field(default_factory=LoadOptions)
    """Recommended load options, where they differ from the defaults."""


def rows() -> tuple[BuiltinModel, ...]:
    """Read and validate the catalog. Takes a few milliseconds."""
    text = files("modeldeck.core.catalog").joinpath("builtin.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)["model"], tuple[BuiltinModel, ...])


def load() -> tuple[Model, ...]:
    """Return the catalog as models in its own order, GGUF before MLX."""
    return tuple(model for row in rows() for model in _models(row))


def load_file(path: Path) -> tuple[Model, ...]:
    """Return the models of a catalog file (`hub.catalog`). Blocks.

    Raises InvalidRequest for a file that cannot be read or has another form.
    """
    try:
        text = read_regular(path, LONGEST).decode("utf-8")
        found = msgspec.convert(tomllib.loads(text).get("model", ()), tuple[BuiltinModel, ...])
        return tuple(replace(m, source="catalog") for row in found for m in _models(row))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidRequest(
            f"The catalog {path} cannot be read: {error}.",
            "Write it as `core/catalog/builtin.toml` is written.",
        ) from error


def load_options() -> dict[str, LoadOptions]:
    """Return recommended load options by model id.

    Those for embeddings and ranking are loaded for that. Models without special options are left
    out.
    """
    found = {}
    for row in rows():
        for model in _models(row):
            options = row.load
            if not model.generates_text and model.format == "gguf":  # mlx-lm makes none
                options = replace(options, embedding=True)
            if options != LoadOptions():
                found[model.id] = options
    return found


def _models(row: BuiltinModel) -> list[Model]:
    told = quantization(row.gguf.file)
    if told is None:
        raise InvalidRequest(f"The name {row.gguf.file} of {row.id} tells no quantization.")
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
            capabilities=row.capabilities,
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
                capabilities=tuple(can for can in row.capabilities if can != "audio"),
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
