"""Load options of a model, resolved from all their sources.

The options of the last use are stored, and those that were saved as the model's defaults.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from modeldeck.core.catalog import builtin
from modeldeck.core.concurrency.tasks import whole
from modeldeck.core.config import load_options
from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.load_options import LayeredOptions
from modeldeck.core.schema import LoadOptions, Model, OptionOrigin, model_id
from modeldeck.core.storage.database import Database, Table

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

    `parallel` is left out for an embedding model, which reads a fixed number of texts at once.

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
    """Whether no person or program set this option for this model."""
    return origins.get(name, "default") in UNASKED


_ONE_DECISION = ("context_length", "context_fit")


class OptionResolver:
    """Resolves options from all origins, and stores those of the last use and the saved ones."""

    def __init__(
        self,
        config: Config,
        store: Database,
        on_saved: Callable[[Mapping[str, LoadOptions]], None] = lambda _: None,
    ) -> None:
        """`on_saved` is called with all saved defaults, by model id, whenever they change."""
        self._store = store
        self._on_saved = on_saved
        self._layers = _from_settings(config.runtime)
        self._models = {_key(name): given for name, given in config.models.items()}
        self._catalog: Mapping[str, LoadOptions] = {}
        self._last: dict[str, LoadOptions] = {}
        self._saved: dict[str, LoadOptions] = {}
        self._remembering = asyncio.Lock()

    async def open(self) -> None:
        """Read the built-in catalog and the stored options."""
        self._catalog = await asyncio.to_thread(builtin.load_options)
        self._last.update(await self._store.records("options", LoadOptions, load_options.check))
        self._saved.update(await self._store.records("defaults", LoadOptions, load_options.check))
        self._on_saved(dict(self._saved))

    def resolve(
        self,
        model: Model,
        requested: LoadOptions,
        *,
        fresh: bool = False,
        loaded: LoadOptions | None = None,
    ) -> LayeredOptions:
        """Return a model's options with their origins; `fresh` ignores those of the last use.

        `loaded` are those of the loaded model that a reload goes on from. Raises InvalidRequest for
        requested options that no model can take.
        """
        load_options.check(requested)
        default, config = self._layers
        own = LoadOptions(embedding=None if model.generates_text else True)
        layers: list[tuple[OptionOrigin, LoadOptions]] = [
            ("default", default),
            ("catalog", self._catalog.get(model.id, own)),
            ("config", config),
        ]
        names = [_key(name) for name in (model.repo, model.unique) if name is not None]
        layers += (("model config", self._models[key]) for key in names if key in self._models)
        if (saved := self._saved.get(model.id)) is not None:
            layers.append(("saved", saved))
        if not fresh and (last := self._last.get(model.id)) is not None:
            layers.append(("last use", last))
        if not fresh and loaded is not None:
            layers.append(("loaded", loaded))
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
            await self._keep("options", self._last, key, kept)

    @whole
    async def save(self, key: str, changes: Mapping[str, Any]) -> LoadOptions:
        """Change the saved defaults of a model, and return them; None removes an option.

        What was saved is the newest decision: the last use forgets the options that are named. Of a
        context length and `context_fit`, which are one decision, naming one replaces both.

        Raises InvalidRequest for a value that no model can take, and StorageFailed.
        """
        async with self._remembering:
            named: dict[str, Any] = dict.fromkeys(changes)
            if named.keys() & set(_ONE_DECISION):
                named |= dict.fromkeys(_ONE_DECISION)
            saved = replace(self._saved.get(key, LoadOptions()), **{**named, **changes})
            load_options.check(saved)
            last = replace(self._last.get(key, LoadOptions()), **named)
            await self._keep("defaults", self._saved, key, saved)
            self._on_saved(dict(self._saved))
            await self._keep("options", self._last, key, last)
            return saved

    @whole
    async def forget_saved(self, key: str) -> LoadOptions:
        """Remove the saved defaults of a model, and return what they were. Raises StorageFailed."""
        async with self._remembering:
            saved = self._saved.get(key, LoadOptions())
            await self._keep("defaults", self._saved, key, LoadOptions())
            self._on_saved(dict(self._saved))
            return saved

    async def _keep(
        self, table: Table, known: dict[str, LoadOptions], key: str, options: LoadOptions
    ) -> None:
        """Store the options of a model, or remove them where none is set; then keep them here."""
        if options == known.get(key, LoadOptions()):
            return
        if options == LoadOptions():
            await self._store.remove(table, key)
            del known[key]
        else:
            await self._store.put(table, key, msgspec.json.encode(options))
            known[key] = options


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
