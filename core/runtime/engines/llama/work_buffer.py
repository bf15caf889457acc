"""Allocates the buffer that llama.cpp's CPU backend computes in, at an address that is good for it.

The backend allocates it when an evaluation begins (`ggml_backend_cpu_graph_compute`, ggml-cpu.cpp),
and again when one needs more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.heap import aligned_room
from modeldeck.core.runtime.engines.llama.batch import ABORTED, DONE, TokenBatch, set_abort_callback
from modeldeck.core.runtime.engines.llama.log import EngineLog, failure


def allocate_work_buffer(c: Any, context: Any, log: EngineLog) -> None:
    """Begin an evaluation of as many rows as there can be, and give it up at once.

    With flash attention no evaluation needs a larger buffer after that, unless layers are on other
    devices. Of the evaluation only the first node of the graph is computed, and nothing stays in
    the context. Its abort callback is none afterwards.

    Args:
        c: llama.h, as llama-cpp-python binds it.
        context: `llama_context *`, which holds nothing yet; not one for embeddings, which would
            have to keep logits of all rows.
        log: The log of llama.cpp.

    Raises EngineFailed where there is no memory for it.
    """
    given_up = Flag()
    given_up.set()
    callback = set_abort_callback(c, context, given_up)
    batch = TokenBatch(c, context, 1, 1)
    # One row first: what else llama.cpp allocates with the first evaluation stays.
    for rows in (1, c.llama_n_ubatch(context)):
        batch.clear()
        batch.add(0, np.zeros(rows, np.int32), 0, 1)
        with aligned_room():
            result = batch.evaluate()
        c.llama_memory_clear(c.llama_get_memory(context), False)
        if result not in (DONE, ABORTED):
            raise failure(f"llama.cpp could not evaluate a text ({result})", log)
    c.llama_set_abort_callback(context, type(callback)(), None)
