"""Entries of the go-to line, which of them match what is written, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TypeVar

from modeldeck.core.errors import InvalidRequest
from modeldeck.tui.text import filter_language

T = TypeVar("T")

WITHIN = 3
"""Characters from which on a word is also looked for within words and in sentences."""

SENTENCE = 4
"""Grade of entries that match by their sentence, which only counts where no words do."""


class Rank(IntEnum):
    """Order of entries that match equally well."""

    HERE = 0
    """Commands of the view in front."""
    EVERYWHERE = 1
    """Views, and commands of every view."""
    ELSEWHERE = 2
    """Commands of other views."""
    MODEL = 3
    CHAT = 4
    MACHINE = 5
    HELP = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class GoToEntry:
    """One line of the list."""

    kind: str
    """What it is, in one word: `view`, `verb`, `model`."""
    words: str
    """What is written to get it."""
    sentence: str
    rank: Rank
    run: Callable[[], object] = lambda: None
    """Does it; may return an awaitable."""
    key: str = ""
    """The key that does the same, as displayed."""
    aliases: tuple[str, ...] = ()
    """Other words for it, such as those of other programs."""
    command: str = ""
    """Full name of the command it runs, which `--readonly` may refuse."""
    problem: str = ""
    """Why it cannot be done as it is written."""


def found(entries: Iterable[GoToEntry], written: str) -> list[GoToEntry]:
    """The entries that match, the best first; all of them where nothing is written."""
    query = " ".join(written.casefold().split())
    graded = [
        (grade, entry.rank, place, entry)
        for place, entry in enumerate(entries)
        if (grade := _grade(entry, query)) is not None
    ]
    best = min((grade for (grade, _), *_ in graded), default=0)
    graded = [each for each in graded if each[0][0] < SENTENCE or best >= SENTENCE]
    graded.sort(key=lambda each: each[:3])
    return [entry for *_, entry in graded]


def _grade(entry: GoToEntry, query: str) -> tuple[int, int] | None:
    """How well an entry matches, the best the least; None where it does not.

    Exact is best, then a beginning (of shorter words first), then beginnings of words.
    """
    text = entry.words.casefold()
    if not query:
        return 0, 0
    later = entry.kind != "view"  # a view stands before a command of the same name
    if query == text or query in entry.aliases:
        return 0, later
    if text.startswith(query):
        return 1, 2 * len(text.partition(" ")[0]) + later
    wanted = query.split(" ")
    if any(alias.startswith(query) for alias in entry.aliases):
        return 2, 0
    words = text.replace("-", " ").split() + text.split()
    others = [each for each in wanted if not any(word.startswith(each) for word in words)]
    if not others:
        return 2, 0
    if any(len(each) < WITHIN for each in others):
        return None
    if all(each in text for each in others):
        return 3, 0
    sentence = entry.sentence.casefold()
    return (SENTENCE, 0) if all(each in text or each in sentence for each in others) else None


def spans(words: str, written: str) -> list[tuple[int, int]]:
    """Where the words of an entry match what is written, as start and end of each place."""
    query = " ".join(written.casefold().split())
    if query and words.casefold().startswith(query):
        return [(0, len(query))]
    return filter_language.spans(words, query.split())


def argument(written: str, *words: str) -> str | None:
    """What is written behind one of these words; None where another word is written.

    >>> argument("limit 5 MB/s", "limit"), argument("limit", "limit"), argument("limits 5", "limit")
    ('5 MB/s', None, None)
    """
    word, _, rest = written.strip().partition(" ")
    return rest.strip() if word.casefold() in words and rest.strip() else None


def valued(
    written: str,
    command: str,
    read: Callable[[str], T],
    act: Callable[[T], object],
    told: Callable[[T], str],
) -> tuple[GoToEntry, ...]:
    """The entry that sets a value, such as `limit 5MB/s`; none where another word is written.

    Args:
        written: The text of the go-to line.
        command: Full name of the command that asks for the value, by whose name it is written.
        read: Makes a value of a text; raises InvalidRequest.
        act: Sets the value.
        told: Says what that does.
    """
    word = command.rpartition(".")[2]
    text = argument(written, word)
    if text is None:
        return ()
    entry = GoToEntry(
        kind="verb", words=f"{word} {text}", sentence="", rank=Rank.EVERYWHERE, command=command
    )
    try:
        value = read(text)
    except InvalidRequest as error:
        return (replace(entry, sentence=str(error), problem=str(error)),)
    return (replace(entry, sentence=told(value), run=lambda: act(value)),)


@dataclass(slots=True)
class GoToCursor:
    """The entry under the cursor, and the part of the list that is shown. Pure."""

    at: int = 0
    first: int = 0

    def move(self, by: int, count: int, rows: int) -> None:
        """Move by some entries of `count`, of which `rows` are shown; an empty list stays."""
        self.at = max(0, min(self.at + by, count - 1)) if count else 0
        self.show(count, rows)

    def show(self, count: int, rows: int) -> None:
        """Keep the cursor within the lines that are shown."""
        rows = max(1, rows)
        self.first = min(max(self.first, self.at - rows + 1), self.at, max(0, count - rows))


def completion(entries: Sequence[GoToEntry], at: int, written: str) -> str:
    """The text after `tab`: the words of the entry under the cursor, ready for the next word."""
    if not entries:
        return written
    return entries[min(at, len(entries) - 1)].words
