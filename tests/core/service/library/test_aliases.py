"""Names from the settings stand for models, wherever a model is named."""

from __future__ import annotations

import doctest
import tempfile
from pathlib import Path

import pytest

from modeldeck.core.config.config import Api, Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import NotFound
from modeldeck.core.schema import ModelSeed
from modeldeck.core.service.deck import Deck
from modeldeck.core.service.library import aliases


def test_the_examples_in_the_documentation_hold() -> None:
    result = doctest.testmod(aliases)
    assert result.attempted
    assert not result.failed


async def test_an_alias_is_a_name_where_no_model_has_it(
    demo_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"claude-*": "mine", "gpt-4o": "nothing", "mine": "nothing"}
    config = Config(api=Api(aliases=names), runtime=RuntimeSettings(calibrate=False))
    path = str(demo_models / "tiny-GGUF" / "tiny-F16.gguf")
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        monkeypatch.setenv("MODELDECK_HOME", folder)
        async with Deck(locate(), config) as deck:
            model = await deck.models.create(ModelSeed(unique=path, name="Mine"), "test")
            for name in ("claude-opus-4", "Claude-Haiku-4-5", "mine"):
                assert deck.models.find(name).id == model.id
            with pytest.raises(NotFound, match="'nothing'"):
                deck.models.find("gpt-4o")
            with pytest.raises(NotFound, match="'gpt-5'"):
                deck.models.find("gpt-5")
