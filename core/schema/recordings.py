"""What a recorded request said and what was answered: in the core's memory for some minutes."""

from __future__ import annotations

from dataclasses import dataclass

from modeldeck.core.schema.generation import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedText:
    """What one request says, and what was answered so far."""

    prompt: str | None = None
    """Plain text to continue, where there are no messages."""
    messages: tuple[Message, ...] = ()
    """Their images and recordings have no data: only texts are recorded."""
    thought: str = ""
    answer: str = ""
