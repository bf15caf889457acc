"""Names of models that clients of every API see; `ModelCommands.find` finds a model by each."""

from __future__ import annotations

import re
from collections.abc import Mapping

from modeldeck.core.catalog import listing
from modeldeck.core.errors import Ambiguous
from modeldeck.core.schema import Model


def public_name(model: Model, models: Mapping[str, Model]) -> str:
    """The unique name; for a model at a path or URL a short name, or its id where that is taken.

    `models` are all models by id. Pure.

    >>> base = {"source": "custom", "format": "gguf"}
    >>> hub = Model(id="1", name="b Q8_0", unique="a/b-GGUF:Q8_0", **base)
    >>> mine = Model(id="2", name="My Model", unique="/models/x.gguf", **base)
    >>> twin = Model(id="3", name="my model", unique="/models/y.gguf", **base)
    >>> public_name(hub, {"1": hub}), public_name(mine, {"2": mine})
    ('a/b-GGUF:Q8_0', 'my-model')
    >>> public_name(mine, {"2": mine, "3": twin})
    '2'
    """
    if not _is_place(model.unique):
        return model.unique
    short = re.sub(r"[\s:/]+", "-", model.name.casefold())
    try:
        found = listing.known(models, short)
    except Ambiguous:
        found = None
    return short if found is not None and found.id == model.id else model.id


def _is_place(unique: str) -> bool:
    """Whether a unique name is a path or a URL outside the Hub."""
    return unique.startswith("/") or ("://" in unique and not unique.startswith("hf://"))
