"""Further names of models, from the settings. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def alias_of(name: str, aliases: Mapping[str, str]) -> str | None:
    """The model that a name stands for; None where no alias fits. Case does not count.

    An exact alias wins over one with `*` at its end, and the longest of those over shorter ones.

    >>> aliases = {"claude-*": "qwen3-8b", "claude-haiku-*": "qwen3-4b", "gpt-4o": "qwen3-8b"}
    >>> alias_of("claude-haiku-4-5", aliases), alias_of("Claude-Opus-4", aliases)
    ('qwen3-4b', 'qwen3-8b')
    >>> alias_of("GPT-4o", aliases), alias_of("gpt-4o-mini", aliases)
    ('qwen3-8b', None)
    """
    wanted = name.strip().casefold()
    found = {pattern.casefold(): target for pattern, target in aliases.items()}
    if wanted in found:
        return found[wanted]
    fitting = [
        pattern
        for pattern in found
        if pattern.endswith("*") and wanted.startswith(pattern.removesuffix("*"))
    ]
    return found[max(fitting, key=len)] if fitting else None
