"""Models that see, in a llama.cpp context of a test, and what they tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modeldeck.core.schema import GenerateRequest, LoadOptions
from tests.support.engine_turns import EngineTurns, Told
from tests.support.pictures import picture
from tests.support.projectors import SeeingModel, write_seeing_model

SAME = 1e-4
"""How far log probabilities of the same prompt may be apart, since batches differ."""
RED, GREEN = picture("red"), picture("green", (120, 200))
LONG = "The cat sat on the mat and looked at the moon for a long while. " * 2
CACHE_BYTES = 32 << 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("projectors")


def written(models: Path, kind: str) -> SeeingModel:
    """A model that sees, with random weights."""
    folder = models / kind
    if not folder.exists():
        return write_seeing_model(models, kind)
    return SeeingModel(path=folder / "model-F16.gguf", projector=folder / "mmproj-F16.gguf")


@pytest.fixture
def engines() -> Iterator[list[EngineTurns]]:
    """Engines to close after the test."""
    found: list[EngineTurns] = []
    yield found
    for engine in found:
        engine.close()


def loaded(engines: list[EngineTurns], model: SeeingModel, **more: Any) -> EngineTurns:
    own = {name: more.pop(name) for name in ("draft", "folder", "disk_bytes") if name in more}
    options = LoadOptions(**{"parallel": 2, "context_length": 2048, "threads": 1, **more})
    engine = EngineTurns(
        model.path, options, cache_bytes=CACHE_BYTES, projector=model.projector, **own
    )
    engines.append(engine)
    return engine


def logprobs(told: Told) -> list[float]:
    assert told.error is None, told.error
    return [p for token in told.logprobs for p in sorted(p for _, p in token.top)]


def same(told: Told, other: Told) -> bool:
    """Whether two answers were written after the same prompt."""
    one, two = logprobs(told), logprobs(other)
    return len(one) == len(two) and bool(np.allclose(one, two, atol=SAME, rtol=0))


def one(engine: EngineTurns, request: GenerateRequest) -> Told:
    (told,) = engine.together([replace(request, logprobs=8)])
    return told


def alone(engine: EngineTurns, requests: Sequence[GenerateRequest]) -> list[Told]:
    """The answers to requests, each read anew."""
    found = []
    for request in requests:
        engine.engine.reset()
        found.append(one(engine, request))
    engine.engine.reset()
    return found


def cached(told: Told) -> int:
    assert told.done is not None, told.error
    return told.done.cached_tokens or 0


def length(told: Told) -> int:
    assert told.done is not None, told.error
    return told.done.prompt_tokens or 0


def images_read(told: Told) -> int:
    """The pieces of images that were read for a request."""
    return sum(bool(progress.media) for progress in told.progress)
