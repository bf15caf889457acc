"""The table of instances. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.style import Style
from rich.text import Text

from modeldeck.core.schema import Instance, InstanceState, LoadRecord, Memory, Model
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import KeyOf, by_catalog
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import bar
from modeldeck.tui.dashboard.widgets.columns import arrange
from modeldeck.tui.dashboard.widgets.row_order import Values
from modeldeck.tui.dashboard.widgets.table import Cell, Column, TableLine
from modeldeck.tui.dashboard.widgets.table_columns import GUTTER
from modeldeck.tui.text import forecasts
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.filter_language import BINARY, Language, Measure
from modeldeck.tui.text.format import Glyphs
from modeldeck.tui.text.model_names import name_of_unique, title

BAR = 6
"""Width in cells of the progress bar of a load."""
NAME = 34
"""Most cells of a model's name."""
SCROLLBAR = 1
GIB: Mapping[str, float] = {"": 1 << 30, "g": 1 << 30, "gib": 1 << 30, "m": 1 << 20, "mib": 1 << 20}
"""Units of memory in a filter: a number alone is in GiB."""
ERROR = 6
"""Cells of the error of a forecast."""

COLUMNS = (
    Column("sign", "", 1),
    Column("number", "", 1),
    Column("instance", "model", 16, grow=True),
    Column("engine", "runtime", 9, rank=7),
    Column("context", "ctx", 4, right=True, rank=5),
    Column("parallel", "at once", 7, right=True, rank=8),
    Column("weights", "weights", 7, right=True, rank=8),
    Column("kv", "KV", 4, right=True, rank=9),
    Column("other", "other", 5, right=True, rank=10),
    Column("forecast", "forecast", 8, right=True, rank=6),
    Column("measured", "measured", 8, right=True),
    Column("error", "error", ERROR, right=True, rank=7),
    Column("state", "state", 12),
    Column("speed", "tok/s", 5, right=True, rank=1),
)

STATES = (
    InstanceState.BUSY,
    InstanceState.READY,
    InstanceState.STARTING,
    InstanceState.STOPPING,
    InstanceState.FAILED,
)
"""The order of states: what works first."""


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """An instance, with the name of its model as the table shows it."""

    instance: Instance
    name: str


def _planned(instance: Instance) -> int | None:
    """The forecast, in bytes."""
    return None if instance.forecast is None else instance.forecast.total_bytes


def _other(instance: Instance) -> int | None:
    """Of the forecast, what is neither weights nor KV cache, in bytes."""
    forecast = instance.forecast
    if forecast is None:
        return None
    return max(0, forecast.total_bytes - forecast.weights_bytes - forecast.kv_bytes)


def _error(instance: Instance) -> float | None:
    """The error that is shown, as a share of what was measured; None where none is shown."""
    forecast, peak = instance.forecast, instance.peak_bytes
    if forecast is None or not peak or forecasts.error(instance) == fmt.UNKNOWN:
        return None
    held = peak - (instance.prefix_cache_bytes or 0)
    return ((forecast.machine_bytes or 0) - held) / held if held else None


def _state_place(instance: Instance) -> int:
    state = instance.state
    return STATES.index(state) if state in STATES else len(STATES)


VALUES: Values[MemoryRow] = {
    "instance": lambda row: row.name,
    "engine": lambda row: row.instance.engine,
    "context": lambda row: row.instance.context_length,
    "parallel": lambda row: row.instance.parallel,
    "weights": lambda row: f.weights_bytes if (f := row.instance.forecast) else None,
    "kv": lambda row: f.kv_bytes if (f := row.instance.forecast) else None,
    "other": lambda row: _other(row.instance),
    "forecast": lambda row: _planned(row.instance),
    "measured": lambda row: measured(row.instance),
    "error": lambda row: _error(row.instance),
    "state": lambda row: _state_place(row.instance),
    "speed": lambda row: row.instance.tokens_per_s,
}
"""What a column sorts by."""
SORTABLE = tuple(VALUES)

LANGUAGE: Language[MemoryRow] = Language(
    text=lambda row: f"{row.name} {row.instance.unique} {row.instance.state}".casefold(),
    measures={
        "memory": Measure(lambda row: measured(row.instance), GIB),
        "forecast": Measure(lambda row: _planned(row.instance), GIB),
        "ctx": Measure(lambda row: row.instance.context_length, BINARY),
        "tok/s": Measure(lambda row: row.instance.tokens_per_s),
        "idle": Measure(lambda row: row.instance.idle_s, {"": 60, "s": 1, "m": 60, "h": 3600}),
    },
    flags={
        "idle": lambda row: row.instance.state is InstanceState.READY,
        "answering": lambda row: row.instance.state is InstanceState.BUSY,
        "loading": lambda row: row.instance.state is InstanceState.STARTING,
        "failed": lambda row: row.instance.state is InstanceState.FAILED,
        "pinned": lambda row: bool(row.instance.options.pinned),
    },
    fields={"runtime": lambda row: row.instance.engine},
    offers=(
        *("idle", "answering", "loading", "failed", "pinned", "memory>", "idle>", "tok/s<"),
        *("ctx>", "forecast>", "runtime:"),
    ),
)
"""The filter: `idle memory>8`, and words."""


def used(memory: Memory) -> int | None:
    """Memory in use by models and other programs, in bytes; None where unknown."""
    if memory.total_bytes is None or memory.available_bytes is None:
        return None
    return memory.total_bytes - memory.available_bytes


def cells_of_columns(width: int, names: Sequence[str], count: int) -> int:
    """Cells of the columns on a line of `width` cells: no more than the longest name wants.

    >>> cells_of_columns(200, ["Qwen3 8B"], 1), cells_of_columns(60, ["Qwen3 8B"], 1)
    (117, 57)
    """
    width -= GUTTER + SCROLLBAR
    slots = arrange(columns(count), width)
    name = next((slot for slot in slots if slot.column.key == "instance"), None)
    if name is None:
        return width
    wanted = max(name.column.width, min(NAME, max(map(fmt.columns, names), default=0)))
    return width - max(0, name.width - wanted)


def columns(count: int) -> Sequence[Column]:
    """The columns for `count` instances: numbers have as many cells as the largest."""
    cells = len(str(count))
    wide = Column("number", "", cells, right=True)
    return [wide if column.key == "number" else column for column in COLUMNS]


def name_of(instance: Instance, models: Mapping[str, Model]) -> str:
    """The name of the model of an instance, as the table shows it."""
    return title(instance.model_id, instance.unique, models)


def listed(state: State) -> list[MemoryRow]:
    """All instances, with their names."""
    models = state.models
    return [MemoryRow(each, name_of(each, models)) for each in state.instances.values()]


def line(
    instance: Instance,
    number: int,
    unit: str,
    models: Mapping[str, Model],
    glyphs: Glyphs,
    inks: ThemeStyles,
) -> TableLine:
    """One line of the table; its memory is in `unit`."""
    forecast = instance.forecast
    error = forecasts.error(instance)
    sign, style = _sign(instance, glyphs, inks)
    cells: dict[str, Cell] = {
        "sign": Text(sign, style),
        "number": Text(str(number or ""), inks.muted),
        "instance": name_of(instance, models),
        "engine": instance.engine,
        "context": fmt.tokens(instance.context_length),
        "parallel": str(instance.parallel),
        "forecast": _memory(forecast.total_bytes if forecast else None, unit),
        "measured": _memory(measured(instance), unit),
        "error": error if len(error) <= ERROR else f"{error.split('.')[0]} %",
        "state": _state(instance, glyphs, inks),
        "speed": _speed(instance.tokens_per_s),
    }
    if forecast is not None:
        other = forecast.total_bytes - forecast.weights_bytes - forecast.kv_bytes
        cells["weights"] = _number(forecast.weights_bytes, unit)
        cells["kv"] = _number(forecast.kv_bytes, unit)
        cells["other"] = _number(max(0, other), unit)
    return TableLine(instance.id, cells, dim=instance.state is InstanceState.STOPPING)


def measured(instance: Instance) -> int | None:
    """What an instance holds, in the machine's memory and on GPUs with their own."""
    if instance.measured_bytes is None:
        return None
    return instance.measured_bytes + (instance.gpu_bytes or 0)


def unit_of(instances: Sequence[Instance]) -> str:
    """The unit of all figures of memory in the table: by the largest."""
    sizes = [measured(instance) or 0 for instance in instances]
    sizes += [i.forecast.total_bytes for i in instances if i.forecast is not None]
    return "GiB" if max(sizes, default=0) >= 1 << 30 else "MiB"


def _number(count: int, unit: str) -> str:
    """Memory in a unit that is told elsewhere; what there is is never 0."""
    value = count / (1 << (30 if unit == "GiB" else 20))
    if value < 0.05:
        return "<0.1" if count else "0.0"
    return f"{value:.{0 if value >= 99.95 else 1}f}"


def _memory(count: int | None, unit: str) -> str:
    return fmt.UNKNOWN if count is None else f"{_number(count, unit)} {unit}"


def _sign(instance: Instance, glyphs: Glyphs, inks: ThemeStyles) -> tuple[str, Style]:
    match instance.state:
        case InstanceState.READY | InstanceState.BUSY:
            return glyphs.loaded, inks.success
        case InstanceState.STARTING:
            return glyphs.busy, inks.primary
        case InstanceState.FAILED:
            return glyphs.failed, inks.error
        case _:
            return glyphs.dot, inks.muted


def _state(instance: Instance, glyphs: Glyphs, inks: ThemeStyles) -> Cell:
    match instance.state:
        case InstanceState.STARTING if instance.progress is not None:
            shape = bar(instance.progress, BAR, glyphs, inks)
            return shape.append(f"  {fmt.percent(instance.progress):>4}")
        case InstanceState.STARTING:
            return Text(fmt.clean(instance.stage or "loading"), inks.primary)
        case InstanceState.BUSY:
            waiting = instance.requests - instance.running
            more = f"+{waiting}" if waiting > 0 else ""
            count = f"{max(1, instance.running)}{more}"
            words = (f"answering {count}", f"answers {count}", count)
            return tuple(Text(said, inks.primary) for said in words)
        case InstanceState.READY:
            word = "pinned" if instance.options.pinned else "idle"
            return Text(word if instance.idle_s is None else f"{word} {fmt.span(instance.idle_s)}")
        case InstanceState.STOPPING:
            return Text("unloading", inks.muted)
        case _:
            return Text(str(instance.state), inks.error)


def _speed(tokens_per_s: float | None) -> str:
    if tokens_per_s is None:
        return fmt.UNKNOWN
    return f"{tokens_per_s:.{0 if tokens_per_s >= 99.95 else 1}f}"


EARLIER = 5
"""Loads that are named in an empty table."""


def empty(
    loads: Sequence[LoadRecord], models: Mapping[str, Model], now: datetime, key_of: KeyOf
) -> str:
    """What stands in an empty table: what to press, and the last loads of today.

    `loads` are all that are known, the newest first.
    """
    said = f"No model is loaded. {by_catalog(key_of, 'load', 'one')}"
    today = now.astimezone().date()
    own = [r for r in loads if datetime.fromisoformat(r.at).astimezone().date() == today]
    if not own:
        return said
    lines = [
        f"{fmt.clock(record.at)}  {name_of_unique(record.unique, models)}  "
        f"{fmt.tokens(record.context_length)} context, "
        f"took {fmt.memory(record.peak_bytes)}"
        for record in own[:EARLIER]
    ]
    return "\n".join((said, "", "Earlier today", *lines))
