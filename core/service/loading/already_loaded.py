"""What a load does where the model is loaded already: which options differ, and what is said. Pure.

`idle_ttl_s` and `pinned` are changed in place; any other difference needs a reload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modeldeck.core.config.load_options import NAMES
from modeldeck.core.errors import InUse, LoadedAlready
from modeldeck.core.schema import Instance, LoadOptions, Model

IN_PLACE = ("idle_ttl_s", "pinned")
"""Options of a loaded model that change without a reload."""

_UNSAID: Mapping[str, Any] = {
    "kv_cache_type": "f16",
    "mmap": True,
    "mlock": False,
    "embedding": False,
    "parallel": 1,
    "loras": (),
    "idle_ttl_s": 0.0,
    "pinned": False,
}
"""What an engine does where an option is None."""

_WORDS: Mapping[str, str] = {
    "context_length": "{} context",
    "parallel": "{} at once",
    "cache_tokens": "{} cache tokens",
    "engine": "{}",
    "gpu_layers": "{} GPU layers",
    "kv_cache_type": "KV cache {}",
    "flash_attention": "flash attention {}",
    "threads": "{} threads",
    "batch_size": "batch {}",
    "vision": "vision {}",
    "loras": "{} LoRA adapters",
    "draft_model": "draft model {}",
}


def differing(wanted: LoadOptions, loaded: LoadOptions) -> tuple[str, ...]:
    """Names of the options that a loaded model does not have as they are wanted.

    >>> differing(LoadOptions(context_length=1024, mmap=True), LoadOptions(context_length=4096))
    ('context_length',)
    """
    return tuple(name for name in NAMES if _effect(wanted, name) != _effect(loaded, name))


def needs_reload(wanted: LoadOptions, loaded: LoadOptions) -> tuple[str, ...]:
    """As `differing`, without what changes in place."""
    return tuple(name for name in differing(wanted, loaded) if name not in IN_PLACE)


def _effect(options: LoadOptions, name: str) -> Any:
    """What an option comes to, so that unset and set alike compare as equal."""
    value = getattr(options, name)
    if name == "context_fit":
        return None  # how a length was found, which is compared itself
    if name == "cache_tokens":
        return value if (value or 0) > (options.context_length or 0) else None
    if name == "draft_tokens" and options.draft_model is None:
        return None
    return _UNSAID.get(name) if value is None else value


def with_other_options(model: Model, instance: Instance, names: Sequence[str]) -> LoadedAlready:
    """The error for a load with other options than a model is loaded with."""
    having = ", ".join(said(name, getattr(instance.options, name)) for name in names)
    return LoadedAlready(
        f"{model.name} is loaded already with {having}.",
        "Send `reload: true`: it is unloaded, and loaded anew.",
    )


def answering(model: Model, instance: Instance, who: Sequence[str]) -> InUse:
    """The error for a reload that would end answers without a yes."""
    names = f" for {', '.join(sorted(set(who)))}" if who else ""
    count = max(len(who), instance.requests)
    return InUse(
        f"{model.name} has {count} {'request' if count == 1 else 'requests'}{names}:"
        " loading it anew would end what it answers.",
        "Wait until it is idle, or send `end_answers: true` as well.",
    )


def said(name: str, value: Any) -> str:
    """An option as a loaded model has it, in words.

    >>> said("context_length", 4096), said("vision", False), said("mlock", None)
    ('4k context', 'vision off', 'mlock auto')
    """
    words = {None: "auto", True: "on", False: "off"}
    if isinstance(value, bool) or value is None:
        text = words[value]
    elif isinstance(value, tuple):
        text = str(len(value))
    elif name in ("context_length", "cache_tokens") and value % 1024 == 0:
        text = f"{value // 1024}k"
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return _WORDS.get(name, name.replace("_", " ") + " {}").format(text)
