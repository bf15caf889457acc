"""The gauges of Memory: each loaded model is a part of the line, beside other programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.style import Style
from rich.text import Text

from modeldeck.core.schema import DeviceBytes, Forecast, Gpu, Instance
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.memory import gpu_words
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import STRONG
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs
from modeldeck.tui.text.model_names import short_title

MOST_PARTS = 6
"""Models that have a part of their own; with more, the smallest share one."""
MOST_GPUS = 8
LITTLE = 0.9
"""Share of a device from which on the figure beside it is drawn as a warning."""
NAMED_FROM = 8
"""Cells of a part from which on its label has the model's name beside the number."""
WIDE = 100
"""Width in cells from which on there is a legend, and a number beside each GPU."""
SHORT = 70
"""Width in cells below which figures are written short."""
MARGIN = 2
"""Cells left of a gauge's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPart:
    """What one model takes of a device, in bytes."""

    number: str
    """Its number in the table; `…` for several."""
    name: str
    weights: int = 0
    kv: int = 0
    other: int = 0
    planned: int = 0
    """What its load will take besides."""

    @property
    def held(self) -> int:
        """What it holds now."""
        return self.weights + self.kv + self.other


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """Who uses the memory of one device, in bytes."""

    name: str
    """`RAM`, `GPU 0`."""
    total: int
    others: int
    """In use by other programs."""
    parts: tuple[ModelPart, ...] = ()
    kept: int = 0
    """What is free and not for models: the reserve, or what is above the budget that was set."""
    budget_set: bool = False
    """Whether a person's budget is what limits the models."""
    gpu: Gpu | None = None
    """None for the machine's memory."""

    @property
    def used(self) -> int:
        """In use by all programs."""
        return min(self.total, self.others + sum(part.held for part in self.parts))

    @property
    def free(self) -> int:
        """Not in use."""
        return self.total - self.used


# Who uses what


def devices(state: State) -> list[DeviceUse]:
    """The machine's memory, where it is known, and that of each GPU."""
    ram = _ram(state)
    gpus = [_gpu(gpu, state) for gpu in state.memory.gpus if gpu.total_bytes]
    return [*([ram] if ram is not None else []), *gpus]


def _ram(state: State) -> DeviceUse | None:
    memory = state.memory
    if memory.total_bytes is None or memory.available_bytes is None:
        return None
    live = [instance for instance in state.instances.values() if instance.state.live]
    held = sum(max(0, (i.measured_bytes or 0) - (i.mapped_bytes or 0)) for i in live)
    taken = memory.total_bytes - memory.available_bytes
    parts = tuple(
        _part(number, instance, state, _on_machine(instance.forecast), instance.measured_bytes)
        for number, instance in _numbered(state)
    )
    use = DeviceUse(
        name="RAM", total=memory.total_bytes, others=max(0, taken - held), parts=_joined(parts)
    )
    room = use.free if memory.budget_bytes is None else max(0, memory.budget_bytes - held)
    wanted = state.settings.memory_budget_bytes
    return replace(
        use,
        kept=max(0, use.free - room),
        budget_set=wanted is not None and wanted == memory.budget_bytes,
    )


def _numbered(state: State) -> list[tuple[int, Instance]]:
    """Instances that are loaded or being loaded, with their number in the table."""
    rows = enumerate(state.instances.values(), 1)
    return [(number, instance) for number, instance in rows if instance.state.live]


def _on_machine(forecast: Forecast | None) -> tuple[int, int, int]:
    """Of a forecast, what goes into the machine's memory: weights, KV cache, the rest."""
    if forecast is None:
        return 0, 0, 0
    weights = forecast.weights_bytes - sum(d.weights_bytes for d in forecast.devices)
    kv = forecast.kv_bytes - sum(d.kv_bytes for d in forecast.devices)
    rest = (forecast.machine_bytes or forecast.total_bytes) - weights - kv
    return max(0, weights), max(0, kv), max(0, rest)


def _gpu(gpu: Gpu, state: State) -> DeviceUse:
    parts = []
    for number, instance in _numbered(state):
        plans = instance.forecast.devices if instance.forecast else ()
        plan = next((d for d in plans if _index(d) == gpu.index), None)
        held = _held_on(instance, plan, plans, only=len(state.memory.gpus) == 1)
        if plan is not None or held:
            items = (plan.weights_bytes, plan.kv_bytes, plan.compute_bytes) if plan else (0, 0, 0)
            parts.append(_part(number, instance, state, items, held))
    total = gpu.total_bytes or 0
    used = gpu.used_bytes if gpu.used_bytes is not None else total - (gpu.free_bytes or total)
    others = max(0, used - sum(part.held for part in parts))
    return DeviceUse(
        name=f"GPU {gpu.index}", total=total, others=others, parts=_joined(parts), gpu=gpu
    )


def _index(device: DeviceBytes) -> int | None:
    """The number at the end of an engine's name of a device: 0 of `CUDA0`."""
    digits = device.name[len(device.name.rstrip("0123456789")) :]
    return int(digits) if digits else None


def _held_on(
    instance: Instance, plan: DeviceBytes | None, plans: Sequence[DeviceBytes], *, only: bool
) -> int | None:
    """What an instance holds on a GPU: its measurement, split as it was planned."""
    measured = instance.gpu_bytes
    if measured is None or only or plan is None:
        return measured if only or plan is not None else None
    whole = sum(device.total_bytes for device in plans)
    return round(measured * plan.total_bytes / whole) if whole else measured


def _part(
    number: int, instance: Instance, state: State, items: tuple[int, int, int], held: int | None
) -> ModelPart:
    """The part of an instance; its measurement is split as its forecast is."""
    expected = sum(items)
    loading = instance.load_s is None
    held = held or (0 if loading else expected)
    weights, kv = (held * item // expected for item in items[:2]) if expected else (held, 0)
    return ModelPart(
        number=str(number),
        name=short_title(instance.model_id, instance.unique, state.models),
        weights=weights,
        kv=kv,
        other=held - weights - kv,
        planned=max(0, expected - held) if loading else 0,
    )


def _joined(parts: Sequence[ModelPart]) -> tuple[ModelPart, ...]:
    """At most `MOST_PARTS` parts: the smallest are joined to one at the end."""
    if len(parts) <= MOST_PARTS:
        return tuple(parts)
    by_size = sorted(parts, key=lambda part: part.held + part.planned, reverse=True)
    large = by_size[: MOST_PARTS - 1]
    small = [part for part in parts if part not in large]
    rest = ModelPart(
        number="…",
        name=f"{len(small)} more",
        weights=sum(part.weights for part in small),
        kv=sum(part.kv for part in small),
        other=sum(part.other for part in small),
        planned=sum(part.planned for part in small),
    )
    return (*(part for part in parts if part in large), rest)


# Cells


def shares(sizes: Sequence[int], cells: int) -> list[int]:
    """Cells for each size, `cells` in all: in proportion, and at least one where there is any.

    >>> shares([70, 20, 10, 0], 10), shares([1, 999], 10), shares([0, 0], 4)
    ([7, 2, 1, 0], [1, 9], [0, 0])
    """
    whole = sum(sizes)
    if not whole or cells <= 0:
        return [0] * len(sizes)
    exact = [size * cells / whole for size in sizes]
    found = [max(1, int(share)) if share else 0 for share in exact]
    while (spare := cells - sum(found)) != 0:
        step = 1 if spare > 0 else -1
        able = [i for i, count in enumerate(found) if sizes[i] and (step > 0 or count > 1)]
        if not able:  # more parts than cells
            last = max(i for i, count in enumerate(found) if count)
            found[last] -= 1
            continue
        found[max(able, key=lambda i: step * (exact[i] - found[i]))] += step
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnGauge:
    """A gauge, and where its parts are in it."""

    line: Text
    places: tuple[tuple[int, int], ...]
    """First cell and width of each model's part."""


def gauge(use: DeviceUse, cells: int, glyphs: Glyphs, inks: ThemeStyles) -> DrawnGauge:
    """A gauge of exactly `cells` cells: others, each model, what is free."""
    bounds = len(use.parts) + 1 if use.parts else 0
    kept = min(use.kept, use.free)
    fixed = bounds + (1 if kept else 0)
    planned = [min(part.planned, use.free) for part in use.parts]
    free = max(0, use.free - kept - sum(planned))
    held = [part.held + more for part, more in zip(use.parts, planned, strict=True)]
    others, *rest = shares([use.others, *held, free, kept], cells - fixed)
    *mine, free_cells, kept_cells = rest
    line = Text().append(glyphs.parts[3] * others, inks.muted)
    places: list[tuple[int, int]] = []
    if use.parts:
        line.append(glyphs.bound, inks.muted)
    for at, (part, width, more) in enumerate(zip(use.parts, mine, planned, strict=True)):
        places.append((len(line), width))
        line.append_text(_model_cells(part, width, more, glyphs, _colour(at, inks)))
        line.append(glyphs.bound, inks.muted)
    line.append(glyphs.free * free_cells, inks.muted)
    if kept:
        line.append(glyphs.reserve + glyphs.free * kept_cells, inks.muted)
    line.append(glyphs.free * (cells - len(line)), inks.muted)
    return DrawnGauge(line=line[:cells], places=tuple(places))


def _colour(at: int, inks: ThemeStyles) -> Style:
    """Neighbours have different colours; NO_COLOR leaves the bounds and numbers."""
    return inks.secondary if at % 2 else inks.primary


def _model_cells(part: ModelPart, width: int, planned: int, glyphs: Glyphs, style: Style) -> Text:
    kinds = [part.weights, part.kv, part.other, planned]
    signs = [*glyphs.parts[:3], glyphs.planned]
    if width < sum(1 for size in kinds if size):  # too narrow to tell them apart
        largest = max(range(len(kinds)), key=lambda i: kinds[i])
        return Text(signs[largest] * width, style)
    counts = shares(kinds, width)
    return Text("".join(sign * n for sign, n in zip(signs, counts, strict=True)), style)


# Lines


def lines(
    state: State, width: int, key: str, glyphs: Glyphs, inks: ThemeStyles, *, low: bool
) -> list[Text]:
    """The gauges of the machine, with the labels of the first above where there is room.

    Args:
        state: What the core tells.
        width: Cells of a line.
        key: The key that sets the budget.
        glyphs: Signs to draw with.
        inks: Colours to draw with.
        low: Whether there is no room for lines without a gauge.
    """
    found = devices(state)
    if not found:
        return [Text("  RAM  not known", inks.muted)]
    found, hidden = found[: MOST_GPUS + 1], len(found) - 1 - MOST_GPUS
    if hidden > 0:
        by_use = sorted(devices(state)[1:], key=lambda use: use.used / use.total, reverse=True)
        found = [use for use in devices(state) if use.name == "RAM" or use in by_use[:MOST_GPUS]]
    wide, short = width >= WIDE, width < SHORT
    names = _names(found, wide=wide)
    start = MARGIN + max(5 * wide, *map(len, names)) + (1 if short or wide else 2)
    figures = [_figure(use, short=short) for use in found]
    room = max(map(len, figures))
    cells = max(8, width - start - (24 if wide else 5 + room))
    drawn = [gauge(use, cells, glyphs, inks) for use in found]
    rows = [
        Text.assemble(
            " " * MARGIN,
            (f"{name:<{start - MARGIN}}", STRONG),
            one.line,
            "  ",
            (f"{figure:>{room}}", _warning(use, inks)),
        )
        for use, name, figure, one in zip(found, names, figures, drawn, strict=True)
    ]
    if low:
        return rows
    rows.insert(0, labels(found[0], drawn[0].places, start, width, key, glyphs, inks))
    return [*rows, _legend(found, hidden, start, cells, glyphs, inks)] if wide else rows


def _names(found: Sequence[DeviceUse], *, wide: bool) -> list[str]:
    """Names of the devices; one GPU needs no number where there is little room."""
    if wide or len(found) > 2:
        return [use.name for use in found]
    return [use.name.split(" ")[0] for use in found]


def _figure(use: DeviceUse, *, short: bool) -> str:
    words = fmt.memory_of(use.used, use.total)
    return words.strip().replace(" of ", "/") if short else words


def _warning(use: DeviceUse, inks: ThemeStyles) -> Style:
    return inks.warning if use.used > LITTLE * use.total else Style.null()


def labels(
    use: DeviceUse,
    places: Sequence[tuple[int, int]],
    start: int,
    width: int,
    key: str,
    glyphs: Glyphs,
    inks: ThemeStyles,
) -> Text:
    """Numbers, names and sizes of the parts of a gauge that begins at the cell `start`."""
    line = Text(" " * start).append(f"others {fmt.gib(use.others)}", inks.muted)
    wide = width >= WIDE
    for named, long in ((True, wide), (False, wide), (False, False)):
        told = _told(use.parts, places, glyphs, inks, named=named)
        right = Text.assemble(_free(use, wide=long), (f" [{key}]", inks.muted))
        room = width - 1 - len(right)
        if len(line) + len(told) + 4 <= room:
            break
    at = start + places[0][0] + 2 if places else 0
    line.append(" " * max(2, min(at, room - 2 - len(told)) - len(line)))
    told.truncate(max(0, room - 2 - len(line)), overflow="ellipsis")
    line.append_text(told)
    line.append(" " * max(2, room - len(line)))
    return line.append_text(right)


def _told(
    parts: Sequence[ModelPart],
    places: Sequence[tuple[int, int]],
    glyphs: Glyphs,
    inks: ThemeStyles,
    *,
    named: bool,
) -> Text:
    told = Text()
    for at, (part, (_, cells)) in enumerate(zip(parts, places, strict=True)):
        told.append(f" {glyphs.dot} " if told else "", inks.muted)
        told.append(part.number, _colour(at, inks))
        if part.number == "…" or (named and cells >= NAMED_FROM):
            told.append(f" {part.name}")
        told.append(f" {fmt.gib(part.held or part.planned)}")
    return told


def _free(use: DeviceUse, *, wide: bool) -> str:
    free = fmt.gib(use.free)
    if use.budget_set:
        left = fmt.gib(max(0, use.free - use.kept))
        return f"free {free}, budget leaves {left} GiB" if wide else f"budget leaves {left} GiB"
    if wide and use.kept:
        return f"free {free}, of it {fmt.gib(use.kept)} stays with the system"
    return f"free {free} GiB"


def _legend(
    found: Sequence[DeviceUse],
    hidden: int,
    start: int,
    cells: int,
    glyphs: Glyphs,
    inks: ThemeStyles,
) -> Text:
    """The GPUs with their load, heat and power at the left, what the signs are at the right."""
    words = gpu_words.about([use.gpu for use in found if use.gpu is not None], glyphs)
    words += f" and {hidden} more" if hidden > 0 else ""
    kinds = ("weights", "KV cache", "compute, projector", "others")
    legend = "  ".join(f"{sign} {kind}" for sign, kind in zip(glyphs.parts, kinds, strict=True))
    end = start + cells + 18
    left = " " * start + fmt.cut(words, max(0, end - start - len(legend) - 2))
    return Text(left + legend.rjust(end - len(left)), inks.muted)


def by_number(state: State) -> Mapping[str, int]:
    """The number of each instance in the table, by its id."""
    return {key: number for number, key in enumerate(state.instances, 1)}
