"""What a model is called where its unique name is too long or too precise. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from modeldeck.core.schema import Model


def title(model_id: str, unique: str, models: Mapping[str, Model]) -> str:
    """The name of a model with its quantization; `unique` where the list does not know it."""
    model = models.get(model_id)
    if model is None or not model.name:
        return unique
    quantization = model.quantization or ""
    known = quantization.casefold() in model.name.casefold()
    return model.name if known else f"{model.name} {quantization}"
