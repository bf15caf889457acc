"""Model entries, made from a seed, a repository of the Hub, a URL, or a file on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modeldeck.core.catalog import listing
from modeldeck.core.catalog.variants import find as find_variant
from modeldeck.core.catalog.variants import variants
from modeldeck.core.errors import InvalidRequest, NotFound
from modeldeck.core.formats.unique_names import (
    HubName,
    LocalPath,
    UrlName,
    hub_name,
    parse_unique,
)
from modeldeck.core.schema import Model, ModelSeed, RepoFile, Repository, Variant, model_id
from modeldeck.core.schema.clock import now
from modeldeck.core.service.library.custom_files import look_at, with_projector
from modeldeck.core.service.library.local_files import kind_and_size, read_facts


def choose(repository: Repository, name: HubName) -> Variant:
    """Return the variant that a Hub name selects. Raises NotFound, listing the variants."""
    variants = repository.variants
    if name.file is not None:
        for variant in variants:
            if any(f.path == name.file for f in variant.files):
                return variant
        raise NotFound(
            f"{repository.repo} has no model file {name.file}.",
            f"`modeldeck search {repository.repo}` shows what it has.",
        )
    if name.label is not None:
        if (found := find_variant(variants, name.label)) is not None:
            return found
    elif len(variants) == 1:
        return variants[0]
    labels = ", ".join(v.label or v.unique for v in variants) or "none"
    asked = f"no variant {name.label}" if name.label else "several variants"
    raise NotFound(
        f"{repository.repo} has {asked}.",
        f"Name one of its variants as {repository.repo}:LABEL. It has: {labels}."
        if variants
        else "It holds neither GGUF files nor an MLX model.",
    )


def is_of(variant: Variant, model: Model) -> bool:
    """Whether a model's unique name selects this variant, by label or by file."""
    if variant.unique.casefold() == model.unique.casefold():
        return True
    name = hub_name(model.unique)
    return name is not None and any(f.path == name.file for f in variant.files)


def url_variant(name: UrlName, file: RepoFile) -> Variant:
    """Return the only variant at a URL."""
    found = variants(name.repo, [file])
    return Variant(
        unique=name.unique,
        label=None,
        format="gguf",
        quantization=found[0].quantization if found else None,
        files=(file,),
        size_bytes=file.size_bytes,
    )


def from_url(at: UrlName, size_bytes: int | None = None, **base: Any) -> Model:
    """Return the entry of a file at a URL; `base` overrides fields."""
    file = RepoFile(path=at.file, size_bytes=size_bytes or 0, blob="0" * 64, lfs=True)
    return Model(
        id=model_id(at.unique),
        unique=at.unique,
        format="gguf",
        quantization=url_variant(at, file).quantization,
        size_bytes=size_bytes,
        size_exact=size_bytes is not None,
        **{
            "name": at.file[: -len(".gguf")],
            "custom": True,
            "source": "custom",
            "created_at": now(),
            **base,
        },
    )


def from_variant(repository: Repository, variant: Variant, name: HubName) -> Model:
    """Return the entry of a variant that was requested by name; a pinned revision stays."""
    unique = name.unique if name.revision is not None else variant.unique
    return Model(
        id=model_id(unique),
        unique=unique,
        name=listing.display_name(variant),
        format=variant.format,
        source="hub",
        quantization=variant.quantization,
        size_bytes=variant.size_bytes,
        size_exact=True,
        repo=repository.repo,
        license=repository.license,
        gated=repository.gated,
        # Whether it hears as well is in the projector's header, which is read once it is here.
        capabilities=("vision",) if variant.projector is not None else (),
        created_at=now(),
    )


def from_seed(seed: ModelSeed, endpoint: str) -> Model:
    """Return the model that a seed describes. Raises InvalidRequest for an unusable name.

    Blocks: it reads the file at a path.
    """
    base: dict[str, Any] = {
        "version": seed.version or "",
        "description": seed.description,
        "created_at": seed.created_at or now(),
        "documented": seed.documented,
        "custom": True,
        "source": "custom",
    }
    if seed.unique is None or not seed.unique.strip():
        if not seed.name:
            raise InvalidRequest("A custom model needs a name or a unique name.")
        unique = f"custom:{seed.name.strip()}:{(seed.version or '').strip()}"
        return Model(id=model_id(unique), unique=unique, name=seed.name, format="gguf", **base)
    place = parse_unique(seed.unique, endpoint)
    if isinstance(place, LocalPath):
        return _from_path(place, seed, base)
    if isinstance(place, UrlName):
        if seed.name:
            base["name"] = seed.name
        return from_url(place, None, **base)
    unique = place.unique
    mlx = place.label is None and place.file is None and "gguf" not in place.repo.casefold()
    return Model(
        id=model_id(unique),
        unique=unique,
        name=seed.name or unique.split("/")[-1].replace(":", " "),
        format="mlx" if mlx else "gguf",
        repo=place.repo,
        quantization=place.label,
        **base,
    )


def _from_path(place: LocalPath, seed: ModelSeed, base: dict[str, Any]) -> Model:
    path = Path(place.path)
    is_folder, size = kind_and_size(path)
    facts = read_facts(path, "mlx" if is_folder else "gguf")
    model = Model(
        id=model_id(str(path)),
        unique=str(path),
        name=seed.name or path.stem,
        format="mlx" if is_folder else "gguf",
        path=str(path),
        local=True,
        downloaded=True,
        size_bytes=size,
        size_exact=True,
        context_length=facts.context_length,
        architecture=facts.architecture,
        parameters=facts.parameters,
        usage=facts.usage,
        capabilities=facts.capabilities,
        **base,
    )
    return with_projector(model, look_at(str(path)))
