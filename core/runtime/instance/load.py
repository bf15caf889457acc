"""Has an engine process load the model of an instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeldeck.core.config.config import RuntimeSettings
from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.instance.load_watchdog import next_report
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.runtime.process.messages import (
    CommandFailed,
    LoadModel,
    LoadProgress,
    ModelLoaded,
)
from modeldeck.core.schema import Instance
from modeldeck.core.schema.errors import from_info


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """The files that an instance loads, and where it keeps some."""

    path: str
    """The (first) GGUF file, or the MLX folder."""
    draft: str | None = None
    """Path of the draft model."""
    projector: str | None = None
    """Path of the projector."""
    prefix_folder: Path | None = None
    """Where conversations may be kept."""


def load_command(
    number: int, files: ModelFiles, record: Instance, settings: RuntimeSettings
) -> LoadModel:
    """Return the command that loads the model of this record. Pure."""
    forecast = record.forecast
    return LoadModel(
        id=number,
        path=files.path,
        options=record.options,
        default_context=settings.context_length,
        prefix_cache_bytes=forecast.prefix_cache_bytes if forecast else 0,
        turn_s=settings.turn_s,
        prefix_cache_folder=str(files.prefix_folder) if files.prefix_folder else None,
        prefix_cache_disk_bytes=settings.prefix_cache_disk_bytes,
        stop_loops=settings.stop_loops,
        draft=files.draft,
        projector=files.projector,
    )


async def load_model(
    process: EngineProcess,
    command: LoadModel,
    stall_s: float,
    on_progress: Callable[[str, float | None], None],
) -> ModelLoaded:
    """Send the command and wait until the model is loaded.

    Raises the error that the load fails with, and EngineFailed where it makes no progress for
    `stall_s` seconds.
    """
    process.send(command)
    while True:
        report = await next_report(process, stall_s)
        match report:
            case LoadProgress(stage=stage, fraction=fraction):
                on_progress(stage, fraction)
            case ModelLoaded():
                return report
            case CommandFailed(error=error):
                raise from_info(error)
            case _:
                raise EngineFailed(f"The engine answered a load with {type(report).__name__}.")


def loaded_fields(record: Instance, loaded: ModelLoaded) -> dict[str, Any]:
    """Return the fields of the record that tell of a loaded model, by name. Pure."""
    return {
        "context_length": loaded.context_length,
        "parallel": loaded.parallel,
        "cache_tokens": loaded.cache_tokens,
        "media": loaded.media,
        "warnings": tuple(dict.fromkeys((*record.warnings, *loaded.warnings))),
        "engine_bytes": loaded.engine_bytes,
    }
