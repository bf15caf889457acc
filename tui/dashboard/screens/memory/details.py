"""One instance in full: its memory, options, slots and log. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from modeldeck.core.schema import Instance, LoadOptions, LogLine, RequestInfo
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import STRONG, spark
from modeldeck.tui.text import forecasts, sharing
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import requests as request_text
from modeldeck.tui.text.format import Glyphs

LABEL = 10
"""Width in cells of the labels."""


def facts(
    instance: Instance,
    past: Sequence[float | None],
    requests: Sequence[RequestInfo],
    own: str,
    glyphs: Glyphs,
    inks: ThemeStyles,
) -> list[Text]:
    """Details of an instance: options, memory, history and slots, or its error.

    `requests` are those to it, `own` is the id of this front end.
    """
    dot = f" {glyphs.dot} "
    about = [instance.engine, f"{fmt.tokens(instance.context_length)} context"]
    if words := sharing.shared_briefly(
        instance.parallel, instance.context_length, instance.cache_tokens
    ):
        about.append(words)
    if instance.pid is not None:
        about.append(f"pid {instance.pid}")
    if instance.restarts:
        times = "once" if instance.restarts == 1 else f"{instance.restarts} times"
        about.append(f"restarted {times} after a crash")
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
        rows.append(_row("forecast", forecasts.items(instance.forecast), inks))
        if words := forecasts.on_gpu(instance.forecast):
            rows.append(_row("", words, inks))
        rows.append(_row("", forecasts.basis(instance.forecast), inks))
        if words := sharing.prefix_cache(instance.forecast, instance.prefix_cache_bytes):
            rows.append(_row("", words, inks))
    rows += (_row("note", fmt.clean(words), inks) for words in instance.warnings)
    rows.append(_row("engine", fmt.clean(dot.join(about)), inks))
    rows.append(_row("options", dot.join(options(instance.options)) or "defaults", inks))
    said = slots(instance, requests, own)
    rows += (_row("" if at else "slots", words, inks) for at, words in enumerate(said))
    return rows


def slots(instance: Instance, requests: Sequence[RequestInfo], own: str) -> list[str]:
    """Who has which slot of the engine, and what the free ones keep; empty where not known."""
    held = {info.slot: info for info in requests if info.live and info.slot is not None}
    said = []
    for number, use in enumerate(instance.slots):
        if (info := held.get(number)) is not None:
            tokens = (info.prompt_read or 0) + (info.completion_tokens or 0)
            room = fmt.tokens(instance.context_length)
            words = f"{request_text.who(info, own)}  {request_text.count(tokens)} of {room}"
        elif use.busy:
            words = use.who
        elif use.tokens:
            words = f"free, keeps {request_text.count(use.tokens)} of {use.who}"
        else:
            words = "free"
        said.append(fmt.clean(f"{number + 1}  {words}"))
    return said


def _measured(
    instance: Instance, past: Sequence[float | None], dot: str, glyphs: Glyphs, inks: ThemeStyles
) -> list[Text]:
    of_it = [
        f"{fmt.memory(count)} {words}"
        for count, words in (
            (instance.private_bytes, "private"),
            (instance.mapped_bytes, "file cache"),
        )
        if count is not None
    ]
    figures = [fmt.memory(instance.measured_bytes) + (f" ({', '.join(of_it)})" if of_it else "")]
    if instance.gpu_bytes is not None:
        figures.append(f"{fmt.memory(instance.gpu_bytes)} on the GPU")
    figures.append(f"peak {fmt.memory(instance.peak_bytes)}")
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
        ("vision", _on(given.vision)),
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
