"""What a model can do, in the words of Ollama's API, which others use as well. Pure."""

from __future__ import annotations

from modeldeck.core.schema import Model


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


def thinking_notice(model: Model, thinking: bool | None) -> tuple[tuple[str, str], ...]:
    """Headers of an answer that may have a thought although none was wanted.

    Some models think before each answer, and have no way to be told not to.
    """
    if thinking is not False or "always_thinking" not in model.capabilities:
        return ()
    return (("X-Model-Notice", "This model cannot be told not to think."),)
