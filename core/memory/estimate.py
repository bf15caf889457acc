"""Estimate a model's memory by formulas, and judge whether a forecast fits. Pure.

The engine's own plan (`modeldeck.core.runtime.planning.planner`) is exact and preferred. The
formulas serve models that no engine of this machine can plan; their forecasts are marked as not
exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from modeldeck.core.formats.mlx_folder import MlxConfig
from modeldeck.core.schema import Fit, Forecast, LoadOptions
from modeldeck.core.schema.overhead import SHIPPED, ProcessOverhead

CONTEXT_STEP = 256
"""llama.cpp rounds the cells of its KV cache up to a multiple of this."""
BATCH = 512
"""Default batch size in tokens."""
DEFAULT_CONTEXT = 8192
"""Default context length in tokens, if neither the options nor the model have one."""
MLX_STEP = 512
"""Default number of prompt tokens that our MLX engine processes at once."""

BITS_PER_VALUE = {
    "f32": 32.0,
    "f16": 16.0,
    "bf16": 16.0,
    "q8_0": 8.5,
    "q5_1": 6.0,
    "q5_0": 5.5,
    "q4_1": 5.0,
    "q4_0": 4.5,
}
"""Bits of one value in the KV cache: a block of 32 with its scale, and minimum (ggml-common.h)."""


class ModelShape(Protocol):
    """The values of a model's header that the formula uses; None if the header lacks one."""

    @property
    def context_length(self) -> int | None:
        """Tokens the model was trained for."""

    @property
    def embedding_length(self) -> int | None:
        """Width of the hidden state."""

    @property
    def kv_heads(self) -> tuple[int, ...] | None:
        """Key and value heads of each layer."""

    @property
    def key_length(self) -> int | None:
        """Elements of a key, per head."""

    @property
    def value_length(self) -> int | None:
        """Elements of a value, per head."""

    @property
    def vocab_size(self) -> int | None:
        """Tokens of the vocabulary."""

    def number(self, key: str) -> int | None:
        """Return an integer under the architecture's prefix."""


def kv_cache_bytes(
    kv_heads: tuple[int, ...], key_length: int, value_length: int, context: int, type_: str = "f16"
) -> int:
    """Return the bytes of the KV cache of plain attention (llama-kv-cache.cpp).

    Models with sliding windows, recurrent layers or compressed keys take less. Worked number: 32
    layers of 8 heads, keys and values of 128, context 8192, f16: exactly 1 GiB.

    >>> kv_cache_bytes((8,) * 32, 128, 128, 8192)
    1073741824
    """
    cells = -(-context // CONTEXT_STEP) * CONTEXT_STEP
    values = cells * sum(kv_heads) * (key_length + value_length)
    return int(values * BITS_PER_VALUE[type_] / 8)


def compute_bytes(width: int, feed_forward: int, context: int, batch: int = BATCH) -> int:
    """Return the bytes of llama.cpp's compute buffers, within 10 % for dense models.

    With flash attention these are 32-bit values for each token of a batch, about four times the
    width of the hidden state and three times that of the feed-forward layer, and a 16-bit mask of
    batch by context. Fitted to llama.cpp's plans of synthetic models: width 640 to 2048,
    feed-forward 64 to 8384, context 512 to 32,768.

    >>> compute_bytes(2048, 5632, 4096) >> 20
    53
    """
    return batch * (4 * (4 * width + 3 * feed_forward) + 2 * context)


def from_header(
    header: ModelShape,
    options: LoadOptions,
    size_bytes: int,
    overhead: ProcessOverhead = SHIPPED["llama.cpp"],
) -> Forecast:
    """Estimate from a GGUF header and the size of the model's files, which is nearly all weights.

    Values missing in the header count as 0, so the forecast is then too small. Requests share the
    tokens of the KV cache, so more of them at once hardly count.
    """
    cells = _cells(options, header.context_length)
    kv = 0
    if header.kv_heads and header.key_length and header.value_length:
        kv = kv_cache_bytes(
            header.kv_heads,
            header.key_length,
            header.value_length,
            cells,
            options.kv_cache_type or "f16",
        )
    width = header.embedding_length or 0
    wide = header.number("feed_forward_length") or 4 * width
    compute = compute_bytes(width, wide, cells, min(cells, options.batch_size or BATCH))
    compute += 4 * (header.vocab_size or 0) * (options.parallel or 1)  # scores of the next tokens
    return _estimate(size_bytes, kv, compute, overhead.of(header.vocab_size or 0))


def _cells(options: LoadOptions, trained: int | None) -> int:
    """Tokens that all requests together may hold."""
    length = options.context_length or min(DEFAULT_CONTEXT, trained or DEFAULT_CONTEXT)
    return max(length, options.cache_tokens or 0)


_WITHOUT_CACHE = ("linear", "recurrent", "mamba", "conv")
"""Words in the names of layer types whose state does not grow with the text."""


def mlx_kv_bytes(
    config: MlxConfig, context: int, type_: str | None = None, parallel: int = 1
) -> int:
    """Return the bytes of mlx-lm's KV cache, in steps of 256 tokens (mlx_lm/models/cache.py).

    Values missing in `config` count as 0, a layer of an unknown type as plain attention. A
    quantized cache has 8 or 4 bits per value, and a scale and a bias of 16 bits for every 64. Each
    of `parallel` requests has a cache of its own, which grows by a step at a time, and a window of
    its own; together they hold `context` tokens at most (`modeldeck.core.runtime.engines.mlx`).
    Worked number: 32 layers of 8 heads of 128, 8192 tokens, 16 bits: exactly 1 GiB.

    >>> mlx_kv_bytes(MlxConfig(layers=32, kv_heads=8, head_length=128), 8192)
    1073741824
    >>> mlx_kv_bytes(MlxConfig(layers=32, kv_heads=8, head_length=128), 8192, "q8_0")
    570425344
    """
    per_token = config.latent_length or 2 * (config.kv_heads or 0) * (config.head_length or 0)
    tokens = 0
    most = context + (parallel * CONTEXT_STEP if parallel > 1 else 0)
    kinds = config.layer_types or ("full_attention",) * (config.layers or 0)
    for kind in kinds:
        if any(word in kind for word in _WITHOUT_CACHE):
            continue
        length = most
        if config.window and ("sliding" in kind or "chunked" in kind):
            # A step is added before it is cut.
            length = min(most, parallel * (config.window + MLX_STEP))
        tokens += -(-length // CONTEXT_STEP) * CONTEXT_STEP
    bits = {"q8_0": 8.5, "q4_0": 4.5}.get(type_ or "", 8.0 * config.value_bytes)
    return int(tokens * per_token * bits / 8)


def mlx_compute_bytes(config: MlxConfig, context: int, step: int = MLX_STEP) -> int:
    """Return the peak bytes of mlx's temporary arrays while a prompt is processed.

    About 17 arrays as wide as the hidden state and 3 as wide as the feed-forward layer, for each
    token of a step, and the attention's scores, which are kept by the CPU's kernels; a GPU's fused
    ones need less. Fitted on the CPU to mlx's own count of the peak less weights and KV cache: 3.9
    to 22 MiB for widths of 640, steps of 128 and 512, contexts of 512 and 2048; within 7 %.

    >>> config = MlxConfig(embedding_length=640, feed_forward_length=64, heads=2)
    >>> mlx_compute_bytes(config, 2048) >> 20
    15
    """
    width = config.embedding_length or 0
    wide = config.feed_forward_length or 4 * width
    scores = (config.heads or 0) * context * 6 // 5
    return min(step, context) * config.value_bytes * (17 * width + 3 * wide + scores)


def from_config(
    config: MlxConfig,
    weights_bytes: int,
    options: LoadOptions,
    overhead: ProcessOverhead = SHIPPED["mlx"],
) -> Forecast:
    """Estimate an MLX model: mlx reads all weights into memory."""
    cells = _cells(options, config.context_length)
    longest = min(cells, options.context_length or cells)
    return _estimate(
        weights_bytes,
        mlx_kv_bytes(config, cells, options.kv_cache_type, options.parallel or 1),
        mlx_compute_bytes(config, longest, options.batch_size or MLX_STEP),
        overhead.of(config.vocab_size or 0),
    )


def from_size(size_bytes: int, overhead: ProcessOverhead = SHIPPED["mlx"]) -> Forecast:
    """Estimate from the size of the weights alone, without reading files."""
    return _estimate(size_bytes, 0, 0, overhead.base_bytes)


def together(model: Forecast, draft: Forecast) -> Forecast:
    """Add the forecasts of a model and its draft model in one process."""
    return _estimate(
        model.weights_bytes + draft.weights_bytes,
        model.kv_bytes + draft.kv_bytes,
        model.compute_bytes + draft.compute_bytes,
        model.overhead_bytes,
    )


def _estimate(weights: int, kv: int, compute: int, overhead: int) -> Forecast:
    return Forecast(
        total_bytes=weights + kv + compute + overhead,
        weights_bytes=weights,
        kv_bytes=kv,
        compute_bytes=compute,
        overhead_bytes=overhead,
        exact=False,
    )


def judge(
    forecast: Forecast | None,
    available_bytes: int | None,
    reserve_bytes: int,
    gpu_available_bytes: int | None = None,
) -> Fit:
    """Judge a forecast: it fits beside the reserve, only with it (`tight`), or not at all.

    `unknown` if the forecast, its share on a GPU, or the free memory is not known.
    """
    found = Fit(
        verdict="fits",
        forecast=forecast,
        available_bytes=available_bytes,
        exact=forecast is not None and forecast.exact,
    )
    if forecast is None:
        return replace(found, verdict="unknown", reason="The model's needs are not known.")
    needed, on_gpu = forecast.machine_bytes, forecast.gpu_bytes
    if needed is None or on_gpu is None:
        reason = gpu_unknown(forecast, gpu_available_bytes)
        return replace(found, verdict="unknown", reason=reason)
    if available_bytes is None:
        reason = "The free memory of this machine is not known."
        return replace(found, verdict="unknown", reason=reason)
    if needed > available_bytes:
        return replace(found, verdict="too large", reason=_missing(needed - available_bytes))
    if reason := gpu_unknown(forecast, gpu_available_bytes):
        return replace(found, verdict="unknown", reason=reason)
    if on_gpu > (gpu_available_bytes or 0):
        missing = _missing(on_gpu - (gpu_available_bytes or 0), " on the GPU")
        return replace(found, verdict="too large", reason=missing)
    if needed > available_bytes - reserve_bytes:
        reason = "It would take memory that is kept for the system."
        return replace(found, verdict="tight", reason=reason)
    return found


def gpu_unknown(forecast: Forecast, gpu_available_bytes: int | None) -> str:
    """Return why it is not known whether a forecast fits the GPU's memory; empty if it is.

    Args:
        forecast: The forecast of the load.
        gpu_available_bytes: Free memory of the GPUs; None if it is not known.
    """
    if forecast.gpu_bytes is None:
        return f"How much of it goes to the GPU is not known: {forecast.gpu_unknown}."
    if forecast.gpu_bytes and gpu_available_bytes is None:
        return "The free memory of the GPU is not known."
    return ""


def _missing(missing_bytes: int, where: str = "") -> str:
    return f"{missing_bytes / (1 << 30):.1f} GiB more would have to be free{where}."
