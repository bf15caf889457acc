"""LoRA adapters as they are written on a line: paths, each with a strength. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from modeldeck.core.schema import Lora

MOST = 16
"""Adapters on one model."""
STRENGTH = 100.0
"""Largest strength, in either direction."""


def read(text: str) -> tuple[Lora, ...]:
    """The adapters of a line; call `problem` before.

    >>> read("/a.gguf:0.5, /b.gguf")
    (Lora(path='/a.gguf', scale=0.5), Lora(path='/b.gguf', scale=1.0))
    """
    return tuple(_one(part.strip()) for part in text.split(",") if part.strip())


def _one(text: str) -> Lora:
    path, _, scale = text.rpartition(":")
    try:
        return Lora(path=path, scale=float(scale)) if path else Lora(path=text)
    except ValueError:
        return Lora(path=text)


def written(adapters: Sequence[Lora]) -> str:
    """Adapters as `read` reads them back."""
    return ", ".join(
        each.path if each.scale == 1 else f"{each.path}:{each.scale:g}" for each in adapters
    )


def problem(text: str) -> str:
    """What is wrong with a line; empty for nothing.

    >>> problem("a.gguf"), problem("/a.gguf:500"), problem("/a.gguf:-1")
    ('The whole path is needed: it begins with /.', 'A strength is from -100 to 100.', '')
    """
    found = read(text)
    if len(found) > MOST:
        return f"At most {MOST} adapters."
    if any(not each.path.startswith("/") for each in found):
        return "The whole path is needed: it begins with /."
    if any(not -STRENGTH <= each.scale <= STRENGTH for each in found):
        return f"A strength is from -{STRENGTH:g} to {STRENGTH:g}."
    return ""
