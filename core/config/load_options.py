"""Load options: what each may be, and who decides it. Pure.

Options come from several places, each outranking the one before it: the defaults, the built-in
catalog, the configuration (for all models, then for this one), the last use of this model, and the
request. `resolve` lays them over each other and tells where each value is from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args

import msgspec

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Engine, KvCacheType, LoadOptions, OptionOrigin

LIMITS: Mapping[str, tuple[float, float]] = {
    "context_length": (16, 1 << 24),
    "parallel": (1, 16),
    "cache_tokens": (16, 1 << 24),
    "gpu_layers": (-1, 10_000),
    "threads": (1, 512),
    "batch_size": (16, 16_384),
    "draft_tokens": (1, 64),
    "idle_ttl_s": (0, 366 * 86_400),
}
"""Smallest and largest value of each number in `LoadOptions`. llama.cpp's own limit of threads is
512 (GGML_MAX_N_THREADS); a batch above 16,384 tokens only makes the compute buffer larger."""

QUANTIZED = frozenset({"q8_0", "q5_1", "q5_0", "q4_1", "q4_0"})
"""KV cache types that need flash attention for the values."""

LORAS = 16
"""Adapters on one model; each costs memory and time at every token."""

NOT_KEPT = ("pinned", "engine")
"""Options that are not remembered for the next time: a pin holds one instance, and which engine is
best may change with what is installed; the configuration holds them for good."""

NAMES = tuple(f.name for f in fields(LoadOptions))


def check(options: LoadOptions) -> None:
    """Raise InvalidRequest for an option that no model can take, naming the allowed values."""
    for name, (low, high) in LIMITS.items():
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise InvalidRequest(f"{name} must be from {low:g} to {high:g}, not {value!r}.")
    length, cells = options.context_length, options.cache_tokens
    if length is not None and cells is not None and cells < length:
        raise InvalidRequest(
            f"cache_tokens {cells} is less than the {length} tokens that one request may reach.",
            f"Take at least {length}, or leave it out: all requests then share {length} tokens.",
        )
    if options.kv_cache_type in QUANTIZED and options.flash_attention is False:
        raise InvalidRequest(
            f"A KV cache of type {options.kv_cache_type} needs flash attention.",
            "Leave flash attention on, or take kv_cache_type f16.",
        )
    loras = options.loras or ()
    if len(loras) > LORAS:
        raise InvalidRequest(f"There may be {LORAS} LoRA adapters, not {len(loras)}.")
    for lora in loras:
        if not lora.path.startswith("/") or not -100 <= lora.scale <= 100:
            raise InvalidRequest(
                f"The LoRA adapter {lora.path!r} with scale {lora.scale!r} is not possible.",
                "Give an absolute path, and a scale from -100 to 100.",
            )


def from_table(table: Mapping[str, Any]) -> LoadOptions:
    """The options in a table of the configuration. Raises InvalidRequest naming what is wrong."""
    if unknown := sorted(set(table) - set(NAMES)):
        raise InvalidRequest(
            f"unknown load option {unknown[0]!r}", f"There are {', '.join(NAMES)}."
        )
    try:
        options = msgspec.convert(table, LoadOptions)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"bad load option: {error}") from error
    check(options)
    return options


def given(options: LoadOptions) -> dict[str, Any]:
    """The options that are set, by name."""
    return {name: value for name in NAMES if (value := getattr(options, name)) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayeredOptions:
    """Options of several origins laid over each other."""

    options: LoadOptions = field(default_factory=LoadOptions)
    origins: dict[str, OptionOrigin] = field(default_factory=dict)
    """Of each option that is not None."""


def resolve(layers: Sequence[tuple[OptionOrigin, LoadOptions]]) -> LayeredOptions:
    """Lay options over each other, the strongest last.

    Context length and `context_fit` are one decision: the strongest layer that names either makes
    it. A length alone is that length; `context_fit` alone reaches up to what the model was trained
    for; both together are a limit.

    The KV cache holds at least one request in full, so of a context length and fewer
    `cache_tokens` the stronger counts: the length is lowered, or the cache has as many tokens as
    the length.

    >>> low = ("config", LoadOptions(context_length=8192, context_fit=True, threads=4))
    >>> resolve([low, ("request", LoadOptions(context_length=512))]).origins
    {'context_length': 'request', 'threads': 'config'}
    """
    values: dict[str, Any] = {}
    origins: dict[str, OptionOrigin] = {}
    for origin, options in layers:
        said = given(options)
        if said.get("context_fit") is False and "context_length" not in said:
            values.pop("context_fit", None)  # as far as the layers below say, but exactly so
            origins.pop("context_fit", None)
            del said["context_fit"]
        elif "context_length" in said or "context_fit" in said:
            for name in ("context_length", "context_fit"):
                values.pop(name, None)
                origins.pop(name, None)
            if said.get("context_fit") is False:
                del said["context_fit"]
        length, cells = said.get("context_length"), said.get("cache_tokens")
        if length is not None and cells is None and values.get("cache_tokens", length) < length:
            del values["cache_tokens"], origins["cache_tokens"]
        values.update(said)
        origins.update(dict.fromkeys(said, origin))
        if cells is not None and values.get("context_length", cells) > cells:
            values["context_length"], origins["context_length"] = cells, origin
    ordered = {name: values[name] for name in NAMES if name in values}
    return LayeredOptions(
        options=LoadOptions(**ordered), origins={name: origins[name] for name in ordered}
    )


def to_remember(asked: LoadOptions) -> LoadOptions:
    """The options of a load that are remembered for the next load of the same model."""
    return replace(asked, **dict.fromkeys(NOT_KEPT))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTraits:
    """Facts from a model's header that options must suit; None where the header has none."""

    architecture: str | None = None
    context_length: int | None = None
    """Tokens it was trained for."""
    layers: int | None = None
    key_length: int | None = None
    """Elements of a key, per head."""
    value_length: int | None = None
    """Elements of a value, per head."""
    vocabulary: tuple[str | None, str | None, int] | None = None
    """Kind, way of cutting text, and number of tokens of its vocabulary, as its header has them."""
    unfit: tuple[str, str] | None = None
    """Why the model cannot run here with any options, and what to do; None where nothing
    is known to stand against it."""


QUANTIZED_BLOCK = 32
"""Values that share a scale in every quantized type of a KV cache (ggml-common.h)."""
MLX_GROUP = 32
"""Values that share a scale in mlx-lm's quantized KV cache, at least."""
MLX_TYPES: tuple[KvCacheType, ...] = ("f16", "bf16", "q8_0", "q4_0")
"""KV cache types that mlx-lm has a word for."""
MLX_IGNORES = ("gpu_layers", "flash_attention", "threads", "mmap", "mlock")
"""Load options that mlx-lm has no word for: it decides these itself."""


def kv_cache_types(traits: ModelTraits, engine: Engine) -> tuple[KvCacheType, ...]:
    """The types of KV cache that a model can have: those that `suit` does not refuse. Pure.

    >>> kv_cache_types(ModelTraits(key_length=80, value_length=80), "llama.cpp")
    ('f32', 'f16', 'bf16')
    """
    block = MLX_GROUP if engine == "mlx" else QUANTIZED_BLOCK
    lengths = (traits.key_length, None if engine == "mlx" else traits.value_length)
    known: tuple[KvCacheType, ...] = MLX_TYPES if engine == "mlx" else get_args(KvCacheType)
    if not any(length is not None and length % block for length in lengths):
        return known
    return tuple(kind for kind in known if kind not in QUANTIZED)


def suit(
    options: LoadOptions, traits: ModelTraits, engine: Engine, devices: Sequence[str], cpus: int
) -> tuple[str, ...]:
    """What a person should know of these options for this model, with this engine, here. Pure.

    Args:
        options: In full.
        traits: What the model's header says.
        engine: What would load it.
        devices: What that engine runs on; empty where it was not asked yet.
        cpus: Processors of this machine.

    Raises InvalidRequest for what is impossible, naming what is possible.
    """
    return tuple(
        warning
        for warning in (
            _context(options, traits),
            _cells(options),
            *(
                _of_mlx(options, traits)
                if engine == "mlx"
                else _of_llama(options, traits, devices, cpus)
            ),
        )
        if warning
    )


def _context(options: LoadOptions, traits: ModelTraits) -> str:
    length, trained = options.context_length, traits.context_length
    if length is None or trained is None or length <= trained:
        return ""
    return (
        f"context length {length} is above the {trained} tokens that the model was trained for:"
        " what it says beyond those may make no sense"
    )


def _cells(options: LoadOptions) -> str:
    """What `cache_tokens` does not do: requests together cannot fill more than their lengths."""
    length, cells, parallel = options.context_length, options.cache_tokens, options.parallel or 1
    if options.embedding or length is None or cells is None or cells <= parallel * length:
        return ""
    return (
        f"{parallel} requests of {length} tokens fill {parallel * length} at most: cache_tokens"
        f" {cells} leaves the rest to what is kept for later requests"
    )


def _of_mlx(options: LoadOptions, traits: ModelTraits) -> tuple[str, ...]:
    """Raises InvalidRequest for what the engine would refuse (runtime/engines/mlx/engine.py)."""
    if options.embedding:
        raise InvalidRequest(
            "mlx-lm answers in text and makes no embeddings.",
            "Take a GGUF version of an embedding model.",
        )
    if len(options.loras or ()) > 1:
        raise InvalidRequest("mlx-lm takes one adapter, not several.", "Leave the others out.")
    kind = options.kv_cache_type
    if kind is not None and kind not in MLX_TYPES:
        raise InvalidRequest(
            f"mlx has no KV cache of type {kind}: kv_cache_type must be {', '.join(MLX_TYPES)}."
        )
    if kind in QUANTIZED and traits.key_length is not None and traits.key_length % MLX_GROUP:
        raise InvalidRequest(
            f"A KV cache of type {kind} needs heads of a multiple of {MLX_GROUP}, and this model's"
            f" have {traits.key_length}: kv_cache_type must be f16 or bf16."
        )
    warnings = [
        f"mlx has no option {name}: it is left out"
        for name in MLX_IGNORES
        if getattr(options, name) is not None
    ]
    alone = "a draft model" if options.draft_model else f"a KV cache of type {kind}"
    if (options.draft_model or kind in QUANTIZED) and (options.parallel or 1) > 1:
        warnings.append(f"with {alone} mlx answers one request at a time")
    return tuple(warnings)


def _of_llama(
    options: LoadOptions, traits: ModelTraits, devices: Sequence[str], cpus: int
) -> tuple[str, ...]:
    if options.kv_cache_type in QUANTIZED:
        for what, length in (("keys", traits.key_length), ("values", traits.value_length)):
            if length is not None and length % QUANTIZED_BLOCK:
                raise InvalidRequest(
                    f"A KV cache of type {options.kv_cache_type} needs {what} whose length is a"
                    f" multiple of {QUANTIZED_BLOCK}, and this model's are {length}:"
                    " kv_cache_type must be f16, bf16 or f32."
                )
    warnings = []
    layers, has_gpu = options.gpu_layers, any(device != "CPU" for device in devices)
    if layers and devices and not has_gpu:
        warnings.append(f"llama.cpp runs on the CPU here: gpu_layers {layers} does nothing")
    elif layers is not None and traits.layers is not None and layers > traits.layers + 1:
        warnings.append(f"the model has {traits.layers} layers: gpu_layers {layers} means all")
    if options.threads is not None and options.threads > cpus:
        warnings.append(
            f"{options.threads} threads on {cpus} processors wait for each other: fewer are faster"
        )
    return tuple(warnings)
