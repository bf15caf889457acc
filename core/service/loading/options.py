"""Load options of a model, resolved from all their sources; the last used options are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from modeldeck.core.catalog import builtin
from modeldeck.core.config import load_options
from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.load_options import LayeredOptions
from modeldeck.core.schema import LoadOptions, Model, OptionOrigin, model_id
from modeldeck.core.storage.database import Database

DEFAULT_CONTEXT = 8192
"""Context length in tokens for "as long as the model allows" when that is not known."""

UNASKED: tuple[OptionOrigin, ...] = ("default", "catalog", "config")
"""Origins of an option that was not set for this model in particular. Such a context length is
silently lowered to the length that the model was trained for, and `parallel` to what fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedOptions:
    """Complete options with the origin of each."""

    options: LoadOptions
    """`context_length` is set; `context_fit` tells whether it may be lowered to fit the memory."""
    origins: dict[str, OptionOrigin]


def settle(resolved: LayeredOptions, trained: int | None) -> ResolvedOptions:
    """Set the context length of options, for a model trained for `trained` tokens. Pure.

    `parallel` is left out for an embedding model, which reads one text at a time.

    >>> settle(LayeredOptions(options=LoadOptions(context_fit=True), origins={}), 40960).options
    ... # doctest: +ELLIPSIS
    LoadOptions(context_length=40960, context_fit=True, ...)
    """
    length, origins = resolved.options.context_length, dict(resolved.origins)
    fit = bool(resolved.options.context_fit)
    if length is None:
        length = trained or DEFAULT_CONTEXT
        origins["context_length"] = "model" if trained else "default"
    elif (
        trained is not None and length > trained and (fit or is_unasked(origins, "context_length"))
    ):
        length, origins["context_length"] = trained, "model"
    cells = resolved.options.cache_tokens
    if cells is not None and cells < length:
        length, origins["context_length"] = cells, origins["cache_tokens"]
    parallel = resolved.options.parallel
    if resolved.options.embedding:
        parallel = None
        origins.pop("parallel", None)
    return ResolvedOptions(
        options=replace(
            resolved.options, context_length=length, context_fit=fit or None, parallel=parallel
        ),
        origins=origins,
    )


def is_unasked(origins: Mapping[str, OptionOrigin], name: str) -> bool:
    """Whether nobody set this option for the model in particular."""
    return origins.get(name, "default") in UNASKED


class OptionResolver:
    """Resolves options from all origins, and stores those of the last use."""

    def __init__(self, config: Config, store: Database) -> None:
        self._store = store
        self._layers = _from_settings(config.runtime)
        self._models = {_key(name): given for name, given in config.models.items()}
        self._catalog: Mapping[str, LoadOptions] = {}
        self._last: dict[str, LoadOptions] = {}
        self._remembering = asyncio.Lock()

    async def open(self) -> None:
        """Read the built-in catalog and the stored options."""
        self._catalog = await asyncio.to_thread(builtin.load_options)
        self._last.update(await self._store.records("options", LoadOptions, load_options.check))

    def resolve(
        self, model: Model, requested: LoadOptions, *, fresh: bool = False
    ) -> LayeredOptions:
        """Return a model's options with their origins; `fresh` ignores those of the last use.

        Raises InvalidRequest for requested options that no model can take.
        """
        load_options.check(requested)
        default, config = self._layers
        own = LoadOptions(embedding=True if "embedding" in model.usage else None)
        layers: list[tuple[OptionOrigin, LoadOptions]] = [
            ("default", default),
            ("catalog", self._catalog.get(model.id, own)),
            ("config", config),
        ]
        names = [_key(name) for name in (model.repo, model.unique) if name is not None]
        layers += (("model config", self._models[key]) for key in names if key in self._models)
        if not fresh and (last := self._last.get(model.id)) is not None:
            layers.append(("last use", last))
        return load_options.resolve([*layers, ("request", requested)])

    async def remember(self, key: str, requested: LoadOptions, *, fresh: bool = False) -> None:
        """Store requested options of a model, added to the stored ones unless `fresh`.

        Nothing is written when nothing changed. Raises StorageFailed.
        """
        async with self._remembering:
            last = self._last.get(key, LoadOptions())
            layers: list[tuple[OptionOrigin, LoadOptions]] = [("request", requested)]
            if not fresh:
                layers.insert(0, ("last use", last))
            kept = load_options.to_remember(load_options.resolve(layers).options)
            if kept == last:
                return
            if kept == LoadOptions():
                await self._store.remove("options", key)
                self._last.pop(key, None)
            else:
                await self._store.put("options", key, msgspec.json.encode(kept))
                self._last[key] = kept


def _from_settings(settings: RuntimeSettings) -> tuple[LoadOptions, LoadOptions]:
    """Return the program's defaults, and the settings of the configuration that differ."""
    default = RuntimeSettings()
    said = {
        name: getattr(settings, name)
        for name in ("context_length", "context_fit", "idle_ttl_s", "parallel")
        if getattr(settings, name) != getattr(default, name)
    }
    if "context_length" in said and settings.context_fit:
        said["context_fit"] = True  # the length is a limit, as the default's is
    return (
        LoadOptions(
            context_length=default.context_length,
            context_fit=default.context_fit,
            idle_ttl_s=default.idle_ttl_s,
            parallel=default.parallel,
        ),
        LoadOptions(**said),
    )


def _key(name: str) -> str:
    """Return the key by which a name in the configuration matches that of a model."""
    return model_id(name)
