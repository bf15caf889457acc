"""Load options as people write them: on a line such as `context_length=8192 mmap=false`. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import LoadOptions, Lora

SHOW_PLAN = "?"
"""At the end of the line: show what the load would do before it is done."""
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


def written(options: LoadOptions) -> str:
    """Format options as a line that `parse` reads back."""
    given = ((name, getattr(options, name)) for name in NAMES)
    return " ".join(
        f"{name}={shlex.quote(_value(value))}" for name, value in given if value is not None
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(f"{each.path}:{each.scale:g}" for each in value)
    return str(value)


def hint(context: int) -> str:
    """Describe the options line for the prompt."""
    return (
        f"such as context_length={context or 8192} mmap=false; empty for those of the last time;"
        f" {SHOW_PLAN} at the end shows what it would do."
        f" There are {', '.join(NAMES)}."
    )


def parse(text: str) -> LoadOptions:
    """Parse a line of options. Raises InvalidRequest, naming the known options."""
    given: dict[str, Any] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidRequest(f"A quotation mark is missing: {text}", "Close it.") from error
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in NAMES:
            raise InvalidRequest(f"Not an option: {word}.", f"Options: {', '.join(NAMES)}.")
        if name == "loras":
            given[name] = [lora(each) for each in value.split(",") if each]
        else:
            given[name] = {"true": True, "false": False}.get(value.lower(), value)
    try:
        return msgspec.convert(given, LoadOptions, strict=False, from_attributes=True)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}.", "Write them as name=value.") from error
