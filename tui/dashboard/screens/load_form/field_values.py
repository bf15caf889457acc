"""Values of the load form's fields: in words, step by step, and what stands beside them. Pure."""

from __future__ import annotations

from typing import Any

from modeldeck.core.schema import LoadOptions
from modeldeck.tui.dashboard.screens.load_form.facts import DEFAULT_KV, FormFacts
from modeldeck.tui.text import format as fmt

LEAST_STEP = 512
"""Shortest context that a step leads to; typing reaches less."""
QUANTIZED = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
"""Types of a KV cache that need flash attention."""
MINUTE_S = 60

Values = LoadOptions


def tokens_words(value: Any) -> str:
    """A number of tokens in words."""
    return "auto" if value is None else fmt.tokens(value)


def plain_words(value: Any) -> str:
    """A value as it is; `auto` where nothing is said."""
    return "auto" if value is None else str(value)


def switch_words(value: Any) -> str:
    """Something that is on or off; `auto` where nothing is said."""
    return {None: "auto", True: "on", False: "off"}[value]


def idle_words(value: Any) -> str:
    """A time without a request in words.

    >>> idle_words(0), idle_words(600), idle_words(5400), idle_words(86400.0)
    ('never', '10 min', '90 min', '24 h')
    """
    if not value:
        return "never"
    minutes, rest = divmod(round(value), MINUTE_S)
    if rest:
        return f"{value:g} s"
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"


def layers_words(value: Any) -> str:
    """A number of layers on the GPU in words."""
    return "auto" if value is None else "all" if value < 0 else str(value)


def draft_words(value: Any) -> str:
    """The short name of a draft model."""
    return "none" if not value else fmt.clean(str(value).rpartition("/")[2])


def lora_words(value: Any) -> str:
    """LoRA adapters: the file of the only one, or how many there are."""
    if not value:
        return "none"
    first = fmt.clean(value[0].path.rpartition("/")[2])
    return first if len(value) == 1 else f"{len(value)} adapters"


# Context and requests at once


def context_steps(trained: int) -> tuple[int, ...]:
    """The contexts that the arrows lead through: halves down to `LEAST_STEP`, and the trained one.

    >>> context_steps(4096), context_steps(40960)[-2:], context_steps(300)
    ((512, 1024, 2048, 4096), (32768, 40960), (300,))
    """
    steps = [LEAST_STEP << n for n in range(16) if LEAST_STEP << n < trained]
    return (*steps, trained)


def parallel_note(facts: FormFacts, values: Values) -> str:
    """What requests at once share, and what cells of their own would take."""
    parallel, length = values.parallel or 1, values.context_length
    if parallel < 2 or length is None:
        return ""
    cells = max(values.cache_tokens or 0, length)
    if cells >= parallel * length:
        return f"{fmt.tokens(length)} each"
    more = facts.plan.own_cells_bytes if facts.plan is not None and facts.single else None
    own = f"; {fmt.tokens(length)} each takes {fmt.memory(more)} more" if more else ""
    return f"share {fmt.tokens(cells)}{own}"


def short_parallel_note(facts: FormFacts, values: Values) -> str:
    """As `parallel_note`, in fewer cells."""
    words = parallel_note(facts, values)
    return words.replace(" takes ", " +").removesuffix(" more")


def cell_steps(facts: FormFacts, values: Values) -> tuple[int | None, ...]:
    """Tokens that all requests share: as many as one may reach, up to as many for each."""
    length, parallel = values.context_length or 0, values.parallel or 1
    return (None, *(length * times for times in range(2, parallel + 1)))


def cell_note(facts: FormFacts, values: Values) -> str:
    """What a number of shared tokens means."""
    length, parallel = values.context_length or 0, values.parallel or 1
    if values.cache_tokens is None:
        return "as many as one context"
    return "each its own context" if values.cache_tokens >= length * parallel else "shared"


# GPU, KV cache and flash attention


def layer_steps(facts: FormFacts, values: Values) -> tuple[int | None, ...]:
    """Layers on the GPU: the engine's choice, none to all but one, all."""
    layers = facts.plan.layers if facts.plan is not None else None
    return (None, *range((layers or 0) + 1), -1)


def layer_note(facts: FormFacts, values: Values) -> str:
    """How many layers of the model that is."""
    layers = facts.plan.layers if facts.plan is not None else None
    count = values.gpu_layers
    if layers is None or count is None:
        return ""
    return f"{layers if count < 0 else min(count, layers)} of {layers}"


def kv_steps(facts: FormFacts, values: Values) -> tuple[str, ...]:
    """Types of KV cache that are possible, the largest first."""
    allowed = facts.kv_types
    if values.flash_attention is False:
        allowed = tuple(kind for kind in allowed if kind not in QUANTIZED)
    return allowed


def kv_note(facts: FormFacts, values: Values) -> str:
    """What the type saves."""
    saved = facts.forecasts.kv_saved_bytes
    if values.kv_cache_type not in QUANTIZED or not saved or not facts.single:
        return ""
    return f"saves {fmt.memory(saved)} against {DEFAULT_KV}"


def flash_steps(facts: FormFacts, values: Values) -> tuple[bool | None, ...]:
    """What flash attention can be with this KV cache."""
    return (None, True) if values.kv_cache_type in QUANTIZED else (None, True, False)


def flash_note(facts: FormFacts, values: Values) -> str:
    """What needs it."""
    kind = values.kv_cache_type
    return f"{kind} needs it" if kind in QUANTIZED else ""


# Models beside it


def draft_steps(facts: FormFacts, values: Values) -> tuple[str | None, ...]:
    """Models that can guess ahead, and none."""
    known = facts.plan.drafts if facts.plan is not None else ()
    own = (values.draft_model,) if values.draft_model else ()
    return (None, *dict.fromkeys((*known, *own)))


def draft_note(facts: FormFacts, values: Values) -> str:
    """What a draft model does, or which one would do."""
    if values.draft_model:
        return "guesses ahead"
    known = facts.plan.drafts if facts.plan is not None else ()
    return f"{draft_words(known[0])} would do" if known else ""


def is_llama(facts: FormFacts, values: Values) -> bool:
    """Whether llama.cpp loads it."""
    return facts.engine == "llama.cpp"


def sees(facts: FormFacts, values: Values) -> bool:
    """Whether the model has a projector, and so sees images."""
    return facts.single and facts.model is not None and facts.model.projector is not None
