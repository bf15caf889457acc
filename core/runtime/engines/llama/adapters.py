"""Applies LoRA adapters in GGUF files to a model that llama.cpp has loaded."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.engines.llama.log import EngineLog, failure
from modeldeck.core.schema import Lora
from modeldeck.core.storage.foreign_files import stat_regular

WRONG = "Take an adapter that was made for this very model, as a GGUF file."


def adapter_bytes(path: str) -> int:
    """Bytes of an adapter in memory: those of its file. Raises EngineFailed if it is missing."""
    try:
        return stat_regular(path).st_size
    except OSError as error:
        raise EngineFailed(
            f"There is no adapter at {path}: {error.strerror}.", "Give the path of a GGUF adapter."
        ) from error


def apply_adapters(
    c: Any, model: Any, context: Any, loras: Sequence[Lora], log: EngineLog
) -> Callable[[], None]:
    """Apply adapters to a model in a context; return a function that frees them.

    Raises EngineFailed for a file that is no adapter, or one of another model.
    """
    adapters: list[Any] = []

    def free() -> None:
        for adapter in adapters:
            c.llama_adapter_lora_free(adapter)

    try:
        for lora in loras:
            adapter_bytes(lora.path)
            adapter = c.llama_adapter_lora_init(model, os.fsencode(lora.path))
            if not adapter:
                error = failure(f"llama.cpp refused the adapter {lora.path}", log)
                raise EngineFailed(error.message, WRONG, details=error.details)
            adapters.append(adapter)
        pointers = (c.llama_adapter_lora_p_ctypes * len(adapters))(*adapters)
        scales = (ctypes.c_float * len(adapters))(*(lora.scale for lora in loras))
        if c.llama_set_adapters_lora(context, pointers, len(adapters), scales) != 0:
            raise failure("llama.cpp could not lay the adapters over the model", log)
    except BaseException:
        free()
        raise
    return free
