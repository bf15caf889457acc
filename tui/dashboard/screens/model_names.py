"""Short display names of models. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from modeldeck.core.schema import Model


def title(model_id: str, unique: str, models: Mapping[str, Model]) -> str:
    """Name of a model with its quantization; `unique` where it is not in `models`."""
    model = models.get(model_id)
    if model is None or not model.name:
        return unique
    quantization = model.quantization or ""
    known = quantization.casefold() in model.name.casefold()
    return model.name if known else f"{model.name} {quantization}"
