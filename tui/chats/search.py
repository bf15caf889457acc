"""The filter of the list of conversations. Pure.

Words that all must be in the title or in a turn, in any order; `model:qwen` for the model that was
asked last; `-` before either turns it round.
"""

from __future__ import annotations

from dataclasses import dataclass

_WORD = """(instr(chats.folded, ?) OR EXISTS
    (SELECT 1 FROM turns WHERE chat = number AND instr(turns.folded, ?)))"""
_MODEL = "instr(lower(model), ?)"


def folded(text: str) -> str:
    """A text in the form in which it is searched: without differences of case."""
    return text.casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFilter:
    """What conversations must have, and must not have."""

    words: tuple[tuple[str, bool], ...] = ()
    """Each word, and whether it must be there."""
    models: tuple[tuple[str, bool], ...] = ()
    """The same for parts of the model's name."""

    @classmethod
    def of(cls, text: str) -> ChatFilter:
        """Read what a user wrote; there are no errors: an unknown test is a word."""
        words: list[tuple[str, bool]] = []
        models: list[tuple[str, bool]] = []
        for part in folded(text).split():
            wanted = not (part.startswith("-") and len(part) > 1)
            word = part if wanted else part[1:]
            if word.startswith("model:"):
                if rest := word.removeprefix("model:"):
                    models.append((rest, wanted))
            else:
                words.append((word, wanted))
        return cls(words=tuple(words), models=tuple(models))

    @property
    def marked(self) -> tuple[str, ...]:
        """Words to mark in what was found."""
        return tuple(word for word, wanted in self.words if wanted)

    def condition(self) -> tuple[str, tuple[str, ...]]:
        """As an SQL condition on the table `chats`, and its values."""
        parts, values = ["1"], list[str]()
        for word, wanted in self.words:
            parts.append(_WORD if wanted else f"NOT {_WORD}")
            values += [word, word]
        for name, wanted in self.models:
            parts.append(_MODEL if wanted else f"NOT {_MODEL}")
            values.append(name)
        return " AND ".join(parts), tuple(values)
