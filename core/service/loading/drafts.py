"""Draft models: the one that a load names, and those on this machine that would do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from modeldeck.core.config.load_options import ModelTraits
from modeldeck.core.errors import DeckError, InvalidRequest, NotDownloaded, NotFound
from modeldeck.core.schema import Model
from modeldeck.core.service.library.library import ModelLibrary

SIZE_DIFFERENCE = 128
"""Largest difference in size of two vocabularies; `runtime/engines/llama/draft_check.py` compares
the tokens themselves when both models are loaded."""
MOST = 8
"""Draft models that are told; more are no help."""
READ_S = 2.0
"""Seconds that reading the headers of the others may take."""

Traits = Callable[[Model], Awaitable[ModelTraits]]


class DraftModels:
    """Finds draft models."""

    def __init__(self, library: ModelLibrary, traits: Traits) -> None:
        """`traits` reads the header of a downloaded model; may raise DeckError."""
        self._library = library
        self._traits = traits

    def named(self, model: Model, ref: str | None) -> Model | None:
        """Return the draft model with this name. Raises InvalidRequest and NotDownloaded."""
        if ref is None:
            return None
        try:
            draft = self._library.find(ref)
        except NotFound as error:
            raise InvalidRequest(f"draft_model: {error.message}", error.remedy) from error
        if draft.format != model.format or draft.id == model.id:
            raise InvalidRequest(
                f"{draft.unique} cannot guess for {model.unique}: draft_model must be another"
                f" {model.format} model of the same vocabulary."
            )
        if not draft.downloaded or draft.path is None:
            raise NotDownloaded(
                f"The draft model {draft.unique} is not downloaded.",
                f"modeldeck pull {draft.unique}",
            )
        return draft

    async def fitting(self, model: Model, traits: ModelTraits) -> tuple[str, ...]:
        """Return the unique names of models that can guess ahead for `model`, smallest first.

        As far as the headers tell, and as many as are read in time.
        """
        if traits.vocabulary is None or "embedding" in model.usage:
            return ()
        smaller = sorted(
            (m for m in self._library.listed if _may_guess(m, model)),
            key=lambda m: (m.size_bytes or 0, m.unique),
        )
        found: list[str] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_S):
                for other in smaller:
                    with suppress(DeckError):
                        if same_vocabulary(traits, await self._traits(other)):
                            found.append(other.unique)
                    if len(found) == MOST:
                        break
        return tuple(found)


def _may_guess(other: Model, model: Model) -> bool:
    """Whether a model is here, of the same format, and smaller: a larger one would only be slow."""
    is_smaller = (other.size_bytes or 0) < (model.size_bytes or 0)
    is_text = "embedding" not in other.usage
    return other.downloaded and other.format == model.format and is_smaller and is_text


def same_vocabulary(one: ModelTraits, other: ModelTraits) -> bool:
    """Whether two headers name the same vocabulary. Pure.

    >>> qwen = ModelTraits(vocabulary=("gpt2", "qwen2", 151936))
    >>> same_vocabulary(qwen, ModelTraits(vocabulary=("gpt2", "qwen2", 151851)))
    True
    """
    if one.vocabulary is None or other.vocabulary is None:
        return False
    is_alike = one.vocabulary[:2] == other.vocabulary[:2]
    return is_alike and abs(one.vocabulary[2] - other.vocabulary[2]) <= SIZE_DIFFERENCE
