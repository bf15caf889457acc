"""Loads the projector of a model, or tells why the model reads text only."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from modeldeck.core.errors import Cancelled, EngineFailed
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.heap import map_large
from modeldeck.core.runtime.engines.llama.loader import threads_for, usable_cpus
from modeldeck.core.runtime.engines.llama.log import EngineLog, failure
from modeldeck.core.runtime.engines.llama.projector import (
    WITHOUT,
    NoLibrary,
    Projector,
    limit_of,
    load_library,
)
from modeldeck.core.runtime.engines.llama.projector_limits import ImageLimit
from modeldeck.core.runtime.platforms import llama_remedy
from modeldeck.core.runtime.process.messages import LoadModel
from modeldeck.core.schema import LoadOptions
from modeldeck.core.storage.installation import this_installation

LEFT_OUT = (
    "the model was loaded without its projector.",
    "Load it again without vision=false.",
)
NOT_BUILT = "llama-cpp-python was built without libmtmd, which reads images and audio."


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedProjector:
    """A projector, or why there is none."""

    projector: Projector | None = None
    why: tuple[str, str] | None = None
    """Why a model that could see does not, as the end of a sentence; and what to do."""
    free: Callable[[], None] = lambda: None
    """Frees it."""

    @property
    def whole(self) -> int:
        """Tokens that the model's context must evaluate in one piece."""
        return self.projector.limit.whole if self.projector is not None else 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know who did not ask for this."""
        if self.why in (None, LEFT_OUT):
            return ()
        why, remedy = self.why or ("", "")
        return (f"It reads text only: {why} {remedy}",)


def projector_parameters(library: Any, limit: ImageLimit, options: LoadOptions) -> Any:
    """Parameters of a projector, for its load and its plan."""
    parameters = library.mtmd_context_params_default()
    parameters.use_gpu = options.gpu_layers != 0
    parameters.print_timings = False
    parameters.n_threads = options.threads or threads_for(usable_cpus())[1]
    parameters.image_max_tokens = limit.tokens
    return parameters


def open_for(
    command: LoadModel,
    model: Any,
    on_progress: Callable[[float, object], bool],
    log_callback: Any,
    flag: Flag,
    log: EngineLog,
) -> OpenedProjector:
    """Load the projector that a load names.

    Args:
        command: The load.
        model: `llama_model *`.
        on_progress: Called with the fraction that is done; cancels where it returns False.
        log_callback: Takes the log of libmtmd.
        flag: Set where the load is cancelled.
        log: The log.

    Raises EngineFailed for a file that is no projector, or one of another model, and Cancelled.
    """
    if command.options.vision is False:
        return OpenedProjector(why=LEFT_OUT)
    if command.projector is None:
        return OpenedProjector()
    try:
        library = load_library()
    except NoLibrary as error:
        remedy = llama_remedy(this_installation(), rebuild=True)
        opened = OpenedProjector(why=(NOT_BUILT, remedy))
        for warning in opened.warnings:
            log.say("warning", f"{warning} ({error})")
        return opened
    library.mtmd_helper_log_set(log_callback, None)  # sets that of libmtmd itself as well
    return _open(library, model, command.projector, command.options, on_progress, flag, log)


def _open(
    library: Any,
    model: Any,
    path: str,
    options: LoadOptions,
    on_progress: Callable[[float, object], bool],
    flag: Flag,
    log: EngineLog,
) -> OpenedProjector:
    map_large()
    limit = limit_of(path)
    parameters = projector_parameters(library, limit, options)
    callback = library.mtmd_progress_callback(on_progress)
    parameters.progress_callback = callback
    pointer = library.mtmd_init_from_file(os.fsencode(path), model, parameters)
    if not pointer:
        if flag:
            raise Cancelled("The load was cancelled.")
        error = failure(f"llama.cpp refused the projector {path}", log)
        remedy = f"Download the model again, {WITHOUT}."
        raise EngineFailed(error.message, remedy, details=error.details)
    return OpenedProjector(
        projector=Projector(library, pointer, limit, log),
        free=partial(library.mtmd_free, pointer),
    )
