"""Targets of the catalog's actions: the variants of a row, and estimates of their fit. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modeldeck.core.schema import Fit, Model, Repository, SearchHit, Variant, Verdict, model_id
from modeldeck.core.schema.state import State
from modeldeck.tui.text import records


@dataclass(frozen=True, slots=True)
class DetailTarget:
    """A target of actions: a variant on the Hub, or a listed model without one."""

    unique: str
    quantization: str
    size_bytes: int | None
    files: int | None
    model: Model | None
    """Its catalog entry, if it is listed."""

    @property
    def ref(self) -> str:
        """Its reference in requests to the core."""
        return self.model.id if self.model else self.unique

    @property
    def key(self) -> str:
        """The id of its model, listed or not."""
        return self.model.id if self.model else model_id(self.unique)


def choices(
    subject: Model | SearchHit | None,
    repository: Repository | None,
    models: Mapping[str, Model],
) -> list[DetailTarget]:
    """Variants to choose from, of a row; includes the listed model."""
    if repository is not None and repository.variants:
        found = [_choice(variant, models) for variant in repository.variants]
        own = subject if isinstance(subject, Model) else None
        if own is None or any(choice.key == own.id for choice in found):
            return found
        return [only(own), *found]
    return [only(subject)] if isinstance(subject, Model) else []


def _choice(variant: Variant, models: Mapping[str, Model]) -> DetailTarget:
    return DetailTarget(
        variant.unique,
        variant.label or variant.quantization or variant.format,
        variant.size_bytes,
        len(variant.files),
        models.get(model_id(variant.unique)),
    )


def only(model: Model) -> DetailTarget:
    """The target for a listed model."""
    quantization = model.quantization or model.format
    return DetailTarget(model.unique, quantization, model.size_bytes, None, model)


def beside(
    fit: Fit, asked: DetailTarget, choice: DetailTarget, room_bytes: int | None
) -> Fit | None:
    """Estimate the fit of a variant from a planned one: only the weights differ.

    Its header, which may have ten megabytes, is only fetched when the cursor is on it.
    """
    forecast, free = fit.forecast, fit.available_bytes
    if forecast is None or not asked.size_bytes or choice.size_bytes is None:
        return None
    other = forecast.with_weights(forecast.weights_bytes * choice.size_bytes // asked.size_bytes)
    total = other.total_bytes
    verdict: Verdict = "unknown"
    if forecast.gpu_bytes != 0:
        pass  # free GPU memory is unknown here
    elif free is not None and total > free:
        verdict = "too large"
    elif room_bytes is not None:
        verdict = "tight" if total > room_bytes else "fits"
    return Fit(
        verdict=verdict,
        forecast=other,
        available_bytes=free,
        exact=False,
    )


def room(state: State) -> int | None:
    """Free bytes of the budget for models; None where unknown."""
    budget = state.memory.budget_bytes
    held = sum(i.measured_bytes or 0 for i in records.live(state))
    return None if budget is None else budget - held
