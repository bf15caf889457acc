"""Estimates the memory that llama.cpp takes besides its planned buffers. Pure.

Measured as the peak of the process less its plan, with 142 architectures, 512 to 32,768 tokens, and
caches of every type; `tests/benchmarks/forecast.py` measures again and prints what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from modeldeck.core.runtime.engines.llama.graph import Graph

CELL_BYTES = 150
"""For each token of a KV cache: its cell (48 bytes, llama-kv-cells.h), the tree and map nodes that
find it (88), and our own list of tokens."""

CANDIDATE_BYTES = 12
"""For each token of the vocabulary, in each request that draws its tokens: number, score and
probability (`llama_token_data`, llama.h). Of one request they are part of what a process takes
besides (`modeldeck.core.schema.overhead`)."""
GRAPHS = 2
"""Graphs that a context keeps: the one it reserved its buffers with, and the last evaluated with an
output (`gf_res_reserve` and `gf_res_prev`, llama-context.h)."""
GRAPH_BYTES = 450_000
"""Bytes of each where not known: one of 1024 steps, as most architectures have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationShape:
    """The sizes that the memory of an evaluation on the CPU depends on."""

    cells: tuple[tuple[int, int], ...]
    """Tokens and layers of each KV cache."""
    batch: int
    """Tokens evaluated at once."""
    heads: int
    outputs: int
    """Tokens of a batch with an output, beyond one for each sequence."""
    output_width: int
    """Elements of each output: its vector, and the scores of all tokens."""
    vocabulary: int
    sequences: int
    """Requests that are answered at the same time."""
    widest: int
    """Elements of the widest vector that is multiplied with a matrix."""
    weight_bits: float
    """Bits of a weight, on average."""
    flash: bool
    cache_wide: bool
    """Whether the KV cache has 32 bits."""
    by_position: bool = False
    """Whether tokens are hidden by their position as well as by their cell (MiniMax M3, with one
    sequence): llama.cpp plans with an empty cache, that is without positions (minimax-m3.cpp)."""
    graph: Graph | None = None
    """llama.cpp's own graph; None where it is not known."""
    cut_by_sequence: bool = False
    """Whether llama.cpp cuts a batch into parts with equally many tokens of each of its sequences,
    as recurrent layers need: some parts have no output, and those have a graph of their own."""


def work_bytes(figures: EvaluationShape) -> int:
    """Estimated bytes of the CPU's work buffer: the right operand of a product, converted.

    ggml allocates it once, for the largest product of the graph (`ggml_graph_plan`, ggml-cpu.c);
    mostly its size is known from the graph (`modeldeck.core.runtime.engines.llama.graph`). Without
    flash attention that is the scores of all heads: with 16 heads, batches of 512 tokens and 4096
    of context, 64 MiB.

    >>> work_bytes(EvaluationShape(cells=((4096, 32),), batch=512, heads=16, outputs=0,
    ...                    output_width=4096, vocabulary=32000, sequences=1, widest=4096,
    ...                    weight_bits=16, flash=False, cache_wide=False)) >> 20
    64
    """
    bits = figures.weight_bits
    # Products with 32-bit weights need no copy; those with quantized ones one of about 9 bits.
    element = 0.0 if bits > 24 else 2.0 if bits > 12 else 292 / 256
    matrices = figures.batch * figures.widest * element
    scores = 0
    if not figures.flash and not figures.cache_wide:
        seen = max((cells for cells, layers in figures.cells if layers), default=0)
        scores = 2 * figures.batch * seen * figures.heads
    return int(max(matrices, scores))


def besides_bytes(figures: EvaluationShape) -> int:
    """Bytes of everything that grows with the context, the batch or the model's width."""
    graph = figures.graph or Graph(work_bytes=work_bytes(figures), bytes=GRAPH_BYTES, table_bytes=0)
    cells = CELL_BYTES * sum(cells for cells, _ in figures.cells)
    longest = max((cells for cells, _ in figures.cells), default=0)
    mask = 4 * figures.batch * longest if figures.by_position else 0
    outputs = 4 * figures.outputs * figures.output_width
    outputs += CANDIDATE_BYTES * figures.vocabulary * (figures.sequences - 1)
    graphs = GRAPHS + figures.cut_by_sequence
    return graph.work_bytes + graphs * graph.bytes + graph.table_bytes + cells + mask + outputs
