"""Earlier questions in the composer, as a shell has them. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class PromptHistory:
    """Goes through earlier questions, and back to what is being written."""

    def __init__(self, prompts: Sequence[str] = ()) -> None:
        self._prompts = list(prompts)
        """The newest first."""
        self._at = -1
        """Place of the question that is shown; -1 for the text that is being written."""
        self._draft = ""

    def fill(self, prompts: Sequence[str]) -> None:
        """Put questions of other chats behind those that were added here."""
        self._prompts = list(dict.fromkeys([*self._prompts, *prompts]))

    def add(self, prompt: str) -> None:
        """Add a question that was sent, as the newest."""
        self.leave()
        if prompt:
            self._prompts = [prompt, *(known for known in self._prompts if known != prompt)]

    def earlier(self, written: str) -> str | None:
        """The question before; None at the first one. `written` is what the composer holds."""
        if self._at + 1 >= len(self._prompts):
            return None
        if self._at < 0:
            self._draft = written
        self._at += 1
        return self._prompts[self._at]

    def later(self) -> str | None:
        """The question after, or the text that was being written; None where that is shown."""
        if self._at < 0:
            return None
        self._at -= 1
        return self._prompts[self._at] if self._at >= 0 else self._draft

    def leave(self) -> None:
        """Begin at the newest again, after the text was edited or sent."""
        self._at = -1
