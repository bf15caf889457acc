"""Lines of the go-to line's list, each within the width of the terminal. Pure."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text

from modeldeck.tui.dashboard.go_to.entries import GoToEntry, spans
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

WIDE = 76
"""Width in cells from which on the kind is shown."""
KIND_AT, KIND = 3, 6
"""Cell at which the kind begins, and its width with the gap behind it."""
WORDS, WORDS_NARROW = 30, 22
"""Width in cells of the words with the gap behind them."""
LOW = 5
"""Height in lines up to which there is no room for a list."""
COUNT_BELOW = 100
"""Width in cells below which the count stands on the line that is written."""

_BOLD = Style(bold=True)
_MATCH = Style(underline=True)


def line(
    entry: GoToEntry,
    written: str,
    width: int,
    glyphs: Glyphs,
    inks: ThemeStyles,
    *,
    cursor: bool,
    dim: bool,
) -> Text:
    """One entry: the cursor's sign, its kind, words, sentence and key."""
    wide = width >= WIDE
    base = inks.muted if dim else _BOLD if cursor else Style()
    text = Text.assemble((f" {glyphs.cursor} ", inks.primary + _BOLD) if cursor else " " * KIND_AT)
    if wide:
        text.append(fmt.pad(entry.kind, KIND), inks.muted)
    room = (WORDS if wide else WORDS_NARROW) - 1
    words = Text(fmt.squeeze(fmt.clean(entry.words), room), base)
    for start, end in spans(words.plain, written):
        words.stylize(inks.accent + _MATCH, start, end)
    text.append_text(words).append(" " * (room + 1 - words.cell_len))
    style = inks.error if entry.problem else inks.muted if dim else Style()
    left = width - 1 - text.cell_len - (fmt.columns(entry.key) + 2 if entry.key else 0)
    text.append(fmt.cut(fmt.clean(entry.sentence), left), style)
    if entry.key:
        text.append(" " * (width - 1 - text.cell_len - fmt.columns(entry.key)))
        text.append(entry.key, inks.primary + _BOLD)
    text.truncate(width)
    return text


def room(height: int, width: int) -> int:
    """Entries that a terminal shows at once: with rule, count and text half of it at most."""
    return max(1, height // 2 - (3 if width >= COUNT_BELOW else 2))
