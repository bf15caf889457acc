"""Load options: what each may be, and who decides it. Pure.

Options come from several places, each outranking the one before it: the defaults, the built-in
catalog, the configuration (for all models, then for this one), the last use of this model, and the
request. `resolve` lays them over each other and tells where each value is from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import msgspec

from core.errors import InvalidRequest
from core.schema import LoadOptions, OptionOrigin

LIMITS: Mapping[str, tuple[float, float]] = {
    "context_length": (16, 1 << 24),
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
    """Raise InvalidRequest where an option is impossible whatever the model, saying what may be."""
    for name, (low, high) in LIMITS.items():
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise InvalidRequest(f"{name} must be from {low:g} to {high:g}, not {value!r}.")
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
    """The options that somebody said, by name."""
    return {name: value for name in NAMES if (value := getattr(options, name)) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Options of several origins laid over each other."""

    options: LoadOptions = field(default_factory=LoadOptions)
    origins: dict[str, OptionOrigin] = field(default_factory=dict)
    """Of each option that is not None."""


def resolve(layers: Sequence[tuple[OptionOrigin, LoadOptions]]) -> Resolved:
    """Lay options over each other, the strongest last.

    Context length and `context_fit` are one decision: the strongest layer that names either makes
    it. A length alone is that length; `context_fit` alone reaches up to what the model was trained
    for; both together are a limit.

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
        values.update(said)
        origins.update(dict.fromkeys(said, origin))
    ordered = {name: values[name] for name in NAMES if name in values}
    return Resolved(
        options=LoadOptions(**ordered), origins={name: origins[name] for name in ordered}
    )


def to_remember(asked: LoadOptions) -> LoadOptions:
    """What of the options of a load is kept for the next one of the same model."""
    return replace(asked, **dict.fromkeys(NOT_KEPT))
