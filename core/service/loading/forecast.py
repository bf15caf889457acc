"""What a load would take: asked of the engine, from the header alone, or told by a formula.

The engine plans the load itself, from the header alone, so the answer is the same before and after
the download. Plans are kept per file and options; what this machine has learned is laid over them
when they are given out.
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

from modeldeck.core.catalog import unloadable
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
from modeldeck.core.formats import gguf, imaging, safetensors
from modeldeck.core.formats.gguf_header import GgufHeader
from modeldeck.core.memory import estimate
from modeldeck.core.runtime.engines.mlx import types as mlx_types
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.planning.planner import HeaderFile, Source
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
from modeldeck.core.storage.foreign_files import in_thread, stat_regular

logger = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

REFUSALS = (EngineFailed, Corrupt, Forbidden)
"""Errors by which the files of a model stand against loading it: neither memory nor the Hub."""
REFUSAL_S = 10.0
"""How long `refusal` may take; a line on which the header takes longer is not waited for."""
CHECKED_CONTEXT = 512
"""Tokens of the context that is planned to see whether an engine takes a model at all."""

KEPT = 1000
"""Forecasts remembered, and headers: a large catalog at a few context lengths."""

PARTS_MOST = 1000
"""Files of one split model; the largest models come in some two hundred."""


class Forecaster:
    """Forecasts loads, of models that are here and of those that are not."""

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
        self._folders: OrderedDict[Hashable, safetensors.MlxFolder] = OrderedDict()
        self._refused: OrderedDict[str, str] = OrderedDict()
        """Why models that are not here would be refused, by id, when that was last asked."""

    def set_overhead(self, engine: Engine, overhead: ProcessOverhead) -> None:
        """Say what an engine's process takes besides the plan; forecasts from now on know it."""
        self._overheads[engine] = overhead
        if engine == "llama.cpp":
            self._engines.set_overhead(overhead)
        self._plans.clear()

    async def traits(self, model: Model) -> ModelTraits:
        """What the model's header says that options must suit.

        Raises what reading it may: EngineFailed for a file that is no model, and for a remote one
        NotFound, Gated, HubUnavailable.
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
            unfit=unloadable.by_header(header),
        )

    async def refusal(self, model: Model) -> DeckError | None:
        """What would refuse a load of this model, whatever the options and the memory.

        None where nothing is known to: also where the Hub cannot be asked in time, or the engine is
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
            logger.info("%s cannot be looked at beforehand: %s", model.unique, error)
            return None
        self.note_refusal(model.id, None)
        return None

    def note_refusal(self, key: str, why: str | None) -> None:
        """Remember why the model with this id would be refused; None where it would not be."""
        self._refused.pop(key, None)
        if why is not None:
            self._refused[key] = why
            while len(self._refused) > KEPT:
                self._refused.popitem(last=False)

    def refused(self, key: str) -> str | None:
        """Why the model with this id would be refused, when that was last asked; None if not."""
        return self._refused.get(key)

    async def judged(self, repository: Repository) -> Repository:
        """A repository with the reasons that stand against its variants, as `Variant.refusal`.

        MLX models are looked at for it. The headers of GGUF files are too large for a list: of them
        is told what was found when one was asked about.
        """
        found = []
        for variant in repository.variants:
            if variant.format == "mlx":
                why = await self._against_mlx(repository, variant)
            else:
                why = self.refused(model_id(variant.unique))
            found.append(replace(variant, refusal=why))
        return replace(repository, variants=tuple(found))

    async def _against_mlx(self, repository: Repository, variant: Variant) -> str | None:
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
        """What loading would take, with what earlier loads teach.

        Args:
            model: Which.
            options: In full.
            architecture: The model's, as its header tells it: loads of its kind teach most.
            draft: The model that `options.draft_model` names; it is on this machine.

        Raises EngineFailed for a model that the engine refuses, and NotFound, Gated or
        HubUnavailable where the header of a remote one cannot be had.
        """
        if model.format == "mlx":
            found = await self._of_mlx(model, options)
            if draft is not None:
                found = estimate.together(found, await self._of_mlx(draft, options))
        else:
            found = await self._of_gguf(model, options, None if draft is None else draft.path)
        engine: Engine = "mlx" if model.format == "mlx" else "llama.cpp"
        return self._history.correct(found, engine, architecture or model.architecture)

    def from_size(self, model: Model) -> Forecast | None:
        """A forecast from the size alone; None where that is not known either."""
        if model.size_bytes is None:
            return None
        engine: Engine = "mlx" if model.format == "mlx" else "llama.cpp"
        return estimate.from_size(model.size_bytes, self._overheads[engine])

    # GGUF

    async def _of_gguf(self, model: Model, options: LoadOptions, draft: str | None) -> Forecast:
        if model.downloaded and model.path is not None:
            stat = await in_thread(partial(_stat, model.path), model.path, custom=model.local)
            key: Hashable = (model.path, stat.st_size, stat.st_mtime_ns)
            source: Source = Path(model.path)
            size = model.size_bytes or stat.st_size
        else:
            selection = await self._library.selection(model)
            source = await self._sources(selection)
            key, size = tuple(part.key for part in source), selection.variant.size_bytes
        key = (key, draft, _relevant(options))
        if key not in self._plans:
            try:
                self._plans[key] = await self._engines.plan(source, options, draft)
            except EngineMissing:
                header, overhead = await self._header(model), self._overheads["llama.cpp"]
                return estimate.from_header(header, options, size, overhead)
        return _fetched(self._plans, key)

    async def _sources(self, selection: FileSelection) -> tuple[HeaderFile, ...]:
        """The headers of the parts of a model that is not here."""
        parts = [f for f in selection.files if f.path != selection.variant.projector]
        if len(parts) > PARTS_MOST:
            raise EngineFailed(
                f"The model is split into {len(parts)} files; modeldeck plans at most {PARTS_MOST}."
            )
        headers: list[tuple[GgufHeader, bytes]] = []
        for part in parts:
            headers.append(await self._library.read_header(selection, part))
            if sum(len(data) for _, data in headers) > gguf.MAX_HEADER:
                raise EngineFailed("The headers of its files are larger than those of any model.")
        _check_kind(headers[0][0])
        return tuple(
            HeaderFile(name=part.path, key=part.blob, data=data, size=part.size_bytes)
            for part, (_, data) in zip(parts, headers, strict=True)
        )

    async def _header(self, model: Model) -> GgufHeader:
        """The header of the first file, kept until that changes."""
        if not model.downloaded or model.path is None:
            selection = await self._library.selection(model)
            return _check_kind((await self._library.read_header(selection, selection.files[0]))[0])
        path = model.path
        stat = await in_thread(partial(_stat, path), path, custom=model.local)
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key not in self._headers:
            read = partial(_read_header, Path(path))
            self._headers[key] = await in_thread(read, path, custom=model.local)
        return _fetched(self._headers, key)

    # MLX

    async def _of_mlx(self, model: Model, options: LoadOptions) -> Forecast:
        """By the formula; by the size alone where the Hub cannot be asked."""
        try:
            folder = await self._folder(model)
        except HubUnavailable:
            if (found := self.from_size(model)) is None:
                raise
            return found
        overhead = self._overheads["mlx"]
        return estimate.from_config(folder.config, folder.weights_bytes, options, overhead)

    async def _folder(self, model: Model) -> safetensors.MlxFolder:
        """What config.json and the headers of the weights say, here or on the Hub."""
        if model.downloaded and model.path is not None:
            read = partial(self._read_folder, Path(model.path))
            return await in_thread(read, model.path, custom=model.local)
        selection = await self._library.selection(model)
        return await self._hub.read_folder(selection.repo, selection.revision, selection.files)

    def _read_folder(self, path: Path) -> safetensors.MlxFolder:
        """What an MLX folder says, kept until it changes. Raises EngineFailed, as its engine."""
        stats = _stat(path, folder=True), _stat(path / "config.json")
        key = (path, *((stat.st_size, stat.st_mtime_ns) for stat in stats))
        if key not in self._folders:
            try:
                self._folders[key] = safetensors.read_folder(path)
            except OSError as error:
                raise EngineFailed(f"{path} cannot be read: {error.strerror}.") from error
            except DeckError as error:
                raise EngineFailed(error.message, error.remedy) from error
        return _fetched(self._folders, key)


def _unknown_to_mlx(model_type: str | None) -> tuple[str, str] | None:
    """Why the installed mlx-lm has no place for this kind of model; None where it has. Blocks."""
    types = mlx_types.installed()
    if types is None or model_type is None or types.knows(model_type):
        return None
    return (
        f"mlx-lm does not support models of type {model_type}.",
        "Update mlx-lm, or take a GGUF version of the model.",
    )


def _stat(path: str | Path, *, folder: bool = False) -> os.stat_result:
    """Of a file, or of a folder. Blocks. Raises EngineFailed, as the engine would."""
    try:
        return os.stat(path) if folder else stat_regular(path)
    except OSError as error:
        raise EngineFailed(
            f"{path} cannot be read: {error.strerror}.", "Download the model again."
        ) from error


def _read_header(path: Path) -> GgufHeader:
    """The header of a GGUF file. Raises EngineFailed, as its engine would."""
    try:
        return _check_kind(gguf.read(path))
    except OSError as error:
        raise EngineFailed(f"{path} cannot be read: {error.strerror}.") from error
    except DeckError as error:
        raise EngineFailed(error.message, error.remedy) from error


def _check_kind(header: GgufHeader) -> GgufHeader:
    """The header, if it is of a kind that llama.cpp loads. Raises EngineFailed."""
    if (refused := imaging.refusal(header.architecture)) is not None:
        raise refused
    return header


def _fetched(kept: OrderedDict[K, V], key: K) -> V:
    """A value that is kept, the newest from now on; the oldest are dropped."""
    kept.move_to_end(key)
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return kept[key]


def _relevant(options: LoadOptions) -> LoadOptions:
    """The options less those that do not change a plan."""
    return replace(options, idle_ttl_s=None, pinned=None, context_fit=None, engine=None)
