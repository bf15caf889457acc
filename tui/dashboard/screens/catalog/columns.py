"""Columns of the catalog: which there are, and the figure that each sorts by. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from modeldeck.core.schema import Fit, Instance, InstanceState, Model
from modeldeck.tui.dashboard.screens.catalog.rows import RowContext
from modeldeck.tui.dashboard.widgets import row_order
from modeldeck.tui.dashboard.widgets.column_choice import ColumnChoice
from modeldeck.tui.dashboard.widgets.columns import Column
from modeldeck.tui.dashboard.widgets.row_order import Known
from modeldeck.tui.text import ages, capabilities
from modeldeck.tui.text.format import Glyphs
from modeldeck.tui.text.model_names import plain_name

LEAST_NAME, MOST_NAME = 21, 40
"""Width in cells of the names: beyond the most, the pane gets the room."""

COLUMNS = (
    Column("sign", "", 1),
    Column("name", "model", LEAST_NAME, grow=True, most=MOST_NAME),
    Column("parameters", "params", 6, right=True, rank=2),
    Column("quantization", "quant", 7, rank=1),
    Column("fit", "fit GiB", 10),
    Column("can", "can", 4, rank=3),
    Column("state", "state", 11),
    Column("speed", "tok/s", 6, right=True, rank=4),
    Column("size", "size", 7, right=True, rank=5),
    Column("context", "ctx", 5, right=True, rank=6),
    Column("runtime", "runtime", 9, rank=7),
    Column("used", "used", 8, right=True, rank=8),
    Column("from", "from", 8, rank=9),
)
"""On a narrow terminal those of the highest rank are left out first."""

SORTABLE = tuple(column.key for column in COLUMNS if column.title)

FROM: Mapping[str, str] = {
    "builtin": "built in",
    "catalog": "catalog",
    "cache": "cache",
    "hub": "Hub",
}
"""Where an entry comes from, in the column's words."""


def source(model: Model) -> str:
    """Where the entry of a model comes from."""
    return "added" if model.custom else FROM.get(model.source, model.source)


def named(models: Iterable[Model]) -> tuple[Column, ...]:
    """The columns, with names as wide as the longest of these models at most."""
    longest = max((len(plain_name(model)) for model in models), default=0)
    most = max(LEAST_NAME, min(MOST_NAME, longest))
    return tuple(
        replace(column, most=most) if column.key == "name" else column for column in COLUMNS
    )


def order_words(choice: ColumnChoice, glyphs: Glyphs) -> str:
    """The order of the rows: the title of a column, and the sign of the direction."""
    return row_order.order_words(COLUMNS, choice, glyphs, f"yours first {glyphs.rising}")


def speed(model: Model, now: RowContext) -> float | None:
    """Tokens per second in the last benchmark, else in the last answer; None for neither."""
    if model.measured is not None and model.measured.tokens_per_s is not None:
        return model.measured.tokens_per_s
    return answer_speed(now.instances.get(model.id))


def answer_speed(instance: Instance | None) -> float | None:
    """Tokens per second of the last answer; None where there was none."""
    live = instance is not None and instance.state.live
    return instance.tokens_per_s if live and instance is not None else None


def speed_words(model: Model, now: RowContext) -> str:
    """The same in the words of the column: `~` before what no benchmark measured."""
    found = speed(model, now)
    if found is None:
        return ""
    measured = model.measured is not None and model.measured.tokens_per_s is not None
    return f"{'' if measured else '~'}{found:.{1 if found < 99.95 else 0}f}"


def unused_s(model: Model, now: RowContext) -> float | None:
    """Seconds since a model answered last; None where that is not known."""
    instance = now.instances.get(model.id)
    if instance is not None and instance.state in (InstanceState.READY, InstanceState.BUSY):
        return instance.idle_s or 0.0
    if model.last_used_at is None:
        return None
    moment = datetime.fromisoformat(model.last_used_at)
    return max(0.0, (datetime.now(UTC) - moment).total_seconds())


def used_words(model: Model, now: RowContext) -> str:
    """How long ago a model answered last; empty where that is not known."""
    seconds = unused_s(model, now)
    return "" if seconds is None else ages.span(seconds)


# The order of the rows


def _needs(fit: Fit | None) -> float | None:
    return fit.forecast.total_bytes if fit is not None and fit.forecast is not None else None


def _state(model: Model, now: RowContext) -> int:
    """Loaded first, then what moves, what is here, what failed, and the rest."""
    instance = now.instances.get(model.id)
    if instance is not None and instance.state in (InstanceState.READY, InstanceState.BUSY):
        return 0
    if now.failed(model):
        return 3
    return 1 if now.moving(model) else 2 if model.downloaded else 4


_VALUES: Mapping[str, Callable[[Model, RowContext], Known]] = {
    "name": lambda model, now: plain_name(model).casefold(),
    "parameters": lambda model, now: model.parameters,
    "quantization": lambda model, now: (model.quantization or model.format).casefold(),
    "fit": lambda model, now: _needs(now.fits.get(model.id)),
    # The letters before the dot, so that those that can do more come first.
    "can": lambda model, now: _able(model),
    "state": _state,
    "speed": lambda model, now: speed(model, now),
    "size": lambda model, now: model.size_bytes,
    "context": lambda model, now: model.context_length,
    "runtime": lambda model, now: model.engine,
    "used": unused_s,
    "from": lambda model, now: source(model).casefold(),
}


def _able(model: Model) -> int:
    """For sorting by what models can do: the more a model can, the smaller the number."""
    places = capabilities.of_model(model).places
    return -sum(8 >> at for at, has in enumerate(places) if has)


def ordered(
    models: Iterable[Model], choice: ColumnChoice, now: RowContext, first: frozenset[str]
) -> list[Model]:
    """Models sorted by the chosen column, those without a value last; equal ones by name.

    Without a column, the models of `first` stand at the top, then those of a catalog file
    (`hub.catalog`) in its own order.
    """
    listed = list(models)
    found = sorted(listed, key=lambda model: (model.name.casefold(), model.unique))
    if choice.sort not in _VALUES:
        of_file = (m for m in listed if m.source == "catalog" and m.id not in first)
        place = {model.id: at for at, model in enumerate(of_file)}
        return sorted(found, key=lambda m: (m.id not in first, place.get(m.id, len(place))))
    value = _VALUES[choice.sort]
    return row_order.ordered(found, choice, {choice.sort: lambda model: value(model, now)})
