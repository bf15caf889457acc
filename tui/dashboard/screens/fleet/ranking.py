"""Which machine would serve a model best. Pure.

The order is fixed: a machine where the model is loaded, one where it fits now, one where it fits
after idle models were unloaded, one that would download it first. Among equals `prefer` of the
configuration decides, then the order of the machines. Rates play no part, as they change from one
second to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from modeldeck.core.errors import DeckError, EngineMissing, NotFound
from modeldeck.core.schema import Instance, InstanceState, LoadPlan, Model
from modeldeck.tui.text import parse

OTHER_REFUSALS = frozenset({EngineMissing.code})
"""Codes of refusals that neither memory nor a download mends."""


class ServingWay(IntEnum):
    """How a machine would serve a model, the best way first."""

    LOADED = 0
    FITS = 1
    UNLOADS = 2
    """It fits after idle models were unloaded."""
    DOWNLOADS = 3
    """It is downloaded first, and fits then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedModel:
    """The model that machines are asked about."""

    name: str
    """As the person wrote it: a short name, or `owner/repo:QUANT`."""
    context_length: int | None = None
    """In tokens; None for what each machine would take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingAnswer:
    """How one machine would serve a model, as it was when it was asked."""

    way: ServingWay | None
    """None where it would not serve it."""
    word: str
    """Way or reason, in a word or two."""
    unique: str = ""
    """The unique name of the model; empty where the machine knows none."""
    needs_bytes: int | None = None
    """Memory that it would take; None where it is not known, and where it is loaded."""
    context_length: int | None = None
    """In tokens; None where it is not known."""
    unloads: tuple[str, ...] = ()
    """Unique names of the models that are unloaded for it."""
    download_bytes: int | None = None
    """Size of what is downloaded first; None for nothing, and where it is not known."""
    reason: str = ""
    """Why it would not, in sentences."""


def wanted(text: str) -> WantedModel | None:
    """The model, and its context length, that are written; None for an empty line.

    >>> wanted("qwen3-8b 16k"), wanted("tiny at 4096").context_length, wanted(" ")
    (WantedModel(name='qwen3-8b', context_length=16384), 4096, None)
    """
    words = text.split()
    length = parse.tokens(words[-1]) if len(words) > 1 else None
    if length is not None:
        words = words[:-2] if len(words) > 2 and words[-2] == "at" else words[:-1]
    return WantedModel(name=" ".join(words), context_length=length) if words else None


def serving_instance(
    instances: Iterable[Instance], model_id: str, context_length: int | None
) -> Instance | None:
    """The loaded instance of a model that has the context length; None where there is none."""
    for instance in instances:
        if instance.model_id == model_id and instance.state.live:
            known = instance.context_length or instance.options.context_length or 0
            if context_length is None or known >= context_length:
                return instance
    return None


def loaded(instance: Instance) -> ServingAnswer:
    """The answer of a machine where the model is loaded, or is being loaded."""
    starting = instance.state is InstanceState.STARTING
    return ServingAnswer(
        way=ServingWay.LOADED,
        word="loading" if starting else "loaded",
        unique=instance.unique,
        context_length=instance.context_length or instance.options.context_length,
    )


def planned(model: Model | None, plan: LoadPlan, free_disk_bytes: int | None) -> ServingAnswer:
    """The answer of a machine where the model is not loaded; None where it is not in its list."""
    refusal = plan.refusal
    reason = "" if refusal is None else f"{refusal.message} {refusal.remedy}".strip()
    way, word = _way(model, plan, free_disk_bytes)
    is_download = way is ServingWay.DOWNLOADS
    gone = (plan.replaces, *plan.evictions) if plan.replaces is not None else plan.evictions
    return ServingAnswer(
        way=way,
        word=word,
        unique=plan.unique,
        needs_bytes=plan.forecast.total_bytes if plan.forecast is not None else None,
        context_length=plan.options.context_length,
        unloads=tuple(each.unique for each in gone) if way is not None else (),
        download_bytes=model.size_bytes if is_download and model is not None else None,
        reason=reason or " ".join(plan.warnings) if way is None else "",
    )


def _way(
    model: Model | None, plan: LoadPlan, free_disk_bytes: int | None
) -> tuple[ServingWay | None, str]:
    if plan.refusal is not None and plan.refusal.code in OTHER_REFUSALS:
        return None, "no engine"
    if plan.verdict in ("too large", "unknown"):
        return None, plan.verdict
    if model is None or not model.downloaded:
        size = model.size_bytes if model is not None else None
        if size is not None and free_disk_bytes is not None and size > free_disk_bytes:
            return None, "disk is full"
        return ServingWay.DOWNLOADS, "downloads"
    if plan.verdict == "fits after unloading" or plan.replaces is not None:
        return ServingWay.UNLOADS, "unloads"
    return ServingWay.FITS, "fits"


def refused(error: DeckError) -> ServingAnswer:
    """The answer of a machine that could not tell."""
    word = "no such model" if isinstance(error, NotFound) else "unknown"
    return ServingAnswer(way=None, word=word, reason=str(error))


def ranks(answers: Mapping[int, ServingAnswer], prefer: Mapping[int, int]) -> dict[int, int]:
    """The places of the machines that would serve, from 1, by the index of the machine.

    >>> fits = ServingAnswer(way=ServingWay.FITS, word="fits")
    >>> ranks({0: fits, 1: fits, 2: refused(NotFound("x"))}, {1: 1})
    {1: 1, 0: 2}
    """
    would = {at: answer.way for at, answer in answers.items() if answer.way is not None}
    order = sorted(would, key=lambda at: (would[at], -prefer.get(at, 0), at))
    return {at: place for place, at in enumerate(order, 1)}


def ordinal(place: int) -> str:
    """A place as people say it.

    >>> [ordinal(place) for place in (1, 2, 3, 4, 11, 12, 22)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '22nd']
    """
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10)
    return f"{place}{ending or 'th'}"


def common_context(asked: WantedModel, answers: Iterable[ServingAnswer]) -> int | None:
    """The context length that is asked about; None where the machines would take different ones."""
    if asked.context_length is not None:
        return asked.context_length
    lengths = {answer.context_length for answer in answers if answer.way is not None}
    return lengths.pop() if len(lengths) == 1 else None
