"""How much of the context what would be sent takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modeldeck.tui.chats.attachments import estimated_tokens
from modeldeck.tui.chats.chat import Chat, ChatAttachment, ChatTurn

WARNING = 0.8
"""Fraction of the context from which the meter warns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextUse:
    """Tokens that the next question would send, before its answer."""

    tokens: int
    exact: bool
    """Whether most of it was counted by the core."""
    total: int | None = None
    """Context of the loaded model; None where it is not loaded."""

    @property
    def fraction(self) -> float | None:
        """Share of the context; None where that is not known."""
        return self.tokens / self.total if self.total else None


def context_use(
    chat: Chat, draft: str = "", files: Sequence[ChatAttachment] = (), total: int | None = None
) -> ContextUse:
    """Count the path that is shown and what is being written.

    The core's counts of the last answer are taken; what came after it is estimated. A thought is
    left out: most templates do not send it back.
    """
    path = chat.path()
    counted = 0
    rest = list(path)
    for place in range(len(path) - 1, -1, -1):
        figures = path[place].figures
        if figures.prompt_tokens is not None and path[place].role == "assistant":
            answer = (figures.completion_tokens or 0) - (figures.thought_tokens or 0)
            counted, rest = figures.prompt_tokens + max(0, answer), rest[place + 1 :]
            break
    estimate = sum(map(_estimate, rest))
    if not counted:
        estimate += estimated_tokens(chat.options.system)
    estimate += estimated_tokens(draft) + sum(file.tokens or 0 for file in files)
    return ContextUse(tokens=counted + estimate, exact=counted >= estimate, total=total)


def _estimate(turn: ChatTurn) -> int:
    return estimated_tokens(turn.text) + sum(file.tokens or 0 for file in turn.attachments)
