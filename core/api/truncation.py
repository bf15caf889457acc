"""Leaves the oldest messages of a conversation out where it is too long. Pure.

Ollama does it unasked, the Responses API where `truncation` is `auto`. Instructions at the
beginning stay, and so does the last question with what follows it. Turns go whole, so that no
output of a tool loses its call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modeldeck.core.errors import ContextExceeded
from modeldeck.core.schema import GenerateRequest, Message

SPARE = 0.9
"""Share of the context that is aimed at: a token is not always as many characters."""

MEDIA_SIZE = 2000
"""What an image or a recording counts as, in characters: about 500 tokens."""


def shorter(asked: GenerateRequest, error: ContextExceeded) -> GenerateRequest | None:
    """The request without its oldest messages; None where nothing is left to leave out."""
    first, rest = _parts(asked.messages)
    questions = [at for at, message in enumerate(rest) if message.role == "user"]
    if len(questions) < 2:
        return None
    sizes = [_size(message) for message in rest]
    prompt, context = error.sizes or (2, 1)
    most = sum(map(_size, asked.messages)) * SPARE * context / prompt - sum(map(_size, first))
    # An answer is not left without its question.
    fitting = (at for at in questions[1:] if sum(sizes[at:]) <= most)
    keep = next(fitting, questions[-1])
    return replace(asked, messages=(*first, *rest[keep:]))


def _parts(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """The instructions at the beginning, and the rest."""
    count = next((n for n, m in enumerate(messages) if m.role not in ("system", "developer")), 0)
    return list(messages[:count]), list(messages[count:])


def _size(message: Message) -> int:
    """Characters of a message, and some for what its template adds."""
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    text = len(message.content) + len(message.thought) + calls
    return text + len(message.media) * MEDIA_SIZE + 16
