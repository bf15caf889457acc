"""Forecasts of the memory of a load: planned by the engine, or estimated by a formula.

The engine plans a load from the header alone, so the forecast is the same before and after the
download. Plans are cached by file and options; corrections from the load history are added to each
result.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from modeldeck.core.catalog import cannot_load
from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.config.load_options import ModelTraits
from modeldeck.core.errors import (
    Corrupt,
    DeckError,
    EngineFailed,
    EngineMissing,
    Forbidden,
    HubUnavailable,
)
from modeldeck.core.formats import gguf_parser, image_generators, mlx_folder
from modeldeck.core.formats.gguf_header import GgufHeader
from modeldeck.core.memory import estimate
from modeldeck.core.runtime.engines.mlx import types as mlx_types
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.planning.planner import HeaderFile, Projector, Source
from modeldeck.core.schema import (
    Engine,
    Forecast,
    LoadOptions,
    Model,
    Repository,
    Variant,
    model_id,
)
from modeldeck.core.schema.overhead import SHIPPED, ProcessOverhead
from modeldeck.core.service.library.library import FileSelection, ModelLibrary
from modeldeck.core.service.loading.measurements import LoadHistory
from modeldeck.core.storage.foreign_files import in_file_thread, stat_regular

logger = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

REFUSALS = (EngineFailed, Corrupt, Forbidden)
"""Errors that mean that the files of a model cannot be loaded: not memory, not the Hub."""
REFUSAL_S = 10.0
"""Time limit of `refusal` in seconds, for slow connections."""
CHECKED_CONTEXT = 512
"""Context length in tokens for checking whether an engine can load a model at all."""

KEPT = 1000
"""Number of cached forecasts, and headers: a large catalog at a few context lengths."""

PARTS_MOST = 1000
"""Maximum number of files of a split model; the largest have some two hundred."""


class Forecaster:
    """Forecasts loads of local and remote models."""

    def __init__(
        self, *, hub: HubClient, library: ModelLibrary, engines: Engines, history: LoadHistory
    ) -> None:
        self._hub = hub
        self._library = library
        self._engines = engines
        self._history = history
        self._overheads: dict[Engine, ProcessOverhead] = dict(SHIPPED)
        self._plans: OrderedDict[Hashable, Forecast] = OrderedDict()
        self._headers: OrderedDict[Hashable, GgufHeader] = OrderedDict()
        self._folders: OrderedDict[Hashable, mlx_folder.MlxFolder] = OrderedDict()
        self._refused: OrderedDict[str, str] = OrderedDict()
        """Why remote models cannot be loaded, by id, as last checked."""

    def set_overhead(self, engine: Engine, overhead: ProcessOverhead) -> None:
        """Set what an engine's process takes besides the plan; it is part of all new forecasts."""
        self._overheads[engine] = overhead
        if engine == "llama.cpp":
            self._engines.set_overhead(overhead)
        self._plans.clear()

    async def traits(self, model: Model) -> ModelTraits:
        """Return the traits in a model's header that its options must suit.

        Raises EngineFailed for a file that is not a model; for a remote model also NotFound, Gated,
        HubUnavailable.
        """
        if model.format == "mlx":
            folder = await self._folder(model)
            return ModelTraits(
                architecture=folder.architecture,
                context_length=folder.context_length,
                layers=folder.config.layers,
                key_length=folder.config.head_length,
                value_length=folder.config.head_length,
                unfit=await asyncio.to_thread(_unknown_to_mlx, folder.architecture),
            )
        header = await self._header(model)
        return ModelTraits(
            architecture=header.architecture,
            context_length=header.context_length,
            layers=header.layers,
            key_length=header.key_length,
            value_length=header.value_length,
            vocabulary=_vocabulary(header),
            unfit=cannot_load.by_header(header),
        )

    async def refusal(self, model: Model) -> DeckError | None:
        """Return the error why this model cannot be loaded with any options and any memory.

        None if no such reason is known; also when the Hub does not answer in time, or the engine is
        not installed.
        """
        try:
            async with asyncio.timeout(REFUSAL_S):
                traits = await self.traits(model)
                if traits.unfit is not None:
                    raise EngineFailed(*traits.unfit)
                await self.forecast(model, LoadOptions(context_length=CHECKED_CONTEXT))
        except REFUSALS as error:
            self.note_refusal(model.id, str(error))
            return error
        except (DeckError, TimeoutError) as error:
            why = str(error) or f"no answer in {REFUSAL_S:.0f} s"
            logger.info("%s cannot be checked beforehand: %s", model.unique, why)
            return None
        self.note_refusal(model.id, None)
        return None

    def note_refusal(self, key: str, why: str | None) -> None:
        """Cache why the model with this id cannot be loaded; None if it can."""
        self._refused.pop(key, None)
        if why is not None:
            self._refused[key] = why
            while len(self._refused) > KEPT:
                self._refused.popitem(last=False)

    def refused(self, key: str) -> str | None:
        """Return why the model with this id cannot be loaded, as last checked; None if it can."""
        return self._refused.get(key)

    async def judged(self, repository: Repository) -> Repository:
        """Return a repository with `Variant.refusal` set for variants that cannot be loaded.

        MLX models are checked for it. The headers of GGUF files are too large for that: their
        refusal is that of the last check, if there was one.
        """
        found = []
        for variant in repository.variants:
            if variant.format == "mlx":
                why = await self._mlx_refusal(repository, variant)
            else:
                why = self.refused(model_id(variant.unique))
            found.append(replace(variant, refusal=why))
        return replace(repository, variants=tuple(found))

    async def _mlx_refusal(self, repository: Repository, variant: Variant) -> str | None:
        try:
            async with asyncio.timeout(REFUSAL_S):
                folder = await self._hub.read_folder(
                    repository.repo, repository.revision, variant.files
                )
        except REFUSALS as error:
            return str(error)
        except (DeckError, TimeoutError):
            return None
        unfit = await asyncio.to_thread(_unknown_to_mlx, folder.architecture)
        return " ".join(unfit) if unfit is not None else None

    async def forecast(
        self,
        model: Model,
        options: LoadOptions,
        architecture: str | None = None,
        draft: Model | None = None,
    ) -> Forecast:
        """Forecast the memory of a load, corrected by earlier loads.

        Args:
            model: The model.
            options: Complete options.
            architecture: From the model's header; loads of the same architecture correct best.
            draft: The model that `options.draft_model` names; it is on this machine.

        Raises EngineFailed for a model that the engine refuses, and NotFound, Gated or
        HubUnavailable when the header of a remote model cannot be read.
        """
        if model.format == "mlx":
            found = await self._mlx_forecast(model, options)
            if draft is not None:
                found = estimate.together(found, await self._mlx_forecast(draft, options))
        else:
            found = await self._gguf_forecast(model, options, None if draft is None else draft.path)
        engine: Engine = "mlx" if model.format == "mlx" else "llama.cpp"
        return self._history.correct(found, engine, architecture or model.architecture)

    def from_size(self, model: Model) -> Forecast | None:
        """Return a forecast from the size alone; None if that is not known either."""
        if model.size_bytes is None:
            return None
        engine: Engine = "mlx" if model.format == "mlx" else "llama.cpp"
        return estimate.from_size(model.size_bytes, self._overheads[engine])

    # GGUF

    async def _gguf_forecast(
        self, model: Model, options: LoadOptions, draft: str | None
    ) -> Forecast:
        sees = options.vision is not False and not options.embedding
        projector: Projector | None = None
        if model.downloaded and model.path is not None:
            stat = await self._file_stat(model, model.path)
            source: Source = Path(model.path)
            size = model.size_bytes or stat.st_size
            key: Hashable = (model.path, stat.st_size, stat.st_mtime_ns)
            if sees and model.projector is not None:
                stat = await self._file_stat(model, model.projector)
                projector = Path(model.projector)
                key = (key, model.projector, stat.st_size, stat.st_mtime_ns)
        else:
            selection = await self._library.selection(model)
            source = await self._sources(selection)
            projector = await self._remote_projector(selection) if sees else None
            key, size = tuple(part.key for part in source), selection.variant.size_bytes
            key = (key, None if projector is None else projector.key)
        key = (key, draft, _relevant(options))
        if key not in self._plans:
            try:
                self._plans[key] = await self._engines.plan(source, options, draft, projector)
            except EngineMissing:
                header, overhead = await self._header(model), self._overheads["llama.cpp"]
                return estimate.from_header(header, options, size, overhead)
        return _cached(self._plans, key)

    async def _sources(self, selection: FileSelection) -> tuple[HeaderFile, ...]:
        """Read the headers of all parts of a remote model."""
        parts = [f for f in selection.files if f.path != selection.variant.projector]
        if len(parts) > PARTS_MOST:
            raise EngineFailed(
                f"The model is split into {len(parts)} files; modeldeck plans at most {PARTS_MOST}."
            )
        headers: list[tuple[GgufHeader, bytes]] = []
        for part in parts:
            headers.append(await self._library.read_header(selection, part))
            if sum(len(data) for _, data in headers) > gguf_parser.MAX_HEADER:
                raise EngineFailed("The headers of its files are larger than those of any model.")
        _check_kind(headers[0][0])
        return tuple(
            HeaderFile(name=part.path, key=part.blob, data=data, size=part.size_bytes)
            for part, (_, data) in zip(parts, headers, strict=True)
        )

    async def _remote_projector(self, selection: FileSelection) -> HeaderFile | None:
        """Read the header of the projector of a remote model; None where it has none."""
        part = next((f for f in selection.files if f.path == selection.variant.projector), None)
        if part is None:
            return None
        _, data = await self._library.read_header(selection, part)
        return HeaderFile(name=part.path, key=part.blob, data=data, size=part.size_bytes)

    async def _file_stat(self, model: Model, path: str) -> os.stat_result:
        """Return `stat` of a file of a model on this machine. Raises EngineFailed."""
        return await in_file_thread(partial(_stat, path), path, custom=model.local)

    async def _header(self, model: Model) -> GgufHeader:
        """Return the header of the first file, cached until the file changes."""
        if not model.downloaded or model.path is None:
            selection = await self._library.selection(model)
            return _check_kind((await self._library.read_header(selection, selection.files[0]))[0])
        path = model.path
        stat = await self._file_stat(model, path)
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key not in self._headers:
            read = partial(_read_header, Path(path))
            self._headers[key] = await in_file_thread(read, path, custom=model.local)
        return _cached(self._headers, key)

    # MLX

    async def _mlx_forecast(self, model: Model, options: LoadOptions) -> Forecast:
        """Forecast by a formula; by the size alone when the Hub cannot be reached."""
        try:
            folder = await self._folder(model)
        except HubUnavailable:
            if (found := self.from_size(model)) is None:
                raise
            return found
        overhead = self._overheads["mlx"]
        return estimate.from_config(folder.config, folder.weights_bytes, options, overhead)

    async def _folder(self, model: Model) -> mlx_folder.MlxFolder:
        """Read config.json and the headers of the weights, on disk or on the Hub."""
        if model.downloaded and model.path is not None:
            read = partial(self._read_folder, Path(model.path))
            return await in_file_thread(read, model.path, custom=model.local)
        selection = await self._library.selection(model)
        return await self._hub.read_folder(selection.repo, selection.revision, selection.files)

    def _read_folder(self, path: Path) -> mlx_folder.MlxFolder:
        """Read an MLX folder, cached until it changes. Raises EngineFailed."""
        stats = _stat(path, folder=True), _stat(path / "config.json")
        key = (path, *((stat.st_size, stat.st_mtime_ns) for stat in stats))
        if key not in self._folders:
            try:
                self._folders[key] = mlx_folder.read_folder(path)
            except OSError as error:
                raise EngineFailed(f"{path} cannot be read: {error.strerror}.") from error
            except DeckError as error:
                raise EngineFailed(error.message, error.remedy) from error
        return _cached(self._folders, key)


def _vocabulary(header: GgufHeader) -> tuple[str | None, str | None, int] | None:
    """What tells vocabularies apart in a header: GGUF specification, `tokenizer.ggml`."""
    if header.vocab_size is None:
        return None
    names = ("tokenizer.ggml.model", "tokenizer.ggml.pre")
    return (header.text(names[0]), header.text(names[1]), header.vocab_size)


def _unknown_to_mlx(model_type: str | None) -> tuple[str, str] | None:
    """Return message and remedy if the installed mlx-lm lacks this model type. Blocks."""
    types = mlx_types.installed()
    if types is None or model_type is None or types.knows(model_type):
        return None
    return (
        f"mlx-lm does not support models of type {model_type}.",
        "Update mlx-lm, or take a GGUF version of the model.",
    )


def _stat(path: str | Path, *, folder: bool = False) -> os.stat_result:
    """Return `stat` of a file, or of a folder. Blocks. Raises EngineFailed."""
    try:
        return os.stat(path) if folder else stat_regular(path)
    except OSError as error:
        raise EngineFailed(
            f"{path} cannot be read: {error.strerror}.", "Download the model again."
        ) from error


def _read_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file. Raises EngineFailed."""
    try:
        return _check_kind(gguf_parser.read(path))
    except OSError as error:
        raise EngineFailed(f"{path} cannot be read: {error.strerror}.") from error
    except DeckError as error:
        raise EngineFailed(error.message, error.remedy) from error


def _check_kind(header: GgufHeader) -> GgufHeader:
    """Return the header if llama.cpp loads such models. Raises EngineFailed."""
    if (refused := image_generators.refusal(header.architecture)) is not None:
        raise refused
    return header


def _cached(cache: OrderedDict[K, V], key: K) -> V:
    """Return a cached value, mark it as used, and drop the values used longest ago."""
    cache.move_to_end(key)
    while len(cache) > KEPT:
        cache.popitem(last=False)
    return cache[key]


def _relevant(options: LoadOptions) -> LoadOptions:
    """Return the options without those that do not change a plan."""
    return replace(options, idle_ttl_s=None, pinned=None, context_fit=None, engine=None)
