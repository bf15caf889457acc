"""The fields of the load form: which there are, and how they are stepped and typed. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modeldeck.core.schema import LoadOptions
from modeldeck.tui.dashboard.screens.load_form import field_values as of
from modeldeck.tui.dashboard.screens.load_form.facts import DEFAULT_KV, FormFacts
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import parse

LEAST_CONTEXT = 16
MOST_PARALLEL = 16
MOST_THREADS = 512
IDLE_S = (0, 60, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400)
THREADS = (None, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
BATCHES = (None, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

Values = LoadOptions
Steps = Callable[[FormFacts, Values], Sequence[Any]]
Words = Callable[[FormFacts, Values], str]
Shown = Callable[[FormFacts, Values], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedLimits:
    """What can be typed into a field."""

    least: int
    most: int
    scale: int = 1
    """What a typed number is multiplied by: minutes are typed, seconds are meant."""
    units: bool = False
    """Whether `k` and `m` are units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """One field of the form."""

    name: str
    """The load option; `more` for the field that unfolds the last ones."""
    label: str
    text: Callable[[Any], str]
    """Its value in words; None is what the engine does where nothing is said."""
    steps: Steps = lambda facts, values: ()
    """Values that the arrows lead through, in order."""
    note: Words = lambda facts, values: ""
    """What stands beside the value."""
    short_note: Words | None = None
    """The same where there is little room."""
    limits: Callable[[FormFacts, Values], TypedLimits | None] = lambda facts, values: None
    """What can be typed; None where nothing can."""
    shown: Shown = lambda facts, values: True
    folded: bool = False
    """Whether it is shown only after `more` was opened."""
    unset: Any = None
    """The value that None comes to, where that is known."""

    def value(self, values: Values) -> Any:
        """Its value among the options."""
        found = getattr(values, self.name, None)
        return self.unset if found is None else found

    def stepped(self, by: int, facts: FormFacts, values: Values) -> Any:
        """The next value in this direction; the same at the end."""
        steps, now = list(self.steps(facts, values)), self.value(values)
        if not steps or (now is None and None not in steps):
            return now  # not known before the first plan
        if now in steps:
            at = steps.index(now) + by
        else:  # a number between two steps
            numbers = [step for step in steps if step is not None]
            at = bisect_right(numbers, now) if by > 0 else bisect_left(numbers, now) - 1
            at += len(steps) - len(numbers)
        return steps[max(0, min(len(steps) - 1, at))]


def more_note(facts: FormFacts, values: Values) -> str:
    """The names of the folded fields that are of use."""
    found = [f for f in FIELDS if f.folded and f.shown(facts, values)]
    return ", ".join(field.label for field in found)


CONTEXT = FormField(
    name="context_length",
    label="context",
    text=of.tokens_words,
    steps=lambda facts, values: of.context_steps(facts.trained),
    limits=lambda facts, values: TypedLimits(
        least=min(LEAST_CONTEXT, facts.trained), most=facts.trained, units=True
    ),
)
PARALLEL = FormField(
    name="parallel",
    label="at once",
    text=of.plain_words,
    unset=1,
    steps=lambda facts, values: range(1, MOST_PARALLEL + 1),
    note=of.parallel_note,
    short_note=of.short_parallel_note,
    limits=lambda facts, values: TypedLimits(least=1, most=MOST_PARALLEL),
    shown=lambda facts, values: not facts.is_embedding,
)
GPU_LAYERS = FormField(
    name="gpu_layers",
    label="GPU layers",
    text=of.layers_words,
    steps=of.layer_steps,
    note=of.layer_note,
    limits=lambda facts, values: (
        TypedLimits(least=0, most=facts.plan.layers)
        if facts.plan is not None and facts.plan.layers
        else None
    ),
    shown=lambda facts, values: facts.has_gpu and facts.single and of.is_llama(facts, values),
)
KV_CACHE = FormField(
    name="kv_cache_type",
    label="KV cache",
    text=of.plain_words,
    unset=DEFAULT_KV,
    steps=of.kv_steps,
    note=of.kv_note,
    shown=lambda facts, values: not facts.is_embedding,
)
FLASH = FormField(
    name="flash_attention",
    label="flash att.",
    text=of.switch_words,
    steps=of.flash_steps,
    note=of.flash_note,
    shown=of.is_llama,
)
VISION = FormField(
    name="vision",
    label="vision",
    text=of.switch_words,
    unset=True,
    steps=lambda facts, values: (False, True),
    note=lambda facts, values: "saves the projector" if values.vision is False else "sees images",
    shown=of.sees,
)
DRAFT = FormField(
    name="draft_model",
    label="draft model",
    text=of.draft_words,
    steps=of.draft_steps,
    note=of.draft_note,
    shown=lambda facts, values: facts.single and len(of.draft_steps(facts, values)) > 1,
)
LORAS = FormField(
    name="loras",
    label="LoRA",
    text=of.lora_words,
    unset=(),
    note=lambda facts, values: "enter picks a file" if not values.loras else "enter changes it",
    shown=lambda facts, values: facts.single and not facts.is_embedding,
)
IDLE = FormField(
    name="idle_ttl_s",
    label="unload after",
    text=of.idle_words,
    unset=0,
    steps=lambda facts, values: IDLE_S,
    note=lambda facts, values: "without a request",
    limits=lambda facts, values: TypedLimits(least=0, most=60 * 24 * 365, scale=of.MINUTE_S),
)
PINNED = FormField(
    name="pinned",
    label="pinned",
    text=lambda value: "yes" if value else "no",
    unset=False,
    steps=lambda facts, values: (False, True),
    note=lambda facts, values: "only you can unload it" if values.pinned else "",
)
MORE = FormField(
    name="more",
    label="more",
    text=lambda value: "",
    note=more_note,
    short_note=lambda facts, values: more_note(facts, values).replace("cache tokens", "tokens"),
)
THREADS_FIELD = FormField(
    name="threads",
    label="threads",
    text=of.plain_words,
    steps=lambda facts, values: THREADS,
    limits=lambda facts, values: TypedLimits(least=1, most=MOST_THREADS),
    folded=True,
    shown=of.is_llama,
)
BATCH = FormField(
    name="batch_size",
    label="batch",
    text=of.plain_words,
    steps=lambda facts, values: BATCHES,
    note=lambda facts, values: "tokens of a prompt in a step",
    limits=lambda facts, values: TypedLimits(least=16, most=16_384),
    folded=True,
)
MMAP = FormField(
    name="mmap",
    label="mmap",
    text=of.switch_words,
    unset=True,
    steps=lambda facts, values: (False, True),
    note=lambda facts, values: "maps the file" if values.mmap is not False else "reads the file",
    folded=True,
    shown=of.is_llama,
)
MLOCK = FormField(
    name="mlock",
    label="mlock",
    text=of.switch_words,
    unset=False,
    steps=lambda facts, values: (False, True),
    note=lambda facts, values: "keeps the weights in memory" if values.mlock else "",
    folded=True,
    shown=of.is_llama,
)
ENGINE = FormField(
    name="engine",
    label="engine",
    text=of.plain_words,
    steps=lambda facts, values: _engines(facts),
    folded=True,
    shown=lambda facts, values: len(_engines(facts)) > 1,
)
CELLS = FormField(
    name="cache_tokens",
    label="cache tokens",
    text=lambda value: "shared" if value is None else fmt.tokens(value),
    steps=of.cell_steps,
    note=of.cell_note,
    folded=True,
    shown=lambda facts, values: (values.parallel or 1) > 1 and not facts.is_embedding,
)


def _engines(facts: FormFacts) -> tuple[str, ...]:
    """The engines here that read the format of all models."""
    formats = {target.model.format for target in facts.targets if target.model is not None}
    able = (r for r in facts.state.runtimes if r.available and formats <= set(r.formats))
    return tuple(runtime.name for runtime in able)


FIELDS = (
    *(CONTEXT, PARALLEL, GPU_LAYERS, KV_CACHE, FLASH, VISION, DRAFT, LORAS, IDLE, PINNED, MORE),
    *(THREADS_FIELD, BATCH, MMAP, MLOCK, ENGINE, CELLS),
)
"""All fields in their order; the folded ones follow `more`."""
BY_NAME = {field.name: field for field in FIELDS}


def shown_fields(facts: FormFacts, values: Values, *, unfolded: bool) -> list[FormField]:
    """The fields that are of use for these models on this machine."""
    return [f for f in FIELDS if f.shown(facts, values) and (unfolded or not f.folded)]


def typed(text: str, limits: TypedLimits) -> tuple[int | None, str]:
    """What a typed text comes to, and why it is no value; empty where it is one.

    >>> typed("16k", TypedLimits(least=16, most=40960, units=True))
    (16384, '')
    >>> typed("8", TypedLimits(least=16, most=40960, units=True))
    (None, 'at least 16')
    """
    count = parse.tokens(text)
    if count is None:
        return None, "a number is needed"
    if count < limits.least:
        return None, f"at least {limits.least}"
    if count > limits.most:
        return None, f"at most {most_words(limits)}"
    return count * limits.scale, ""


def most_words(limits: TypedLimits) -> str:
    """The largest value that can be typed."""
    return fmt.tokens(limits.most) if limits.units else f"{limits.most:,}"


def changed_words(names: Sequence[str]) -> str:
    """The labels of fields, for a sentence.

    >>> changed_words(["context_length", "kv_cache_type"])
    'context, KV cache'
    """
    return ", ".join(BY_NAME[name].label for name in names if name in BY_NAME)


def said(name: str, value: Any) -> str:
    """An option with its value, for a sentence.

    >>> said("context_length", 16384), said("kv_cache_type", "q8_0"), said("pinned", True)
    ('16k context', 'KV q8_0', 'pinned yes')
    """
    text = BY_NAME[name].text(value) if name in BY_NAME else str(value)
    if name == "context_length":
        return f"{text} context"
    if name == "parallel":
        return f"{text} at once"
    if name == "kv_cache_type":
        return f"KV {text}"
    label = BY_NAME[name].label if name in BY_NAME else name.replace("_", " ")
    return f"{label} {text}"
