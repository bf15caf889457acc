"""Plans of loads, and what earlier ones took, as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from modeldeck.tui.text import forecasts, sharing
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import TextColumn

if TYPE_CHECKING:
    from modeldeck.core.schema import Forecast, LoadPlan, LoadRecord


def plan(what: LoadPlan) -> list[str]:
    """What a load would do, and why."""
    length = fmt.tokens(what.options.context_length)
    lines = [f"{fmt.clean(what.unique)}: {what.verdict}, with {what.engine}, at {length} context"]
    if what.forecast is not None:
        lines.append(_fact("needs", forecasts.items(what.forecast)))
        if words := forecasts.on_gpu(what.forecast):
            lines.append(_fact("", words))
        lines.append(_fact("", forecasts.basis(what.forecast)))
        if words := sharing.prefix_cache(what.forecast):
            lines.append(_fact("", words))
    if words := _at_once(what):
        lines.append(_fact("at once", words))
    lines.append(_fact("free", _free(what)))
    lines += [_fact(*words) for words in _options(what)]
    if (own := what.replaces) is not None:
        cut = f", which ends {fmt.number(len(own.answers), 'answer')}" if own.answers else ""
        words = (
            f"unload {fmt.clean(own.unique)}, which is loaded: {_held(own.bytes, own.gpu_bytes)}"
        )
        lines.append(_fact("first", words + cut))
    lines += [
        _fact("first", f"unload {fmt.clean(gone.unique)}: {_held(gone.bytes, gone.gpu_bytes)}")
        for gone in what.evictions
    ]
    lines += [_fact("note", fmt.clean(note)) for note in what.notes]
    lines += [_fact("warning", fmt.clean(warning)) for warning in what.warnings]
    if what.refusal is not None:
        lines.append(_fact("refused", fmt.clean(what.refusal.message)))
        lines.append(_fact("", fmt.clean(what.refusal.remedy)))
    return lines


def _at_once(what: LoadPlan) -> str:
    """What requests at once share, and what it would take that they need not."""
    options = what.options
    words = sharing.shared(options.parallel, options.context_length, options.cache_tokens)
    own = sharing.own_cells(options.context_length, what.own_cells_bytes)
    return f"{words}; {own}" if words and own else words


def _fact(name: str, text: str) -> str:
    return f"  {name:<9}{text}"


def _held(count: int, gpu: int) -> str:
    there = f" and {fmt.memory(gpu)} of the GPU" if gpu else ""
    return f"{fmt.memory(count)}{there} come back"


def _free(what: LoadPlan) -> str:
    parts = [
        f"{fmt.memory(what.available_bytes)}, of which {fmt.memory(what.reserve_bytes)} stay with"
        " the system"
    ]
    if what.gpu_available_bytes is not None:
        parts.append(f"{fmt.memory(what.gpu_available_bytes)} on the GPU")
    if what.budget_left_bytes is not None:
        parts.append(f"the budget leaves {fmt.memory(what.budget_left_bytes)}")
    return "; ".join(parts)


def _options(what: LoadPlan) -> list[tuple[str, str]]:
    """Each option that was set, with its origin; only the first has a label."""
    said = [
        f"{name} {_value(value)} ({what.origins.get(name, 'default')})"
        for name, value in ((f.name, getattr(what.options, f.name)) for f in fields(what.options))
        if value is not None
    ]
    return [("" if i else "options", words) for i, words in enumerate(said)]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(f"{fmt.clean(lora.path)} x{lora.scale:g}" for lora in value)
    return f"{value:g}" if isinstance(value, float) else fmt.clean(str(value))


def history(records: Sequence[LoadRecord], width: int) -> list[str]:
    """A table of earlier loads: forecasts beside what was measured, and what had been learned."""
    heads = (
        TextColumn(title="ended"),
        TextColumn(title="model", shrink=True),
        TextColumn(title="ctx", right=True),
        TextColumn(title="forecast", right=True),
        TextColumn(title="peak", right=True),
        TextColumn(title="error", right=True),
        TextColumn(title="learned", right=True),
    )
    cells = [
        (
            record.at[5:16].replace("T", " "),
            record.unique,
            fmt.tokens(record.context_length),
            fmt.memory(record.forecast.total_bytes),
            fmt.memory(record.peak_bytes),
            fmt.error(record.forecast.machine_bytes, record.peak_bytes - record.prefix_cache_bytes),
            _learned(record.forecast),
        )
        for record in records
    ]
    return fmt.table(heads, cells, width)


def _learned(forecast: Forecast) -> str:
    """What earlier loads had corrected of a forecast."""
    if not forecast.samples:
        return fmt.UNKNOWN
    return f"{forecast.correction_bytes / (1 << 20):+.0f} MiB"
