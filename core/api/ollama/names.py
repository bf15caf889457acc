"""Names of models for Ollama's clients. Pure except for the lookup.

Ollama names models from the Hub `hf.co/owner/repo:QUANT`, and each name has a tag: `latest` if none
is given. Source: https://github.com/ollama/ollama/blob/main/docs/import.md and
https://huggingface.co/docs/hub/ollama.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from modeldeck.core.api.names import public_name
from modeldeck.core.errors import Ambiguous, NotFound
from modeldeck.core.formats.unique_names import LATEST, spellings
from modeldeck.core.schema import Model, Repository

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

HUB = "hf.co/"
DEFAULT_QUANT = "Q4_K_M"
"""Ollama's default quantization of a repository."""


def shown(model: Model, models: Mapping[str, Model]) -> str:
    """The name of a model for Ollama's clients; `ModelCommands.find` finds it by this name.

    `models` are all models by id.

    >>> base = {"id": "1", "name": "My Model", "source": "custom"}
    >>> shown(Model(unique="a/b-GGUF:Q8_0", repo="a/b-GGUF", format="gguf", **base), {})
    'hf.co/a/b-GGUF:Q8_0'
    >>> shown(Model(unique="a/b", repo="a/b", format="mlx", **base), {})
    'hf.co/a/b:latest'
    >>> mine = Model(unique="/models/x.gguf", format="gguf", **base)
    >>> shown(mine, {"1": mine})
    'my-model:latest'
    """
    if model.source == "ollama":
        return model.name
    if model.repo is not None and model.unique.partition(":")[0] == model.repo:
        return HUB + (model.unique if ":" in model.unique else model.unique + LATEST)
    return public_name(model, models) + LATEST


def find(deck: Deck, name: str) -> Model:
    """The listed model with this name. Raises NotFound or Ambiguous."""
    try:
        return deck.models.find(name)
    except NotFound:
        raise NotFound(
            f"model {name[:200]!r} not found.",
            "/api/tags lists what is here; /api/pull fetches more.",
        ) from None


async def look_up(deck: Deck, name: str) -> Model:
    """As `find`; a model that is not listed is looked up on the Hub and added.

    A name without quantization means the usual one of its repository. Raises HubUnavailable too.
    """
    missing: NotFound | Ambiguous | None = None
    found = spellings(name, deck.config.hub.endpoint)
    for text in found:
        try:
            return await deck.models.resolve(text)
        except (NotFound, Ambiguous) as error:
            missing = missing or error
    base = found[0]
    if base.count("/") == 1 and ":" not in base:
        return await deck.models.resolve(usual(await deck.hub.repository(base)))
    assert missing is not None
    if "/" not in base:
        raise NotFound(
            f"model {name[:200]!r} not found: models come from the Hub here.",
            "Name one such as hf.co/owner/repo:Q4_K_M.",
        )
    raise missing


def usual(repository: Repository) -> str:
    """The unique name of a repository's default variant. Raises NotFound if it has none."""
    names = {variant.label: variant.unique for variant in repository.variants}
    if not names:
        raise NotFound(f"{repository.repo} holds no model that can be loaded here.")
    return names.get(DEFAULT_QUANT) or next(iter(names.values()))


def digest(model: Model) -> str:
    """Identifies a model at one commit: 64 hexadecimal digits.

    Ollama's is the SHA-256 of its own manifest; this one is of the model's name and commit.
    """
    return hashlib.sha256(f"{model.unique}@{model.revision or ''}".encode()).hexdigest()
