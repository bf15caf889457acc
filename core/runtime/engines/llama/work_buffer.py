"""Allocates the buffer that llama.cpp's CPU backend computes in, at an address that is good for it.

The backend allocates it when an evaluation begins (`ggml_backend_cpu_graph_compute`, ggml-cpu.cpp),
and again when one needs more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.heap import aligned_room
from modeldeck.core.runtime.engines.llama.batch import TokenBatch, set_abort_callback
from modeldeck.core.runtime.engines.llama.log import EngineLog


def allocate_work_buffer(
    c: Any, model: Any, context: Any, log: EngineLog, *, embedding: bool = False
) -> None:
    """Begin an evaluation of as many rows as there can be, and give it up at once.

    After that no evaluation needs a larger buffer. Of the evaluation only the first node of the
    graph is computed, and nothing stays in the context. Its abort callback is none afterwards.

    Args:
        c: llama.h, as llama-cpp-python binds it.
        model: `llama_model *`.
        context: `llama_context *`, which holds nothing yet.
        log: The log of llama.cpp, which calls it an error that an evaluation is given up.
        embedding: Whether the context was made for embeddings.
    """
    given_up = Flag()
    given_up.set()
    callback = set_abort_callback(c, context, given_up)
    batch = TokenBatch(c, context, 1, 1)
    memory = c.llama_get_memory(context)
    encode = embedding and not c.llama_model_has_decoder(model)
    with log.expecting_errors():
        # One row first: what else llama.cpp allocates with the first evaluation stays.
        for rows in (1, c.llama_n_ubatch(context)):
            batch.clear()
            batch.add(0, np.zeros(rows, np.int32), 0, rows if embedding else 1)
            with aligned_room():
                batch.evaluate(encode=encode)
            if memory:
                c.llama_memory_seq_rm(memory, 0, -1, -1)
    c.llama_set_abort_callback(context, type(callback)(), None)
