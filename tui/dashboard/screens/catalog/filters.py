"""Tests of the catalog's filter, such as `params<8` and `tools`. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from modeldeck.core.schema import InstanceState, Model, SearchHit
from modeldeck.tui.dashboard.screens.catalog.columns import source, speed, unused_s
from modeldeck.tui.dashboard.screens.catalog.rows import RowContext
from modeldeck.tui.text import capabilities
from modeldeck.tui.text.capabilities import Abilities
from modeldeck.tui.text.filter_language import BINARY, DECIMAL, Language, Measure, sized

NEW = timedelta(days=7)
"""How long a model that was added counts as new."""


class FilteredRow(NamedTuple):
    """A row, and what is known of it besides."""

    row: Model | SearchHit
    now: RowContext


def _can(item: FilteredRow) -> Abilities:
    row = item.row
    return capabilities.of_model(row) if isinstance(row, Model) else capabilities.of_hit(row)


def _verdict(item: FilteredRow, verdict: str) -> bool:
    fit = item.now.fits.get(item.row.id) if isinstance(item.row, Model) else None
    return fit is not None and fit.verdict == verdict


def _fit_gib(item: FilteredRow) -> float | None:
    fit = item.now.fits.get(item.row.id) if isinstance(item.row, Model) else None
    return fit.forecast.total_bytes / (1 << 30) if fit and fit.forecast else None


def _speed(item: FilteredRow) -> float | None:
    return speed(item.row, item.now) if isinstance(item.row, Model) else None


def _unused_s(item: FilteredRow) -> float | None:
    return unused_s(item.row, item.now) if isinstance(item.row, Model) else None


def _loaded(item: FilteredRow) -> bool:
    instance = item.now.instances.get(item.row.id) if isinstance(item.row, Model) else None
    return instance is not None and instance.state.live


def _busy(item: FilteredRow) -> bool:
    if not isinstance(item.row, Model):
        return False
    instance = item.now.instances.get(item.row.id)
    answering = instance is not None and instance.state is InstanceState.BUSY
    return answering or item.now.moving(item.row)


def _downloaded(item: FilteredRow) -> bool:
    row = item.row
    return row.downloaded if isinstance(row, Model) else row.repo in item.now.here


def _new(item: FilteredRow) -> bool:
    """Whether it was added to the list in the last days."""
    if not isinstance(item.row, Model) or item.row.source in ("builtin", "catalog"):
        return False
    try:
        made = datetime.fromisoformat(item.row.created_at)
    except ValueError:
        return False
    return datetime.now(UTC) - made < NEW if made.tzinfo else False


def _text(item: FilteredRow) -> str:
    row = item.row
    if isinstance(row, SearchHit):  # the Hub has matched the words already
        return f"{row.repo} {' '.join(row.formats)}".casefold()
    return f"{row.unique} {row.name} {row.format} {' '.join(row.usage)}".casefold()


def _quantization(item: FilteredRow) -> str:
    row = item.row
    return (row.quantization or row.format) if isinstance(row, Model) else ""


def _runtime(item: FilteredRow) -> str:
    row = item.row
    return f"{row.engine or ''} {row.format}" if isinstance(row, Model) else " ".join(row.formats)


LANGUAGE: Language[FilteredRow] = Language(
    text=_text,
    measures={
        "params": Measure(
            lambda item: item.row.parameters, {"": 1, "b": 1, "m": 1e-3, "k": 1e-6, "t": 1e3}
        ),
        "size": Measure(
            lambda item: item.row.size_bytes if isinstance(item.row, Model) else None,
            sized(DECIMAL, "g"),
        ),
        "ctx": Measure(
            lambda item: item.row.context_length if isinstance(item.row, Model) else None, BINARY
        ),
        "tok/s": Measure(_speed),
        "used": Measure(_unused_s, {"": 86_400, "h": 3600, "d": 86_400, "w": 604_800}),
        "fit": Measure(_fit_gib, {"": 1, "g": 1, "gib": 1, "m": 1 / 1024}),
    },
    flags={
        "fits": lambda item: _verdict(item, "fits"),
        "tight": lambda item: _verdict(item, "tight"),
        "over": lambda item: _verdict(item, "too large"),
        "loaded": _loaded,
        "downloaded": _downloaded,
        "busy": _busy,
        "failed": lambda item: isinstance(item.row, Model) and item.now.failed(item.row),
        "gated": lambda item: item.row.gated,
        "custom": lambda item: isinstance(item.row, Model) and item.row.custom,
        "new": _new,
        "vision": lambda item: bool(_can(item).vision),
        "tools": lambda item: bool(_can(item).tools),
        "thinking": lambda item: bool(_can(item).thinking),
        "audio": lambda item: bool(_can(item).audio),
        "embedding": lambda item: _can(item).embedding,
        "rerank": lambda item: _can(item).rerank,
    },
    fields={
        "quant": _quantization,
        "runtime": _runtime,
        "from": lambda item: source(item.row) if isinstance(item.row, Model) else "hub",
        "license": lambda item: item.row.license or "",
    },
    offers=(
        *("params<", "size<", "ctx>", "fits", "vision", "tools", "thinking", "downloaded"),
        *("loaded", "tok/s>", "fit<", "quant:", "runtime:", "license:", "from:", "embedding"),
        *("rerank", "used<", "audio", "busy", "failed", "gated", "custom", "new", "tight", "over"),
    ),
)
