"""Load options in words, as `modeldeck load` and the dashboard write them. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from modeldeck.core.schema import LoadOptions, Lora

NAMES = tuple(field.name for field in fields(LoadOptions))


def lora(text: str) -> Lora:
    """Parse a LoRA adapter: a path, and optionally its scale after a colon.

    >>> lora("/adapters/french.gguf:0.5")
    Lora(path='/adapters/french.gguf', scale=0.5)
    """
    path, _, scale = text.rpartition(":")
    if path and re.fullmatch(r"-?\d+(\.\d+)?", scale):
        return Lora(path=str(Path(path).absolute()), scale=float(scale))
    return Lora(path=str(Path(text).absolute()))


def given(options: LoadOptions) -> Mapping[str, Any]:
    """The options that are set, by name."""
    return {name: value for name in NAMES if (value := getattr(options, name)) is not None}


def written(options: LoadOptions) -> str:
    """Format options as `name=value` words.

    >>> written(LoadOptions(context_length=512, mmap=False))
    'context_length=512 mmap=false'
    """
    return " ".join(f"{name}={shlex.quote(_value(x))}" for name, x in given(options).items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(f"{each.path}:{each.scale:g}" for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
