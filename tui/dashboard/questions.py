"""Questions to the user: what is asked, and how its lines and keys fit a terminal. Pure.

`modeldeck.tui.dashboard.widgets.prompt` shows a question above the footer, one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.text import format as fmt

if TYPE_CHECKING:
    from modeldeck.core.schema.state import State

NOTHING_CHANGED = "Cancelled: nothing was changed."
"""Said where a question is cancelled by something other than its own keys."""

NOTES_FROM = 76
"""Width in cells from which a list has a column of notes."""
NOTE_AT = 57
"""Cell at which the notes begin."""
INDENT = 3
"""Cells before each line of a list."""
NARROW = 76
"""Width in cells below which the short form of a warning is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionKey:
    """One entry of a question's key line."""

    keys: str
    """As displayed, such as `n esc`."""
    label: str
    short: str = ""
    """Label on a narrow terminal; empty for the same one."""
    press: str = ""
    """Key that a click stands for, by Textual's name."""
    required: bool = False
    """Whether it is shown at every width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionItem:
    """One line of a question's list."""

    text: str
    name: str = ""
    """What the text is about, in a column of its own."""
    note: str = ""
    """Shown where there is room."""
    path: str = ""
    """Shown in place of name and note after `e`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionWarning:
    """A line that never scrolls away."""

    text: str
    short: str = ""
    """Text on a narrow terminal; empty for the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of any kind; answered by a string, or by None when it is cancelled."""

    title: str
    word: str = ""
    """Name of the question at the left of the key line, such as `Delete?`."""
    warnings: tuple[QuestionWarning, ...] = ()
    items: tuple[QuestionItem, ...] = ()
    more: str = ""
    """What the list leaves out, such as `and 4 small files, 25 kB`."""
    cancelled: str = NOTHING_CHANGED
    """Said where it is cancelled by a click elsewhere, or because its subject is gone."""
    subject: Callable[[State], bool] | None = None
    """Whether what it is about still exists; the question is cancelled once it does not."""
    from_core: bool = False
    """Whether the core causes it, not a key: it then waits for the one that is shown. Another
    question that comes while one is shown is answered with None."""
    is_in_view: Callable[[], bool] | None = None
    """Whether the user still sees what it is about; one that waited is dropped where not."""
    dropped: str = ""
    """Said when it is dropped."""

    @property
    def keys(self) -> tuple[QuestionKey, ...]:
        """Keys of this kind, the most important first."""
        return (ESCAPE,)

    @property
    def has_paths(self) -> bool:
        """Whether the list can show paths."""
        return any(item.path for item in self.items)


ESCAPE = QuestionKey(keys="esc", label="leave", press="escape", required=True)
HELP = QuestionKey(keys="?", label="help", press="question_mark")
SCROLL = QuestionKey(keys="j k", label="scroll", press="j")
PATHS = QuestionKey(keys="e", label="paths", press="e")


@dataclass(frozen=True, slots=True, kw_only=True)
class YesNoQuestion(Question):
    """Answered with `y`, or with None."""

    verb: str
    """What `y` does, such as `delete 7.5 GB`."""
    short_verb: str = ""
    """The same on a narrow terminal; empty for the first word of `verb`."""
    keep: str
    """What `n` does, such as `keep everything`; its first word on a narrow terminal."""

    @property
    def keys(self) -> tuple[QuestionKey, ...]:
        """Yes, no, and the keys of the list where there is one."""
        first = self.verb.split(" ")[0]
        return (
            QuestionKey(
                keys="y", label=self.verb, short=self.short_verb or first, press="y", required=True
            ),
            QuestionKey(
                keys="n esc",
                label=self.keep,
                short=self.keep.split(" ")[0],
                press="n",
                required=True,
            ),
            *((SCROLL,) if self.items else ()),
            *((PATHS,) if self.has_paths else ()),
            HELP,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceQuestion(Question):
    """Answered with the number of an item, from `1` on, as text."""

    @property
    def keys(self) -> tuple[QuestionKey, ...]:
        """Digits, `enter` for the item under the cursor, `esc`."""
        count = min(9, len(self.items))
        return (
            QuestionKey(keys="1" if count == 1 else f"1-{count}", label="choose", required=True),
            QuestionKey(keys="enter", label="this one", press="enter"),
            ESCAPE,
            QuestionKey(keys="j k", label="move", press="j"),
            HELP,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineQuestion(Question):
    """Answered with a line of text."""

    value: str = ""
    """Text to start with."""
    hint: str = ""
    """Shown under the line, as long as no error is."""
    error: str = ""
    """Error to start with, shown under the line."""
    verb: str = "set"
    """What `enter` does."""
    problem: Callable[[str], str] | None = None
    """Says what is wrong with a line, which then stays; empty for a good one."""

    @property
    def keys(self) -> tuple[QuestionKey, ...]:
        """`enter` and `esc`."""
        return (
            QuestionKey(keys="enter", label=self.verb, press="enter", required=True),
            ESCAPE,
        )


def word_of(question: Question) -> str:
    """Name of a question in the key line, made of its verb or title where it has none."""
    if question.word:
        return question.word
    if isinstance(question, YesNoQuestion):
        return f"{question.verb.split(' ')[0].capitalize()}?"
    return fmt.cut(question.title.rstrip("?:. "), 24)


def question_help(question: Question) -> tuple[str, str, tuple[Command, ...]]:
    """The keys of a question as a part of the help screen."""
    commands = tuple(
        Command(name=key.press or key.label, keys=key.keys, label=key.label, help=_sentence(key))
        for key in question.keys
        if key != HELP
    )
    return word_of(question), "question", commands


def _sentence(key: QuestionKey) -> str:
    return f"{_SENTENCES.get(key.keys, key.label).capitalize()}."


_SENTENCES = {
    "j k": "scroll the list; g and G go to its ends",
    "e": "show whole paths, or names again",
}


# Lines


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionLayout:
    """Which parts of a question have room."""

    rule: bool
    warnings: int
    """Number of warnings shown; where some are left out, the last line counts them."""
    rows: int
    """Lines of the list that are shown at once."""
    foot: bool
    """Whether the line below the list is shown."""


def layout(question: Question, height: int, extra: int = 0) -> QuestionLayout:
    """Divide the lines of a terminal of this height; a question takes at most half of them.

    Title and warnings come first, then the list. `extra` is the number of lines that the kind needs
    below the title, such as the input.
    """
    room = max(1, height // 2) - 1 - extra  # without the title
    warnings = min(len(question.warnings), max(1, room - 1)) if question.warnings else 0
    room -= warnings
    items = len(question.items)
    rule = room > min(items, 1)
    room -= rule
    foot = room > 1 and bool(question.more or items > room)
    rows = max(0, min(items, room - foot))
    return QuestionLayout(rule=rule, warnings=warnings, rows=rows, foot=foot)


def warning_lines(question: Question, count: int, width: int) -> list[str]:
    """The warnings, each with its sign; the last line counts those that have no room."""
    left = len(question.warnings) - count
    shown = question.warnings[: count - 1] if left > 0 else question.warnings[:count]
    texts = [w.short if w.short and width < NARROW else w.text for w in shown]
    if left > 0 and count > 0:
        texts.append(f"and {left + 1} more of these")
    return [fmt.squeeze(f" ! {fmt.clean(text)}", width) for text in texts]


def item_line(item: QuestionItem, width: int, *, paths: bool) -> str:
    """One line of the list, cut in the middle to this width."""
    line = " " * INDENT + fmt.clean(item.text)
    if paths and item.path:
        room = width - fmt.columns(line) - 2
        return f"{line}  {cut_left(fmt.clean(item.path), room)}"
    if not item.name:
        if fmt.columns(line) > width:  # columns inside the text give way before its words
            line = " " * INDENT + re.sub(" {3,}", "  ", line.strip())
        return fmt.squeeze(line, width)
    start = fmt.columns(line) + 2
    if width >= NOTES_FROM and item.note:
        name = fmt.pad(fmt.squeeze(fmt.clean(item.name), NOTE_AT - start - 1), NOTE_AT - start)
        note = fmt.squeeze(fmt.clean(item.note), width - NOTE_AT - 1)
        return f"{line}  {name}{note}".rstrip()
    return f"{line}  {fmt.squeeze(fmt.clean(item.name), max(1, width - start - 1))}"


def foot_line(question: Question, first: int, rows: int, width: int, *, paths: bool) -> str:
    """The line below the list: what it leaves out, which part is shown, and what `e` does."""
    words = []
    if question.items and (question.more or rows < len(question.items)):
        words.append(f"{first + 1}-{first + rows} of {len(question.items)}")
    if question.has_paths and width >= NOTES_FROM:
        words.append("e shows names" if paths else "e shows paths")
    right = "   ".join(words)
    left = " " * INDENT + fmt.clean(question.more)
    room = width - 1 - fmt.columns(right)
    return fmt.pad(fmt.squeeze(left, room - 2), room) + right if right else fmt.squeeze(left, width)


def cut_left(text: str, width: int) -> str:
    """The end of a text in at most `width` cells.

    >>> cut_left("/models/a.gguf", 8)
    '…/a.gguf'
    """
    if fmt.columns(text) <= width:
        return text
    while text and fmt.columns(text) > width - 1:
        text = text[1:]
    return f"…{text}" if width > 0 else ""


# Keys

GAP = 2
"""Gap between two keys in cells."""


def fitting_keys(keys: Sequence[QuestionKey], width: int) -> list[tuple[QuestionKey, str]]:
    """Keys with their labels, as many as fit; the required ones always, shortened if need be.

    Help is left out first; then labels are shortened; then keys are left out from the end.
    """
    without_help = [key for key in keys if key != HELP]
    for tried in (keys, without_help):
        full = [(key, key.label) for key in tried]
        if _width(full) <= width:
            return full
    short = [(key, key.short or key.label) for key in without_help]
    while _width(short) > width and any(not key.required for key, _ in short):
        last = max(i for i, (key, _) in enumerate(short) if not key.required)
        del short[last]
    return short


def _width(keys: Sequence[tuple[QuestionKey, str]]) -> int:
    cells = sum(fmt.columns(key.keys) + 1 + fmt.columns(label) for key, label in keys)
    return cells + GAP * max(0, len(keys) - 1)
