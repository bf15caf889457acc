"""The list of models, merged from catalog, added models and cached models; find by name.

Pure: the cache comes in as the result of a scan.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from modeldeck.core.catalog.variants import variants
from modeldeck.core.errors import Ambiguous, NotFound
from modeldeck.core.schema import CachedSnapshot, Format, Model, RepoFile, Variant, model_id

_NEAR_MISSES = 3
"""Number of similar names that are suggested when no model has the requested name."""


def from_snapshot(snapshot: CachedSnapshot, *, mlx: bool | None = None) -> tuple[Model, ...]:
    """Return the models of a cached revision, without those that miss a file.

    Args:
        snapshot: One revision in the cache.
        mlx: Whether safetensors files are for MLX; None to decide by the repository's name.
    """
    files = [
        RepoFile(path=file.path, size_bytes=file.size_bytes, blob=file.blob)
        for file in snapshot.files
    ]
    found = variants(snapshot.repo, files, mlx=mlx)
    return tuple(_cached(snapshot, variant) for variant in found)


def _cached(snapshot: CachedSnapshot, variant: Variant) -> Model:
    folder = snapshot.folder.rstrip("/")
    first = folder if variant.format == "mlx" else f"{folder}/{variant.files[0].path}"
    return Model(
        id=model_id(variant.unique),
        unique=variant.unique,
        name=display_name(variant),
        format=variant.format,
        source="cache",
        quantization=variant.quantization,
        size_bytes=variant.size_bytes,
        size_exact=True,
        downloaded=True,
        repo=snapshot.repo,
        revision=snapshot.revision,
        path=first,
        projector=f"{folder}/{variant.projector}" if variant.projector else None,
    )


def display_name(variant: Variant) -> str:
    """Return the display name: the repository's name without a format suffix, and the label."""
    short = variant.unique.rsplit("/", 1)[-1].partition(":")[0]
    plain = re.sub(r"[-_.]gguf$", "", short, flags=re.IGNORECASE) or short
    return f"{plain} {variant.label}" if variant.label else plain


def newest_first(snapshots: Iterable[CachedSnapshot]) -> list[CachedSnapshot]:
    """Sort revisions by preference within their repository.

    First the one that `main` points to, then the one that was written last.
    """
    return sorted(snapshots, key=lambda s: ("main" not in s.refs, -s.modified_at, s.revision))


def merge(
    catalog: Iterable[Model], added: Iterable[Model], cached: Iterable[Model]
) -> dict[str, Model]:
    """Merge all models, by id, in an order that a download does not change.

    First the catalog in its own order, then models that only the cache has, by name, then
    added models, by time. An entry whose files are cached keeps its own texts and gets their paths.
    Of several cached revisions of a model, the first one counts.
    """
    present: dict[str, Model] = {}
    for model in cached:
        present.setdefault(model.id, model)
    ours: dict[str, Model] = {}
    for model in catalog:
        ours.setdefault(model.id, model)
    customs = {m.id: m for m in sorted(added, key=lambda m: m.created_at) if m.id not in ours}
    # By unique name: a custom entry keeps its id when its unique name changes.
    taken = {model_id(model.unique) for model in (*ours.values(), *customs.values())}
    alone = [model for model in present.values() if model.id not in taken]
    alone.sort(key=lambda m: (m.unique.casefold(), m.unique))
    ordered = [*ours.values(), *alone, *customs.values()]
    return {model.id: _with_files(model, present.get(model_id(model.unique))) for model in ordered}


def _with_files(model: Model, cached: Model | None) -> Model:
    """Return an entry with the facts of its cached files."""
    if cached is None or cached is model:
        return model
    return replace(
        model,
        quantization=model.quantization or cached.quantization,
        size_bytes=cached.size_bytes,
        size_exact=True,
        downloaded=True,
        repo=cached.repo,
        revision=cached.revision,
        path=cached.path,
        projector=cached.projector,
        parameters=model.parameters or cached.parameters,
        context_length=cached.context_length or model.context_length,
        architecture=cached.architecture or model.architecture,
        usage=model.usage or cached.usage,
        capabilities=cached.capabilities,
    )


def preferred(versions: Sequence[Model], format: Format) -> Model | None:
    """Choose among several versions of one model; None if there is no clear choice.

    A downloaded version is preferred, then the one in this format.
    """
    if len({_folded(_plain_name(model)) for model in versions}) != 1:
        return None
    here = [model for model in versions if model.downloaded] or versions
    of_format = [model for model in here if model.format == format] or here
    return of_format[0] if len(of_format) == 1 else None


def find(models: Mapping[str, Model], text: str, prefer: Format = "gguf") -> Model:
    """Return the model with this id, unique name, or unambiguous short name.

    Short names are: its name, its repository with or without the owner, and the unique name without
    the owner; of a local model the file's name with or without extension. Case does not count, and
    spaces may be written as dashes. If several formats of one model have the name, the one in the
    format `prefer` is returned. Raises NotFound, or Ambiguous naming the candidates.
    """
    if (model := known(models, text, prefer)) is not None:
        return model
    raise _unknown(text.strip(), models)


def known(models: Mapping[str, Model], text: str, prefer: Format = "gguf") -> Model | None:
    """Find a model as `find` does; return None, without suggestions, if there is none."""
    wanted = text.strip()
    if (model := models.get(wanted) or models.get(model_id(wanted))) is not None:
        return model
    key = _folded(wanted)
    for names in (_own_names, _short_names):
        found = [model for model in models.values() if key in map(_folded, names(model))]
        if len(found) == 1:
            return found[0]
        if found:
            if (model := preferred(found, prefer)) is not None:
                return model
            raise _ambiguous(wanted, found)
    return None


def _folded(text: str) -> str:
    return re.sub(r"\s+", "-", text.casefold())


def _own_names(model: Model) -> Iterable[str]:
    return model.id, model.unique, model.name, *model.aliases


def _short_names(model: Model) -> Iterable[str]:
    for alias in model.aliases:
        yield from (alias.partition(":")[0], alias.rsplit("/", 1)[-1])
    tail = model.unique.rsplit("/", 1)[-1]
    yield from (tail, _plain_name(model))
    if model.repo is not None:
        short = model.repo.rsplit("/", 1)[-1]
        yield from (model.repo, short, re.sub(r"-gguf$", "", short, flags=re.IGNORECASE))
    if model.unique.startswith("/"):
        yield tail.rpartition(".")[0]


def _plain_name(model: Model) -> str:
    """Return the name without format and quantization, equal for all versions of a model."""
    if not model.quantization or not model.name.endswith(f" {model.quantization}"):
        return model.name
    return model.name.removesuffix(f" {model.quantization}").removesuffix(" MLX")


def _ambiguous(text: str, found: Sequence[Model]) -> Ambiguous:
    names = tuple(model.unique for model in found)
    return Ambiguous(
        f"{text} could be any of {len(found)} models.",
        f"Say which: {', '.join(names)}.",
        details=names,
    )


def _unknown(text: str, models: Mapping[str, Model]) -> NotFound:
    key = _folded(text)
    every = (name for model in models.values() for name in (model.unique, model.name))
    # The first letter is seldom mistyped, and comparing with a long list takes too long.
    names = {_folded(name): name for name in every if _folded(name)[:1] == key[:1]}
    near = difflib.get_close_matches(key, names, _NEAR_MISSES, 0.6)
    offer = f" Did you mean {' or '.join(names[name] for name in near)}?" if near else ""
    return NotFound(
        f"There is no model {text!r}.{offer}",
        "`modeldeck ls` lists them; owner/repo:VARIANT names one on the Hub.",
    )
