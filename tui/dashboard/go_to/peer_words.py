"""Words of other programs (k9s, lazygit, Ollama, LM Studio) for modeldeck's commands. Pure."""

from __future__ import annotations

from collections.abc import Mapping

VIEWS: Mapping[str, tuple[str, ...]] = {
    "catalog": ("cat", "list", "ls", "models"),
    "downloads": ("dl",),
    "memory": ("mem", "ps"),
    "requests": ("req",),
    "chat": (),
    "log": ("logs",),
    "disk": ("cache",),
    "fleet": ("hosts",),
}
"""Other words for views."""

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "app.leave": ("q", "q!", "exit", "wq"),
    "app.theme": ("themes",),
    "catalog.download": ("pull", "get"),
    "catalog.delete": ("delete", "rm"),
    "catalog.load": ("start",),
    "catalog.try": ("run",),
    "catalog.unload": ("stop",),
    "catalog.card": ("show",),
    "disk.delete": ("rm",),
    "memory.unload": ("stop", "kill"),
    "requests.cancel": ("kill",),
    "downloads.cancel": ("stop", "kill"),
}
"""Other words for commands, by full name."""

TAUGHT = frozenset(
    {"list", "show", "start", "run", "delete", "rm", "download", "pull", "stop", "kill"}
)
"""Words after which the key is named: `delete is x`."""


def taught(written: str, key: str) -> str:
    """What teaches the key after a word of other programs was written; empty for other words.

    >>> taught("rm tiny", "x"), taught("load tiny", "l")
    ('rm is x', '')
    """
    word = written.strip().casefold().partition(" ")[0]
    return f"{word} is {key}" if key and word in TAUGHT else ""
