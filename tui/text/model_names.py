"""Short display names of models. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modeldeck.core.schema import Model


def title(model_id: str, unique: str, models: Mapping[str, Model]) -> str:
    """Name of a model with its quantization; `unique` where it is not in `models`."""
    model = models.get(model_id)
    if model is None or not model.name:
        return unique
    quantization = model.quantization or ""
    known = quantization.casefold() in model.name.casefold()
    return model.name if known else f"{model.name} {quantization}"


def title_of_unique(unique: str, models: Mapping[str, Model]) -> str:
    """Name of the model with this unique name, with its quantization; `unique` for none."""
    same = (model for model in models.values() if model.unique == unique)
    return next((title(model.id, unique, models) for model in same), unique)


def plain_name(model: Model) -> str:
    """A model's name without its quantization, which has a column of its own."""
    short = model.name.removesuffix(model.quantization or "").rstrip(" -_.")
    return short or model.name


def short_title(model_id: str, unique: str, models: Mapping[str, Model]) -> str:
    """Name of a model without its quantization; the end of `unique` where it is not in `models`."""
    model = models.get(model_id)
    return plain_name(model) if model is not None and model.name else unique.rpartition("/")[2]


def name_of_unique(unique: str, models: Mapping[str, Model]) -> str:
    """Name of the model with this unique name as its row shows it; else the end of `unique`.

    For what is kept by the unique name alone, and may be of a model that is no longer listed.
    """
    known = next((model for model in models.values() if unique in (model.unique, model.id)), None)
    if known is None:
        return unique.rpartition("/")[2]
    return row_name(known.id, unique, models)


def row_name(model_id: str, unique: str, models: Mapping[str, Model]) -> str:
    """Name of a model as its row in the catalog shows it.

    With its quantization where another row has the same name, and `unique` where two have even
    that in common, or where it is not in `models`.
    """
    model = models.get(model_id)
    if model is None or not model.name:
        return unique
    name = plain_name(model)
    same = [other for other in models.values() if plain_name(other) == name]
    if len(same) == 1:
        return name
    name = title(model_id, unique, models)
    return unique if sum(title(o.id, o.unique, models) == name for o in same) > 1 else name
