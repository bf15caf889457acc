"""Models of other tools on this machine, which are listed and loaded where they lie.

Their files belong to those tools: they are only read. Reading blocks and runs in threads that are
abandoned when a folder hangs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modeldeck.core.errors import Conflict, DeckError
from modeldeck.core.schema import OTHER_TOOLS, Model, OtherTool
from modeldeck.core.service.library import lm_studio_folder, ollama_store
from modeldeck.core.service.library.local_files import (
    FileKey,
    HeaderFacts,
    described,
    file_key,
    read_facts,
)

logger = logging.getLogger(__name__)

_READERS: Mapping[OtherTool, Callable[[Path], Iterator[Model]]] = {
    "ollama": ollama_store.models,
    "lm studio": lm_studio_folder.models,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFolder:
    """A folder in which a tool keeps its models."""

    tool: OtherTool
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolModels:
    """The models in one folder of a tool."""

    models: tuple[Model, ...] = ()
    by_key: Mapping[FileKey, HeaderFacts | None] = field(default_factory=dict)
    """Facts in the headers of files; None for a file that has none. One that did not change is not
    read again."""


def tool_folders(
    tools: Sequence[OtherTool], home: Path, environ: Mapping[str, str]
) -> tuple[ToolFolder, ...]:
    """Where these tools keep their models; a folder need not exist.

    `OLLAMA_MODELS` moves Ollama's; as a service of Linux it has a home of its own.
    """
    ollama = [Path(moved)] if (moved := environ.get("OLLAMA_MODELS")) else [
        home / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")
    ]  # fmt: skip
    studio = [home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]
    places: Mapping[OtherTool, list[Path]] = {"ollama": ollama, "lm studio": studio}
    return tuple(
        ToolFolder(tool=tool, path=path)
        for tool in dict.fromkeys(tools)
        for path in places[tool]
        if path.is_absolute()
    )


class OtherTools:
    """Models of other tools, by folder, as they were last read."""

    def __init__(self, folders: Sequence[ToolFolder]) -> None:
        self.folders = tuple(folders)
        self._found: dict[ToolFolder, ToolModels] = {}

    def read(self, folder: ToolFolder) -> ToolModels:
        """Read a folder. Blocks, and changes nothing here: its thread may be abandoned."""
        before = self._found.get(folder, ToolModels()).by_key
        by_key: dict[FileKey, HeaderFacts | None] = {}

        def facts(path: str | None, model: Model) -> HeaderFacts | None:
            if path is None:
                return None
            try:
                key = file_key(path)
                if key not in before:
                    by_key[key] = None
                    by_key[key] = read_facts(Path(path), model.format)
                else:
                    by_key[key] = before[key]
            except (OSError, DeckError) as error:
                logger.info("%s: the header of %s cannot be read: %s", model.unique, path, error)
                return None
            return by_key[key]

        found = tuple(
            described(model, facts(model.path, model), facts(model.projector, model))
            for model in _READERS[folder.tool](folder.path)
        )
        return ToolModels(models=found, by_key=by_key)

    def set_found(self, folder: ToolFolder, found: ToolModels) -> bool:
        """Store the result of `read`. Returns whether its models changed."""
        before = self._found.get(folder, ToolModels())
        self._found[folder] = found
        return before.models != found.models

    def models(self) -> list[Model]:
        """All models; of those with the same name in two folders, the first one's."""
        return [model for found in self._in_order() for model in found.models]

    def _in_order(self) -> Iterator[ToolModels]:
        return (self._found[folder] for folder in self.folders if folder in self._found)


def deletion_refused(model: Model) -> Conflict:
    """The error for deleting the files of a model that lies outside the cache."""
    if model.source == "ollama":
        return Conflict(
            f"These files belong to Ollama: `ollama rm {model.name}` deletes them.",
            details=(model.path or "",),
        )
    if model.source in OTHER_TOOLS:
        return Conflict(
            f"These files belong to {OTHER_TOOLS[model.source]}, which deletes them.",
            details=(model.path or "",),
        )
    return Conflict(
        f"{model.name} is your own file, never deleted by modeldeck: {model.path}.",
        "Delete the file yourself, or remove the entry from the list.",
    )


def content_hashes(model: Model) -> Mapping[str, str]:
    """The files of a model of another tool whose SHA-256 is known, with it, by path."""
    if model.source != "ollama":
        return {}
    paths = [path for path in (model.path, model.projector) if path is not None]
    return {path: known for path in paths if (known := ollama_store.blob_hash(os.fspath(path)))}
