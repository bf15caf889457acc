"""What a model can do, in the words of Ollama's API, which others use as well. Pure."""

from __future__ import annotations

from modeldeck.core.schema import Instance, Model
from modeldeck.core.schema.media_support import CAPABILITIES, taken


def capabilities(model: Model, loaded: Instance | None = None) -> list[str]:
    """Among `completion`, `embedding`, `rerank`, `tools`, `thinking`, `vision` and `audio`.

    The last two are as it is loaded, where it is: it may have been loaded without its projector.

    >>> base = {"id": "1", "unique": "a/b", "name": "b", "format": "gguf", "source": "cache"}
    >>> capabilities(Model(**base, capabilities=("tools", "thinking", "always_thinking")))
    ['completion', 'tools', 'thinking']
    >>> capabilities(Model(**base, usage=("embedding",)))
    ['embedding']
    """
    if not model.generates_text:
        return [use for use in model.usage if use in ("embedding", "rerank")]
    words = (word for word in ("tools", "thinking") if word in model.capabilities)
    kinds = taken(model, loaded)
    return ["completion", *words, *(word for kind, word in CAPABILITIES.items() if kind in kinds)]


def thinking_notice(model: Model, thinking: bool | None) -> tuple[tuple[str, str], ...]:
    """Headers of an answer that may have a thought although none was wanted.

    Some models think before each answer, and have no way to be told not to.
    """
    if thinking is not False or "always_thinking" not in model.capabilities:
        return ()
    return (("X-Model-Notice", "This model cannot be told not to think."),)
