"""What the Fleet screen says above and below its table. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from modeldeck.core.errors import CoreUnreachable
from modeldeck.core.schema import Manifest
from modeldeck.tui.dashboard.screens.fleet.ranking import ServingAnswer, ServingWay, WantedModel
from modeldeck.tui.dashboard.screens.fleet.rows import MachineRow, known_error
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import wrapped
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records

WIDE = 110
"""Width in cells from which the line above the table is said in full."""
NARROW = 76
ALL_TROUBLE = 16
"""Height in lines of the view from which the trouble of all machines is shown, not only that of the
one under the cursor."""
WITH_HINT = 30
"""Height in lines of the view from which the configuration is explained."""
MOST_TROUBLE = 3
"""Machines whose trouble is shown at a time."""

HINT = "In config.toml: [hosts] names machines, prefer = 1 puts one first."


@dataclass(frozen=True, slots=True)
class FleetKeys:
    """Keys of the Fleet, as the person has them."""

    ask: str
    again: str


def heading(
    machines: int,
    asked: WantedModel | None,
    context_length: int | None,
    took_s: float | None,
    width: int,
    key: str,
    inks: ThemeStyles,
) -> Text:
    """The line above the table.

    Args:
        machines: How many there are.
        asked: The model that they were asked about; None for none.
        context_length: The context length that they would take, in tokens; None for several.
        took_s: Seconds that the slowest answer took; None before the first.
        width: Cells that there are.
        key: The key that asks.
        inks: Styles of the theme.
    """
    line = Text(fmt.number(machines, "machine"))
    if asked is None:
        return line.append(f"   {key} asks which would serve a model", inks.muted)
    others = 28 if width < NARROW else 46 if width < WIDE else 66
    name = fmt.squeeze(fmt.clean(asked.name), max(8, width - others))
    if width < NARROW:
        return line.append(f"   serving {name}? [{key}]")
    length = f" at {fmt.tokens(context_length)}" if context_length is not None else ""
    line.append(f"   which would serve {name}{length}? ")
    line.append(f"[{key} asks about another]" if width >= WIDE else f"[{key}]", inks.muted)
    if width >= WIDE and took_s is not None:
        words = f"answers in {fmt.duration(took_s)}"
        space = width - line.cell_len - len(words)
        if space > 1:
            line.append(" " * space).append(words, inks.muted)
    return line


def foot(
    rows: Sequence[MachineRow],
    cursor: int | None,
    size: tuple[int, int],
    keys: FleetKeys,
    inks: ThemeStyles,
) -> list[Text]:
    """The lines below the table.

    Args:
        rows: All machines.
        cursor: Index of the machine under the cursor; None for none.
        size: Width and height of the view in cells.
        keys: Keys to name.
        inks: Styles of the theme.
    """
    width, height = size
    under = [(row, _about(row, keys, inks)) for row in rows if row.at == cursor]
    others = [(row, _trouble(row, keys, inks)) for row in rows if row.at != cursor]
    blocks = [*under, *(others if height >= ALL_TROUBLE else ())]
    lines: list[Text] = []
    for row, block in [(row, block) for row, block in blocks if block][:MOST_TROUBLE]:
        lines += [Text()] if lines else []
        name = f"{fmt.clean(row.name)}  "
        indent = fmt.columns(name)
        for number, text in enumerate(block):
            start = " " * indent if number else name
            lines += wrapped(Text(start).append_text(text), max(10, width), indent)
    if height >= WITH_HINT:
        lines += [*([Text()] if lines else []), Text(HINT, inks.muted)]
    return lines


def _about(row: MachineRow, keys: FleetKeys, inks: ThemeStyles) -> list[Text]:
    """What there is to say of the machine under the cursor."""
    if known_error(row) is not None:
        return _trouble(row, keys, inks)
    if row.copy is not None:
        words, _ = records.download_words(row.copy.job)
        return [Text(fmt.clean(f"copying from {row.copy.source}: {words}"))]
    if row.asked and row.answer is not None:
        words = serving_details(row.answer)
        return [Text(fmt.clean(words), inks.muted)] if words else []
    return []


def serving_details(answer: ServingAnswer) -> str:
    """What a machine does first to serve a model, or why it would not; empty for nothing.

    >>> serving_details(ServingAnswer(way=None, word="too large", reason="Too large. Take less."))
    'Too large. Take less.'
    """
    said = []
    if answer.way is ServingWay.DOWNLOADS:
        size = answer.download_bytes
        said.append(f"It downloads {fmt.size(size) if size is not None else 'the model'} first.")
    if answer.unloads:
        said.append(f"It unloads {', '.join(answer.unloads)} first.")
    return " ".join([*said, answer.reason]).strip()


def _trouble(row: MachineRow, keys: FleetKeys, inks: ThemeStyles) -> list[Text]:
    """Why a machine is not reached, and what to do about it; nothing where it is."""
    error = known_error(row)
    if error is None:
        return []
    message = error.message.removeprefix(f"{row.name} ").removeprefix("cannot be reached: ")
    lines = [Text(fmt.clean(message), inks.error)]
    lines += [Text(fmt.clean(detail), inks.muted) for detail in error.details]
    seen = ""
    if row.seen_at is not None:
        seen = f" Its last state was seen at {fmt.time_of_day(row.seen_at)}."
    return [*lines, Text(f"{_remedy(row, keys)}{seen}")]


def _remedy(row: MachineRow, keys: FleetKeys) -> str:
    error = known_error(row)
    if row.needs_password:
        return f"{keys.again} lets ssh ask. A key that ssh's agent holds needs no question."
    remedy = fmt.clean(error.remedy) if error is not None else ""
    if not remedy and isinstance(error, CoreUnreachable):
        remedy = "Check that it is on."
    return f"{remedy} {keys.again} tries again.".strip()


def plan(manifest: Manifest, source: str, row: MachineRow) -> list[str]:
    """Plan of copying a model to a machine."""
    total = sum(file.size_bytes or 0 for file in manifest.files)
    size = fmt.size(total)
    said = [
        f"Copy {manifest.model.unique} from {source} to {row.name}: {size} through this machine."
    ]
    free = row.state.disk.free_bytes if row.state is not None else None
    if free is not None:
        said.append(f"{row.name} has {fmt.size(free)} of disk free.")
    if row.answer is not None and row.answer.word == "too large":
        said.append("It is too large for the memory that is free there now.")
    return said
