"""Completes commands, models, numbers of chats and paths at the prompt, by prompt_toolkit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from modeldeck.tui.cli.line_mode.commands import COMMANDS

WORDS: dict[str, tuple[str, ...]] = {
    "think": ("on", "off", "low", "high", "show"),
    "set": ("temp", "top_p", "top_k", "min_p", "max_tokens", "seed", "stop", "schema"),
}
"""What may stand behind a command."""

PATHS = frozenset({"image", "file", "save"})
"""Commands with a path."""


class LineCompleter(Completer):
    """What could come next in a line."""

    def __init__(self) -> None:
        self.models: Sequence[str] = ()
        """Unique names of models that can be asked."""
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Completions of the word before the cursor; nothing in a question."""
        text = document.text_before_cursor
        if not text.startswith("/") or text.startswith("//"):
            return
        name, space, rest = text[1:].partition(" ")
        if not space:
            for command in COMMANDS:
                if command.name.startswith(name.lower()):
                    end = " " if command.arguments else ""
                    yield Completion(command.name + end, -len(name), display=command.usage)
        elif name in PATHS:
            yield from self._paths.get_completions(Document(rest), complete_event)
        elif name == "load":
            yield from matching(rest, self.models)
        else:
            yield from matching(rest, WORDS.get(name, ()))


def matching(word: str, known: Iterable[str]) -> Iterable[Completion]:
    """Completions that begin with a word, or whose part after the owner does."""
    wanted = word.lower()
    for text in known:
        short = text.rpartition("/")[2]
        if text.lower().startswith(wanted) or short.lower().startswith(wanted):
            yield Completion(text, -len(word))
