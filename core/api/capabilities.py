"""What a model can do, in the words of Ollama's API, which others use as well. Pure."""

from __future__ import annotations

from modeldeck.core.schema import Model

THINKS_ANYWAY = ("X-Model-Notice", "This model cannot be told not to think.")
"""Header of an answer that may have a thought although none was wanted."""


def capabilities(model: Model) -> list[str]:
    """Among `completion`, `embedding`, `tools` and `thinking`.

    >>> base = {"id": "1", "unique": "a/b", "name": "b", "format": "gguf", "source": "cache"}
    >>> capabilities(Model(**base, capabilities=("tools", "thinking", "always_thinking")))
    ['completion', 'tools', 'thinking']
    >>> capabilities(Model(**base, usage=("embedding",)))
    ['embedding']
    """
    if "embedding" in model.usage:
        return ["embedding"]
    return ["completion", *(word for word in ("tools", "thinking") if word in model.capabilities)]


def cannot_but_think(model: Model) -> bool:
    """Whether a model thinks before each answer, and has no way to be told not to."""
    return "always_thinking" in model.capabilities
