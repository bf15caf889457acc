"""Rows and texts of the Memory screen. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.style import Style
from rich.text import Text

from modeldeck.core.schema import Gpu, Instance, InstanceState, LoadOptions, LogLine, Memory, Model
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.model_names import title
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import STRONG, bar, fitted, spark
from modeldeck.tui.dashboard.widgets.table import Cell, Column, TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records, sharing
from modeldeck.tui.text.format import Glyphs

BAR = 8
"""Width in cells of the progress bar of a load."""

LABEL = 10
"""Width in cells of the labels of details."""

LITTLE = 0.9
"""Fill from which on a bar is drawn as a warning."""

COLUMNS = (
    Column("sign", "", 1),
    Column("instance", "instance", 16, grow=True),
    Column("engine", "runtime", 9, rank=7),
    Column("context", "ctx", 4, right=True, rank=5),
    Column("parallel", "at once", 7, right=True, rank=8),
    Column("weights", "weights", 7, right=True, rank=8),
    Column("kv", "KV", 5, right=True, rank=9),
    Column("compute", "compute", 7, right=True, rank=10),
    Column("forecast", "forecast", 9, right=True, rank=3),
    Column("measured", "measured", 9, right=True),
    Column("error", "error", 7, right=True, rank=4),
    Column("state", "state", 14, rank=1),
    Column("speed", "tok/s", 6, right=True, rank=6),
)


# The machine


def machine(
    state: State,
    past: Sequence[float | None],
    width: int,
    key: str,
    glyphs: Glyphs,
    inks: ThemeStyles,
) -> list[Text]:
    """Memory, GPUs and the budget for models, one line each; `key` sets the budget.

    `past` is drawn beside the memory; empty where a chart shows it.
    """
    memory = state.memory
    lines = [_ram(memory, past, width, glyphs, inks)]
    lines += (_gpu(gpu, width, glyphs, inks) for gpu in memory.gpus)
    parts = [
        (
            0,
            Text.assemble(
                "budget ",
                (fmt.memory(memory.budget_bytes), STRONG),
                f" for models{_set_budget(state)}",
                (f" [{key}]", inks.muted),
            ),
        ),
        (2, Text(f"others use {fmt.memory(_others(state))}")),
        (1, Text(f"swap {_swap(memory)}")),
    ]
    return [*lines, fitted(parts, width)]


def _set_budget(state: State) -> str:
    """The budget that the user set, which may exceed the memory of the machine."""
    wanted = state.settings.memory_budget_bytes
    if wanted is None:
        return ""
    return ", as set" if wanted == state.memory.budget_bytes else f", {fmt.memory(wanted)} set"


def bar_width(width: int) -> int:
    """Width in cells of the bars."""
    return 30 if width >= 100 else 16 if width >= 70 else 10


def past_width(width: int) -> int:
    """Width in cells of the sparkline beside them."""
    return 24 if width >= 100 else 20 if width >= 70 else 12


def _ram(
    memory: Memory, past: Sequence[float | None], width: int, glyphs: Glyphs, inks: ThemeStyles
) -> Text:
    used = _used(memory)
    parts = [(0, _gauge("RAM", used, memory.total_bytes, width, glyphs, inks))]
    if past:
        parts += [
            (1, spark(past, memory.total_bytes, glyphs, inks)),
            (2, Text("last 10 min", inks.muted)),
        ]
    return fitted(parts, width)


def past_words(past: Sequence[float | None], inks: ThemeStyles) -> Text:
    """Range of past memory use."""
    known = [value for value in past if value is not None]
    least, most = fmt.memory(min(known, default=None)), fmt.memory(max(known, default=None))
    words = Text.assemble(("last 10 min", STRONG), "  in use ")
    return words.append(least if least == most else f"{least} to {most}", inks.muted)


def _gpu(gpu: Gpu, width: int, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    parts = [
        (0, _gauge(f"GPU{gpu.index}", gpu.used_bytes, gpu.total_bytes, width, glyphs, inks)),
        (1, Text(fmt.clean(gpu.name), inks.muted)),
    ]
    return fitted(parts, width)


def _gauge(
    name: str, used: int | None, total: int | None, width: int, glyphs: Glyphs, inks: ThemeStyles
) -> Text:
    fraction = used / total if used is not None and total else None
    style = inks.warning if fraction is not None and fraction > LITTLE else None
    return Text.assemble(
        (f"{name:<5}", STRONG),
        bar(fraction, bar_width(width), glyphs, inks, style),
        f"  {fmt.memory_of(used, total)}",
    )


def _used(memory: Memory) -> int | None:
    if memory.total_bytes is None or memory.available_bytes is None:
        return None
    return memory.total_bytes - memory.available_bytes


def used(memory: Memory) -> float | None:
    """Memory in use by models and other programs, in bytes; None where unknown."""
    return _used(memory)


def _others(state: State) -> int | None:
    """Memory in use by other programs."""
    taken = _used(state.memory)
    if taken is None:
        return None
    # Pages of files that models map are not taken, as the system counts.
    held = sum(
        max(0, (i.measured_bytes or 0) - (i.mapped_bytes or 0))
        for i in state.instances.values()
        if i.state.live
    )
    return max(0, taken - held)


def _swap(memory: Memory) -> str:
    return "0" if memory.swap_used_bytes == 0 else fmt.memory(memory.swap_used_bytes)


def disk(
    state: State, keys: tuple[str, str], glyphs: Glyphs, inks: ThemeStyles, width: int
) -> Text:
    """Disk use of the cache; `keys` are those for listing and pruning it."""
    listed, prune = keys
    models = sum(model.downloaded and not model.local for model in state.models.values())
    cache = f"cache {fmt.size(state.disk.cache_bytes)} in {fmt.number(models, 'model')}"
    parts = [
        (0, Text.assemble(("Disk ", STRONG), cache)),
        (3, Text(f"[{listed} list]", inks.muted)),
        (
            2,
            Text.assemble(
                f"{glyphs.dot} partials {fmt.size(state.disk.partial_bytes)}",
                (f" [{prune} prune]" if state.disk.partial_bytes else "", inks.muted),
            ),
        ),
        (1, Text(f"{glyphs.dot} {fmt.size(state.disk.free_bytes)} free")),
    ]
    return fitted(parts, width, gap=1)


# Instances


def line(
    instance: Instance, models: Mapping[str, Model], glyphs: Glyphs, inks: ThemeStyles
) -> TableLine:
    """One line of the table."""
    forecast = instance.forecast
    total = forecast.total_bytes if forecast else None
    sign, style = _sign(instance, glyphs, inks)
    cells: dict[str, Cell] = {
        "sign": Text(sign, style),
        "instance": title(instance.model_id, instance.unique, models),
        "engine": instance.engine,
        "context": fmt.tokens(instance.context_length),
        "parallel": str(instance.parallel),
        "forecast": fmt.memory(total),
        "measured": fmt.memory(instance.measured_bytes),
        "error": records.error(instance),
        "state": _state(instance, glyphs, inks),
        "speed": _speed(instance.tokens_per_s),
    }
    if forecast is not None:
        parts = (forecast.weights_bytes, forecast.kv_bytes, forecast.compute_bytes)
        items = fmt.memory_items(parts, forecast.total_bytes)
        cells.update(zip(("weights", "kv", "compute"), items, strict=True))
    return TableLine(instance.id, cells, dim=instance.state is InstanceState.STOPPING)


def _sign(instance: Instance, glyphs: Glyphs, inks: ThemeStyles) -> tuple[str, Style]:
    match instance.state:
        case InstanceState.READY:
            return glyphs.loaded, inks.success
        case InstanceState.BUSY | InstanceState.STARTING:
            return glyphs.busy, inks.primary
        case InstanceState.FAILED:
            return glyphs.failed, inks.error
        case _:
            return glyphs.dot, inks.muted


def _state(instance: Instance, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    match instance.state:
        case InstanceState.STARTING if instance.progress is not None:
            shape = bar(instance.progress, BAR, glyphs, inks)
            return shape.append(f" {fmt.percent(instance.progress):>5}")
        case InstanceState.STARTING:
            return Text(fmt.clean(instance.stage or "starting"), inks.primary)
        case InstanceState.BUSY:
            waiting = instance.requests - 1
            words = f"busy, {waiting} waiting" if waiting > 0 else "busy"
            return Text(words + _pin(instance), inks.primary)
        case InstanceState.READY:
            idle = "idle" if instance.idle_s is None else f"idle {fmt.span(instance.idle_s)}"
            return Text(idle + _pin(instance))
        case InstanceState.STOPPING:
            return Text("unloading", inks.muted)
        case _:
            return Text(str(instance.state), inks.error)


def _pin(instance: Instance) -> str:
    return " pin" if instance.options.pinned else ""


def _speed(tokens_per_s: float | None) -> str:
    if tokens_per_s is None:
        return fmt.UNKNOWN
    return f"{tokens_per_s:.{0 if tokens_per_s >= 99.95 else 1}f}"


# One instance in full


def facts(
    instance: Instance, past: Sequence[float | None], glyphs: Glyphs, inks: ThemeStyles
) -> list[Text]:
    """Details of an instance: options, memory and history, or its error."""
    dot = f" {glyphs.dot} "
    about = [instance.engine, f"{fmt.tokens(instance.context_length)} context"]
    if words := sharing.shared_briefly(
        instance.parallel, instance.context_length, instance.cache_tokens
    ):
        about.append(words)
    if instance.pid is not None:
        about.append(f"pid {instance.pid}")
    if instance.restarts:
        about.append(f"restarted {fmt.number(instance.restarts, 'time')} after a crash")
    if instance.load_s is not None:
        about.append(f"loaded in {fmt.duration(instance.load_s)}")
    if instance.time_to_first_token_s is not None:
        about.append(f"first token after {fmt.duration(instance.time_to_first_token_s)}")
    rows = [Text(fmt.clean(instance.unique), STRONG)]
    if instance.error is not None:
        words = f"{instance.error.message} {instance.error.remedy}".strip()
        rows.append(Text(fmt.clean(words), inks.error))
    else:
        rows += _measured(instance, past, dot, glyphs, inks)
    if instance.forecast is not None:
        rows.append(_row("forecast", records.items(instance.forecast), inks))
        if words := records.on_gpu(instance.forecast):
            rows.append(_row("", words, inks))
        rows.append(_row("", records.basis(instance.forecast), inks))
        if words := sharing.prefix_cache(instance.forecast, instance.prefix_cache_bytes):
            rows.append(_row("", words, inks))
    rows += (_row("note", fmt.clean(words), inks) for words in instance.warnings)
    rows.append(_row("engine", fmt.clean(dot.join(about)), inks))
    rows.append(_row("options", dot.join(options(instance.options)) or "defaults", inks))
    return rows


def _measured(
    instance: Instance, past: Sequence[float | None], dot: str, glyphs: Glyphs, inks: ThemeStyles
) -> list[Text]:
    figures = [
        f"{fmt.memory(instance.measured_bytes)} now",
        f"{fmt.memory(instance.private_bytes)} its own",
        f"{fmt.memory(instance.peak_bytes)} at most",
    ]
    if instance.mapped_bytes is not None:
        figures.insert(2, f"{fmt.memory(instance.mapped_bytes)} pages of files")
    if instance.gpu_bytes is not None:
        figures.insert(2, f"{fmt.memory(instance.gpu_bytes)} on the GPU")
    shape = spark(past, _ceiling(instance), glyphs, inks)
    return [
        _row("measured", dot.join(figures), inks),
        _row("history", Text.assemble(shape, ("  last 10 min", inks.muted)), inks),
    ]


def _row(label: str, value: str | Text, inks: ThemeStyles) -> Text:
    return Text.assemble((f"{label:<{LABEL}}", inks.muted), value)


def _ceiling(instance: Instance) -> float | None:
    known = (instance.measured_bytes, instance.forecast and instance.forecast.total_bytes)
    return max((value for value in known if value), default=None)


def options(given: LoadOptions) -> list[str]:
    """Load options that were set explicitly."""
    words: list[tuple[str, object]] = [
        ("GPU layers", "all" if given.gpu_layers == -1 else given.gpu_layers),
        ("KV cache", given.kv_cache_type),
        ("flash attention", _on(given.flash_attention)),
        ("threads", given.threads),
        ("batch", given.batch_size),
        ("mmap", _on(given.mmap)),
        ("mlock", _on(given.mlock)),
    ]
    said = [f"{name} {value}" for name, value in words if value is not None]
    if given.embedding:
        said.append("for embeddings")
    if given.idle_ttl_s:
        said.append(f"unloaded after {fmt.duration(given.idle_ttl_s)} idle")
    if given.pinned:
        said.append("pinned")
    return said


def _on(flag: bool | None) -> str | None:
    return None if flag is None else "on" if flag else "off"


def log(lines: Sequence[LogLine], inks: ThemeStyles) -> list[Text]:
    """The last log lines of an engine."""
    styles = {"error": inks.error, "warning": inks.warning}
    return [
        Text.assemble(
            (f"{line.at[11:19]}  ", inks.muted), (fmt.clean(line.text), styles.get(line.level, ""))
        )
        for line in lines
    ]
