"""What the child process asks of an engine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Protocol

from core.runtime.messages import Done, Hello, Loaded, Planned
from core.schema import GenerateRequest, LoadOptions

ShowProgress = Callable[[str, float | None], None]
"""Called with the stage and the fraction that is done."""


class Flag:
    """A cancel flag that one thread sets and native code reads.

    It is a C string, empty or of length 1. So `strlen` itself can serve as a callback that asks
    whether to give up: llama.cpp asks before every node of its graph, and calling back into Python
    a thousand times per token would cost more than the token.
    """

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)

    def set(self) -> None:
        """Ask the work in hand to be given up."""
        self._text[0] = b"\x01"

    def clear(self) -> None:
        """Begin new work."""
        self._text[0] = b"\x00"

    def __bool__(self) -> bool:
        return self._text[0] != b"\x00"

    @property
    def address(self) -> int:
        """Where the C string lies, for as long as this object lives."""
        return ctypes.addressof(self._text)


class Engine(Protocol):
    """An engine in its own process. Methods are called one at a time, on the main thread.

    They raise `core.errors` classes; `Cancelled` when `flag` was set and the work was given up. Any
    other exception is a bug of ours or of the engine, and the child reports it as a failure.
    """

    def hello(self) -> Hello:
        """Import the engine and say what it is. Raises EngineMissing when it is not installed."""

    def load(
        self, path: str, options: LoadOptions, default_context: int, show: ShowProgress
    ) -> Loaded:
        """Load a model."""

    def plan(self, path: str, options: LoadOptions, default_context: int) -> Planned:
        """Say what a load would take, without taking it."""

    def generate(self, request: GenerateRequest, emit: Callable[[str], None]) -> Done:
        """Answer a request, piece by piece."""

    def embed(self, text: str) -> tuple[float, ...]:
        """Embed a text, as a vector of length 1."""
