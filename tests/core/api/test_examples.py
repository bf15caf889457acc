"""The examples in the documentation of names and of Anthropic's conversations hold."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from modeldeck.core.api import names
from modeldeck.core.api.anthropic import conversation
from modeldeck.core.api.ollama import names as ollama
from modeldeck.core.formats import unique_names


@pytest.mark.parametrize("module", [names, conversation, ollama, unique_names])
def test_the_examples_in_the_documentation_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
