"""One list of models out of three: the built-in catalog, what was added, and what the cache holds.

Pure: what is on disk comes in as scan results, and the list goes out.
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
"""Names offered when nothing has the name that was asked for."""


def from_snapshot(snapshot: CachedSnapshot, *, mlx: bool | None = None) -> tuple[Model, ...]:
    """The models that a cached revision holds; those with a file missing are left out.

    Args:
        snapshot: One revision in the cache.
        mlx: Whether safetensors files are MLX's; None to tell from the repository's name.
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
    """A name for people: the repository's own, less what the format adds to it, and the label."""
    short = variant.unique.rsplit("/", 1)[-1].partition(":")[0]
    plain = re.sub(r"[-_.]gguf$", "", short, flags=re.IGNORECASE) or short
    return f"{plain} {variant.label}" if variant.label else plain


def newest_first(snapshots: Iterable[CachedSnapshot]) -> list[CachedSnapshot]:
    """Revisions in the order in which they stand for their repository.

    First the one that `main` points to, then the one that was written last.
    """
    return sorted(snapshots, key=lambda s: ("main" not in s.refs, -s.modified_at, s.revision))


def merge(
    builtin: Iterable[Model], added: Iterable[Model], cached: Iterable[Model]
) -> dict[str, Model]:
    """All models by id, in an order that a download does not change.

    First the catalog in its own order, then what only the cache holds by name, then what was added
    by the time it was. An entry whose files are in the cache keeps its own words and takes over
    where they are. Of several cached revisions of one model, the first given counts.
    """
    present: dict[str, Model] = {}
    for model in cached:
        present.setdefault(model.id, model)
    ours = {model.id: model for model in builtin}
    customs = {m.id: m for m in sorted(added, key=lambda m: m.created_at) if m.id not in ours}
    # By the unique name: a custom entry that was given another one kept its id.
    taken = {model_id(model.unique) for model in (*ours.values(), *customs.values())}
    alone = [model for model in present.values() if model.id not in taken]
    alone.sort(key=lambda m: (m.unique.casefold(), m.unique))
    ordered = [*ours.values(), *alone, *customs.values()]
    return {model.id: _with_files(model, present.get(model_id(model.unique))) for model in ordered}


def _with_files(model: Model, cached: Model | None) -> Model:
    """The entry with the facts that only the files tell."""
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
    )


def preferred(versions: Sequence[Model], format: Format) -> Model | None:
    """The version to take of one model that there is in several; None where that is not clear.

    One that is downloaded goes before one that is not, then the format decides.
    """
    if len({_folded(_plain_name(model)) for model in versions}) != 1:
        return None
    here = [model for model in versions if model.downloaded] or versions
    of_format = [model for model in here if model.format == format] or here
    return of_format[0] if len(of_format) == 1 else None


def find(models: Mapping[str, Model], text: str, prefer: Format = "gguf") -> Model:
    """The model with this id, unique name, or short name that no other has.

    Short are: its name, its repository with or without the owner, and the unique name without the
    owner; of a local one the file's name with or without its extension. Case does not count, and
    spaces may be written as dashes. What names one model in several formats means the one in the
    format to `prefer`. Raises NotFound, or Ambiguous naming the candidates.
    """
    if (model := known(models, text, prefer)) is not None:
        return model
    raise _unknown(text.strip(), models)


def known(models: Mapping[str, Model], text: str, prefer: Format = "gguf") -> Model | None:
    """As `find`, and None for what is not listed: without the search for what was meant."""
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
    if model.local:
        yield tail.rpartition(".")[0]


def _plain_name(model: Model) -> str:
    """Its name less format and quantization, as all versions of a model of the catalog have it."""
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
    # The first letter is seldom mistyped, and comparing with all of a long list takes too long.
    names = {_folded(name): name for name in every if _folded(name)[:1] == key[:1]}
    near = difflib.get_close_matches(key, names, _NEAR_MISSES, 0.6)
    offer = f"Did you mean {' or '.join(names[name] for name in near)}? " if near else ""
    return NotFound(
        f"There is no model {text!r}.",
        f"{offer}`modeldeck ls` lists them; owner/repo:VARIANT names one on the Hub.",
    )
