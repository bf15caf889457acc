"""Memory that evaluating a batch takes on the CPU, from llama.cpp's own compute graph.

llama.cpp's log leaves two things out: the CPU's work buffer, which is allocated at the first
evaluation, as large as the largest step of the graph needs (`ggml_graph_plan`, ggml-cpu.c), and the
graphs themselves, which are very large for some architectures (`llama_context::graph_max_nodes`).
So llama.cpp builds the graph of a full batch over a full cache here. Nothing is evaluated, and the
memory that the graph reserves is never touched.

The function for that is experimental in llama.cpp (llama-ext.h); where it is missing or has another
signature, `modeldeck.core.runtime.engines.llama.needs` estimates.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from modeldeck.core.runtime.engines.llama.devices import has_gpu

RESERVE = "_Z19llama_graph_reserveP13llama_contextjjj"
"""`llama_graph_reserve(llama_context *, uint32_t, uint32_t, uint32_t)`, as C++ compilers name it:
with other parameters it would have another name."""

TABLE_BYTES = 20
"""For each entry of a table with about a power of two of them: the tensor, its copy, and the number
of what evaluates it (`ggml_backend_sched_new`, ggml-backend.cpp)."""


class _CPlan(ctypes.Structure):
    """The beginning of `struct ggml_cplan` (ggml-cpu.h), and room for more than the rest of it."""

    _fields_ = [("work_size", ctypes.c_size_t), ("rest", ctypes.c_void_p * 31)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Bytes of a graph besides the buffers of its tensors."""

    work_bytes: int
    """The CPU's work buffer."""
    bytes: int
    """The graph itself, without the data of its tensors."""
    table_bytes: int
    """The table of the backend that evaluates each tensor."""


def graph_of(c: Any, context: Any, outputs: int, sequences: int) -> Graph | None:
    """Return what evaluating a full batch takes besides its buffers.

    None where this llama.cpp lacks the function, or evaluates on GPUs: there the graph would
    reserve their memory.

    Args:
        c: llama.h, as llama-cpp-python binds it.
        context: A context for planning, with nothing allocated.
        outputs: Tokens of a batch with an output, at least one.
        sequences: Sequences that the tokens of a batch are of: as many as the context has, since
            some architectures abort over fewer (DeepSeek 4).
    """
    library = getattr(c, "_lib", None)
    if not hasattr(library, RESERVE) or has_gpu(c):
        return None
    try:
        reserve, plan, steps_of, tensor_bytes, graph_bytes = _functions(library)
    except AttributeError:  # built otherwise: ggml's functions are not exported
        return None
    tokens = min(c.llama_n_ctx(context), c.llama_n_ubatch(context))
    graph = reserve(context, tokens, sequences, min(outputs, tokens))
    if not graph:  # no memory to reserve it
        return None
    steps = steps_of(graph)
    return Graph(
        work_bytes=plan(graph, c.llama_n_threads_batch(context), None).work_size,
        bytes=steps * tensor_bytes() + graph_bytes(steps, False),
        table_bytes=TABLE_BYTES << (steps - 1).bit_length(),
    )


def _functions(library: Any) -> list[Any]:
    """The functions of llama-ext.h, ggml-cpu.h and ggml.h that are needed here."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    signatures: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        (RESERVE, pointer, (pointer, *[ctypes.c_uint32] * 3)),
        ("ggml_graph_plan", _CPlan, (pointer, ctypes.c_int, pointer)),
        ("ggml_graph_size", ctypes.c_int, (pointer,)),
        ("ggml_tensor_overhead", size, ()),
        ("ggml_graph_overhead_custom", size, (size, ctypes.c_bool)),
    )
    found = []
    for name, result, arguments in signatures:
        function = library[name]  # a new object: other users' signatures stay as they are
        function.restype, function.argtypes = result, arguments
        found.append(function)
    return found
