"""What the processor takes to evaluate a batch, as llama.cpp's own graph tells.

Two things are no part of what llama.cpp says it takes: the CPU's work buffer, which is made at the
first evaluation, as large as the largest step of the graph needs (`ggml_graph_plan`, ggml-cpu.c),
and the room for the graphs themselves, which some architectures have very large ones of
(`llama_context::graph_max_nodes`). So the graph of a full batch over a full cache is asked for.
Nothing is evaluated, and what the graph reserves is never touched.

The function that gives the graph is one that llama.cpp only tries out (llama-ext.h); where it is
not, or is another, `modeldeck.core.runtime.engines.llama.needs` estimates.
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
    """What a graph takes besides the buffers of its tensors."""

    work_bytes: int
    """The buffer that the CPU evaluates it with."""
    bytes: int
    """The graph itself, without the numbers in it."""
    table_bytes: int
    """Where llama.cpp looks up what evaluates which tensor."""


def graph_of(c: Any, context: Any, outputs: int) -> Graph | None:
    """What evaluating a full batch takes besides its buffers.

    None where this llama.cpp does not tell, or evaluates on GPUs: there the graph would reserve
    their memory.

    Args:
        c: llama.h, as llama-cpp-python binds it.
        context: Made to plan with, nothing allocated.
        outputs: Tokens of a batch that something is read out for, at least one.
    """
    library = getattr(c, "_lib", None)
    if not hasattr(library, RESERVE) or has_gpu(c):
        return None
    try:
        reserve, plan, steps_of, tensor_bytes, graph_bytes = _functions(library)
    except AttributeError:  # built otherwise: ggml's functions are not to be had by this name
        return None
    tokens = min(c.llama_n_ctx(context), c.llama_n_ubatch(context))
    graph = reserve(context, tokens, 1, min(outputs, tokens))
    if not graph:  # there is no room to reserve it
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
        function = library[name]  # a new one each time: nobody else's signatures are changed
        function.restype, function.argtypes = result, arguments
        found.append(function)
    return found
