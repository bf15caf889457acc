"""Numbers and outside text as a person reads them: the one place where units are converted.

Sizes on disk and rates are decimal (`5.0 GB`), as shops and the Hub count them; memory is binary
(`6.9 GiB`), as operating systems count it. What is not known is `—`, never 0. Text that came from
outside goes through `clean` before it is drawn.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from modeldeck.core.remote.printable import JOINERS
from modeldeck.core.remote.printable import clean as clean

UNKNOWN = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """The signs that are drawn; each has a form in ASCII."""

    done: str = "✓"
    failed: str = "✗"
    warning: str = "!"
    loaded: str = "●"
    busy: str = "◐"
    down: str = "↓"
    paused: str = "‖"
    full: str = "▇"
    empty: str = "▁"
    rule: str = "─"
    dot: str = "·"
    cursor: str = "▸"
    less: str = "◂"
    """Left of a value that arrows change; `cursor` is at its right."""
    slider: str = "├─┤●"
    """A slider: its left end, its line, its right end, and where the value is."""
    below: str = "▼"
    """More lines are below."""
    private: str = "○"
    mark: str = "◆"
    liked: str = "♥"
    left: str = "←"
    right: str = "→"
    rising: str = "▲"
    falling: str = "▼"
    """After the title of the column that rows are sorted by."""
    newer: str = "↑"
    unknown: str = UNKNOWN
    branch: str = "└"
    levels: str = "▁▂▃▄▅▆▇█"
    """Heights of a sparkline, the lowest first."""
    parts: str = "█▓▒░"
    """Parts of a gauge: weights, KV cache, the rest of a model, other programs."""
    bound: str = "│"
    """Where a model ends in a gauge."""
    free: str = "▁"
    """Free memory in a gauge."""
    reserve: str = "┊"
    """What is behind it is free, and not for models."""
    planned: str = "╌"
    """Memory that a load will take."""
    axis: str = "│┤┼"
    """The axis of a chart: between ticks, at a tick, at zero."""
    degrees: str = "°C"


UNICODE = Glyphs()

ASCII = Glyphs(
    done="+",
    failed="x",
    loaded="*",
    busy="o",
    down="v",
    paused="=",
    full="#",
    empty=".",
    rule="-",
    dot="-",
    cursor=">",
    less="<",
    slider="|-|o",
    below="v",
    private="o",
    mark="#",
    liked="likes",
    left="<-",
    right="->",
    rising="^",
    falling="v",
    newer="^",
    unknown="-",
    branch="`",
    levels="_.,-=+*#",
    parts="#=+:",
    bound="|",
    free=".",
    reserve="!",
    planned="-",
    axis="|++",
    degrees="C",
)

CONSOLE = Glyphs(
    done="■",
    busy="»",
    paused="║",
    full="█",
    empty="░",
    slider="│─│●",
    private="•",
    mark="♦",
    liked="likes",
    levels=" ░▒█",
    parts="█▒░:",
    free="·",
    planned="-",
    degrees="C",
)
"""Signs that are in the fonts of the Linux console: Lat15, Lat2 and Uni1 to Uni3, as Fixed,
Terminus and VGA."""


def glyphs(encoding: str | None, environ: Mapping[str, str] = os.environ) -> Glyphs:
    """The signs that this output can show: ASCII where stream and locale are not UTF-8.

    On the Linux console they are those of its fonts.
    """
    locale = next((v for n in ("LC_ALL", "LC_CTYPE", "LANG") if (v := environ.get(n))), "")
    plain = locale.split(".")[0] in ("C", "POSIX") and "utf" not in locale.lower()
    utf8 = (encoding or "").lower().replace("-", "") == "utf8"
    if not utf8 or plain:
        return ASCII
    term = environ.get("TERM", "")
    return CONSOLE if term == "linux" or term.startswith("linux-") else UNICODE


SIGNS: Mapping[str, Glyphs] = {"unicode": UNICODE, "console": CONSOLE, "ascii": ASCII}
"""By the word of the configuration (`tui.glyphs`)."""


def columns(text: str) -> int:
    """Cells that a terminal needs: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(char: str) -> int:
    if unicodedata.combining(char) or char in JOINERS or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells, with `…` where something is left out."""
    if columns(text) <= width:
        return text
    out, room = "", width - 1
    for char in text:
        if (room := room - _cells(char)) < 0:
            break
        out += char
    return out + "…" if width > 0 else ""


def squeeze(text: str, width: int) -> str:
    """As `cut`, but what is left out is in the middle: the end of a model's name tells most."""
    if columns(text) <= width:
        return text
    tail = ""
    for char in reversed(text):
        if columns(tail) + _cells(char) > (width - 1) // 2:
            break
        tail = char + tail
    return cut(text, width - columns(tail)) + tail if width > 0 else ""


def key_words(keys: str, signs: Glyphs) -> str:
    """The names of keys, with the arrows as words where they would look like other keys.

    >>> key_words("← →", ASCII), key_words("↑ ↓", CONSOLE)
    ('left right', '↑ ↓')
    """
    if not signs.left.isascii():
        return keys
    for sign, word in (("←", "left"), ("→", "right"), ("↑", "up"), ("↓", "down")):
        keys = keys.replace(sign, word)
    return keys


def pad(text: str, width: int, *, right: bool = False) -> str:
    """The text in exactly `width` cells, at the left or at the right of them."""
    text = cut(text, width)
    space = " " * (width - columns(text))
    return space + text if right else text + space


# Numbers

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


def _scaled(value: float, base: int, units: Sequence[str]) -> str:
    """Three figures or so: `639 MB`, `5.0 GB`."""
    step = 0
    while step < len(units) - 1 and abs(value) >= base * 0.9995:
        value /= base
        step += 1
    digits = 0 if step == 0 or abs(value) >= 99.95 else 1
    return f"{value:.{digits}f} {units[step]}"


def size(count: float | None) -> str:
    """Bytes on a disk or a line, decimal."""
    if count is None:
        return UNKNOWN
    return _scaled(count, 1000, _DECIMAL)


def memory(count: float | None) -> str:
    """Bytes of memory, binary."""
    if count is None:
        return UNKNOWN
    return _scaled(count, 1024, _BINARY)


def _share(part: float, whole: float, base: int, units: Sequence[str]) -> str:
    """A part of a whole in the unit of the whole, padded to the width of the whole."""
    number, unit = _scaled(whole, base, units).split(" ")
    digits = 1 if "." in number else 0
    value = part / base ** units.index(unit)
    return f"{value:{len(number)}.{digits}f} of {number} {unit}"


def size_of(part: float, whole: float) -> str:
    """Bytes of a file that are here: `2.7 of 7.3 GB`, ` 0.2 of 42.5 GB`."""
    return _share(part, whole, 1000, _DECIMAL)


def memory_of(part: float | None, whole: float | None) -> str:
    """Memory that is taken: `18.2 of 64.0 GiB`."""
    if part is None or whole is None:
        return UNKNOWN
    return _share(part, whole, 1024, _BINARY)


def memory_part(part: float, whole: float) -> str:
    """Memory that is taken, at one width for each whole: ` 0.9/23.5 GiB`."""
    total, unit = memory(whole).split(" ")
    value, most = (count / 1024 ** _BINARY.index(unit) for count in (part, whole))
    used = f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
    return f"{used:>{max(len(total), 4 if most >= 10 else 3)}}/{total} {unit}"


def gib(count: float) -> str:
    """Memory in a column headed GiB: `6.9`; below 0.05 GiB `<0.1`, never 0."""
    value = count / 1024**3
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 0.05 else "<0.1"


def memory_items(parts: Sequence[int], total: int) -> tuple[str, ...]:
    """Each part of a total in the unit of the total, without naming it: `4.7`, `1.1`."""
    unit = memory(total).split(" ")[1]
    return tuple(f"{part / 1024 ** _BINARY.index(unit):.1f}" for part in parts)


def memory_sum(parts: Sequence[tuple[str, int]], total: int) -> str:
    """A sum of memory in one unit: `weights 4.7 + KV 1.1 = 5.8 GiB`."""
    *values, whole = memory_items([*(value for _, value in parts), total], total)
    items = " + ".join(f"{name} {value}" for (name, _), value in zip(parts, values, strict=True))
    return f"{items} = {whole} {memory(total).split(' ')[1]}"


def rate(bytes_per_s: float | None) -> str:
    """A transfer rate."""
    return UNKNOWN if bytes_per_s is None else f"{size(bytes_per_s)}/s"


def duration(seconds: float | None) -> str:
    """A time span in two units at most: `12 ms`, `0.42 s`, `58 s`, `1m52s`, `2h05m`, `3d04h`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def span(seconds: float | None) -> str:
    """As `duration`, no finer than a second: for figures that change while one looks."""
    if seconds is None:
        return UNKNOWN
    return f"{round(seconds)} s" if seconds < 59.5 else duration(round(seconds))


def clock(at: str) -> str:
    """The time of day here of a moment in ISO 8601: `14:02`."""
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%H:%M")
    except ValueError:
        return UNKNOWN


def time_of_day(moment: float) -> str:
    """The time of day here of a moment in seconds since the epoch: `14:02`."""
    return datetime.fromtimestamp(moment).strftime("%H:%M")


def day(at: str) -> str:
    """The day of a moment (ISO 8601) on the clock of this machine, such as `14 Nov`."""
    try:
        moment = datetime.fromisoformat(at).astimezone()
    except ValueError:
        return clean(at)
    return f"{moment.day} {moment:%b}"


def percent(fraction: float | None) -> str:
    """A fraction, rounded down so that 100 % means all."""
    return UNKNOWN if fraction is None else f"{int(fraction * 100 + 1e-9)} %"


def error(forecast: float | None, measured: float | None) -> str:
    """Error of a forecast, relative to the measured value: `+1.4 %` when it was too high."""
    if not forecast or not measured:
        return UNKNOWN
    off = (forecast - measured) / measured * 100
    return f"{off:+.{1 if abs(off) < 99.95 else 0}f} %"


def count(number: float | None) -> str:
    """A large count, such as downloads: `1.2M`."""
    if number is None:
        return UNKNOWN
    return _scaled(number, 1000, ("", "k", "M", "G")).replace(" ", "")


def tokens(number: int | None) -> str:
    """A context length: `40k` for 40960, `1M` for 1048576; rounded where it is not even."""
    if number is None:
        return UNKNOWN
    for factor, unit in ((1 << 20, "M"), (1 << 10, "k")):
        if number >= factor and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number) if number < 10_000 else f"{number / 1000:.0f}k"


def parameters(billions: float | None) -> str:
    """A number of parameters, given in billions: `8.2B`, `270M`."""
    if billions is None:
        return UNKNOWN
    return f"{billions:.1f}B" if billions >= 0.95 else f"{billions * 1000:.0f}M"


def number(value: int, one: str, many: str | None = None) -> str:
    """A count with its noun: `1 model`, `2 models`."""
    return f"{value} {one if value == 1 else many or one + 's'}"


# Shapes


def bar(fraction: float | None, width: int, signs: Glyphs = UNICODE) -> str:
    """A bar of `width` cells; more than 0 fills one at least."""
    full = 0 if fraction is None else round(max(0.0, min(1.0, fraction)) * width)
    full = max(full, 1 if fraction and fraction > 0 else 0)
    return signs.full * full + signs.empty * (width - full)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumn:
    """One column of a table."""

    title: str
    right: bool = False
    """Whether its cells stand at the right, as numbers do."""
    shrink: bool = False
    """Whether it is narrowed where the table is wider than the terminal."""


def table(heads: Sequence[TextColumn], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Aligned lines, the titles first, within `width` cells as far as a column may shrink."""
    cells = [[head.title for head in heads], *(list(map(clean, row)) for row in rows)]
    widths = [max(columns(row[i]) for row in cells) for i in range(len(heads))]
    over = sum(widths) + 2 * (len(widths) - 1) - width
    for i, head in enumerate(heads):
        if head.shrink and over > 0:
            less = min(over, max(0, widths[i] - max(12, columns(head.title))))
            widths[i] -= less
            over -= less
    return [
        "  ".join(
            pad(squeeze(cell, widths[i]), widths[i], right=heads[i].right)
            for i, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]
